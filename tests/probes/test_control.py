"""Types of the control task that are clusters of the raw input."""

from __future__ import annotations

import numpy as np

from onnxscope_server.probes import control
from onnxscope_server.probes.array_rows import in_memory


def test_inputs_that_repeat_are_as_many_types_as_differ(recwarn):
    """Positions of one row share its raw input: asking for more clusters than there are inputs is a warning a fit."""
    raw = in_memory(np.repeat(np.eye(3, dtype=np.float32), 40, axis=0))
    types = control.clusters(raw, np.arange(120), 0)
    assert len(np.unique(types)) == 3
    assert len(np.unique(types[::40])) == 3
    assert not recwarn.list


def test_inputs_that_are_all_the_same_are_one_type(recwarn):
    """And nothing is said of it but by the control task itself."""
    types = control.clusters(in_memory(np.ones((50, 2), np.float32)), np.arange(50), 0)
    assert len(np.unique(types)) == 1
    assert not recwarn.list
