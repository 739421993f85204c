"""Tests of where the activations of a pass are kept."""

from functools import partial

import numpy as np
import pytest

from onnxscope_server.pipeline.probing.gathering import Gathering
from onnxscope_server.store.activations import ActivationStore


@pytest.mark.parametrize("memory_bytes", [1 << 20, 0])
def test_nothing_of_the_runs_memory_is_held(tmp_path, memory_bytes):
    """Activations lie in memory that a run uses again; what was put stays what it was, in memory and in a store."""
    gathering = Gathering(memory_bytes, partial(ActivationStore, tmp_path / "s", "d", 1 << 20), durable=False)
    lent = np.ones((4, 3), np.float32)
    gathering.put(0, "0", {"h": lent[:]})
    lent[:] = 0
    gathering.finish(1)
    try:
        np.testing.assert_array_equal(gathering.rows("h").take(np.arange(4)), np.ones((4, 3)))
    finally:
        gathering.close(keep=False)
