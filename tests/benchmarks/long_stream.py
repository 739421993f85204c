"""A stream that does not end: does the server or the client grow?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.process import Process
from tests.benchmarks.serving import serving

import onnxscope

_MIB = 1 << 20
# what an allocator may still take for the same work
_NOISE_MIB = 2.0
_GROWTH = Figure(
    "stream-memory",
    "10,000 batches streamed, growth of resident memory after the first 500 (none: less than 2 MiB), of server or "
    "client",
    _NOISE_MIB,
    unit="MiB",
)
_SETTLED = 500
_ROWS = 8


def _stream_memory(bench: Bench) -> list[Outcome]:
    batches = 3_000 if bench.short else 10_000
    with serving() as server:
        command = [sys.executable, "-m", "tests.benchmarks.long_stream", server.target, str(server.pid), str(batches)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    held = json.loads(done.stdout)
    growth = {name: (after - before) / _MIB for name, (before, after) in held.items()}
    sides = tuple(
        Side(f"{name} after {count:,}", "onnxscope", Spread.of([value]), "B")
        for name, values in held.items()
        for count, value in zip((_SETTLED, batches), values, strict=True)
    )
    note = ", ".join(f"{name} {mib:+.2f} MiB" for name, mib in growth.items()) + f" in {batches:,} batches"
    return [Measured(_GROWTH, Spread.of([max(growth.values())]), sides, note)]


def _stream(target: str, pid: int, count: int) -> dict[str, tuple[int, int]]:
    """Streams, and returns what server and client held after the first batches and after the last."""
    watched = {"server": Process(pid), "client": Process()}
    batch = np.random.default_rng(0).random((_ROWS, 1, 8, 8), np.float32)

    def batches() -> Iterator[np.ndarray]:
        for _ in range(count):
            yield batch

    settled: dict[str, int] = {}
    with onnxscope.connect(target) as scope:
        model = scope.load(models.digits())
        for done, _ in enumerate(model.stream(batches(), at="*", outputs="instrumented"), start=1):
            if done == _SETTLED:
                settled = {name: process.resident() for name, process in watched.items()}
        return {name: (settled[name], process.resident()) for name, process in watched.items()}


MEASUREMENTS = (Measurement((_GROWTH,), _stream_memory),)

if __name__ == "__main__":
    print(json.dumps(_stream(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
