"""Activations that are larger than memory: how much does learning from them take?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Spread
from tests.benchmarks.process import Process

from onnxscope_server.probe_domain import ProbeKind, Task
from onnxscope_server.probes import batches
from onnxscope_server.store.activations import ActivationStore

_MIB = 1 << 20
_ROWS, _FEATURES = 1_000_000, 768
_BATCH_ROWS = 5_000
_BLOCK_BYTES = 64 * _MIB
_CLASSES = 4
_MEMORY = Figure(
    "probe-memory",
    f"{_ROWS:,} rows of {_FEATURES} features go through the store into ridge and logistic regression: peak of resident "
    "memory",
    1024.0,
    unit="MiB",
    slack=0.0,
)


def _probe_memory(_bench: Bench) -> list[Outcome]:
    command = [sys.executable, "-m", "tests.benchmarks.probe_memory", str(_ROWS), str(_FEATURES), str(_BLOCK_BYTES)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    note = (
        f"{told['before'] / _MIB:.0f} MiB before; wrote in {told['write']:.0f} s, ridge {told['ridge']:.0f} s, "
        f"logistic {told['logistic']:.0f} s in {told['steps']:.0f} steps"
    )
    return [Measured(_MEMORY, Spread.of([told["peak"] / _MIB]), (), note)]


def learned(rows: int, features: int, block_bytes: int, folder: Path) -> dict[str, float]:
    """Writes activations into a store and learns from them.

    Returns:
        Bytes that were resident before and at the peak, and seconds and steps that it took.
    """
    random = np.random.default_rng(0)
    directions = random.normal(size=(features, _CLASSES)).astype(np.float32)
    told = {"before": float(Process().peak())}
    store = ActivationStore(folder / "store", "spec", 2 * rows * features * 4, shard_bytes=block_bytes)
    labels = []
    start = time.monotonic()
    for index in range(rows // _BATCH_ROWS):
        batch = random.standard_normal((_BATCH_ROWS, features), np.float32)
        noise = random.standard_normal((_BATCH_ROWS, _CLASSES), np.float32) * features**0.5
        labels.append((batch @ directions + noise).argmax(axis=1))
        store.put(index, str(index), {"h": batch})
    stored = store.rows("h")
    told["write"] = time.monotonic() - start
    y = np.concatenate(labels)
    chosen = random.permutation(len(y))[: len(y) * 7 // 10]  # training rows are drawn at random
    for kind in (ProbeKind.RIDGE, ProbeKind.LOGISTIC):
        start = time.monotonic()
        fitted = batches.learner(kind, Task.CLASSES, {}, None, 0, block_bytes).fit(stored, chosen, y[chosen], None)
        told[kind.value] = time.monotonic() - start
    told["steps"] = float(fitted.estimator.n_iter_[0])
    told["peak"] = float(Process().peak())
    store.delete()
    return told


MEASUREMENTS = (Measurement((_MEMORY,), _probe_memory, needs="3 GB of disk"),)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as _folder:
        print(json.dumps(learned(*map(int, sys.argv[1:4]), Path(_folder))))
