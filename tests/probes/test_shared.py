"""Tests of what evaluations of several hook points have in common."""

import numpy as np
import pytest

from onnxscope_server.probe_domain import Labels, ProbeKind, ProbeSpec, Task
from onnxscope_server.probes import evaluate, kinds
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.shared import Shared


def test_what_raises_is_measured_again():
    """The next one may have more luck, and what was found stays."""
    shared, tries = Shared(), []

    def measure():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("no luck")
        return len(tries)

    with pytest.raises(ValueError, match="no luck"):
        shared.once("a", measure)
    assert [shared.once("a", measure) for _ in range(3)] == [2, 2, 2]


def test_the_raw_input_is_probed_once_however_many_hook_points_there_are():
    """Score, notes and clusters of the input are the same at each; reports are those of evaluations of their own."""
    generator = np.random.default_rng(0)
    raw = generator.normal(size=(120, 3)).astype(np.float32)
    labels = Labels((raw[:, 0] > 0).astype(np.int64), np.arange(120))
    layers = [in_memory(raw @ generator.normal(size=(3, 4)).astype(np.float32)) for _ in range(3)]
    looked = []

    class Counted:
        """Rows that tell when they are read."""

        shape = raw.shape

        def take(self, examples):
            looked.append(len(examples))
            return raw[examples]

        def blocks(self, examples, size):
            yield self.take(examples)

    def reported(layer, shared):
        spec = ProbeSpec("p")
        learner = kinds.learner(ProbeKind.LOGISTIC, Task.CLASSES, {}, None, 0)
        return evaluate.evaluate(
            spec,
            labels,
            layer,
            learner=learner,
            raw=Counted(),
            types=None,
            shuffled=None,
            tell=lambda _: None,
            stopped=lambda: False,
            shared=shared,
        )[1]

    shared = Shared()
    together = [reported(layer, shared) for layer in layers]
    once = len(looked)
    assert [reported(layer, None) for layer in layers] == together
    assert len(looked) == 4 * once
