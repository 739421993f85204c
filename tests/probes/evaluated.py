"""Probes that are evaluated, and data of which the truth is known."""

import numpy as np

from onnxscope_server.probe_domain import Labels, ProbeKind, ProbeSpec
from onnxscope_server.probes import kinds
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.evaluate import evaluate


def evaluated(activations, y, *, kind=ProbeKind.LOGISTIC, raw=None, types=None, shuffled=None, **options):
    """Evaluates a probe; options are those of ProbeSpec and of Labels."""
    given = {name: options.pop(name) for name in ("row", "groups", "weights", "test") if name in options}
    row = given.pop("row", np.arange(len(activations)))
    stopped, told = options.pop("stopped", lambda: False), options.pop("told", [])
    spec = ProbeSpec("p", kind, **options)
    task = kinds.task_of(kind, y) if spec.task is None else spec.task
    return evaluate(
        spec,
        Labels(y, row, **given),
        in_memory(activations),
        learner=kinds.learner(kind, task, spec.params, spec.class_weight, spec.seed),
        raw=None if raw is None else in_memory(raw),
        types=types,
        shuffled=None if shuffled is None else in_memory(shuffled),
        tell=told.append,
        stopped=stopped,
    )


def feature(count=400, seed=0):
    """A feature, activations that hold it linearly, and activations that hold nothing."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, count)
    noise = generator.normal(size=(count, 8)).astype(np.float32)
    held = noise.copy()
    held[:, 0] += 4 * y
    return y, held, noise
