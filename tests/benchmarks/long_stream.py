"""A stream that does not end: does the server or the client grow?"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.process import Process
from tests.benchmarks.serving import serving

import onnxscope

_MIB = 1 << 20
# by so much the client goes up and down, also over 60,000 batches, at the end of which it is where it was
_NOISE_MIB = 4.0
_BATCHES = 10_000
_GROWTH = Figure(
    "stream-memory",
    f"{_BATCHES:,} batches streamed, growth of resident memory after the first 500, of server or client (none: less "
    "than 4 MiB)",
    _NOISE_MIB,
    unit="MiB",
    # a few MiB more on a busy machine, and none of them later
    slack=1.0,
)
_SETTLED = 500
_EVERY = 25
_ROWS = 8


def _stream_memory(bench: Bench) -> list[Outcome]:
    with serving() as server:
        command = [sys.executable, "-m", "tests.benchmarks.long_stream", server.target, str(server.pid), str(_BATCHES)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    held: dict[str, list[int]] = json.loads(done.stdout)
    growth, sides = {}, []
    for name, samples in held.items():
        quarter = len(samples) // 4
        early, late = Spread.of(samples[:quarter]), Spread.of(samples[-quarter:])
        growth[name] = (late.median - early.median) / _MIB
        sides += [Side(f"{name} at first", "onnxscope", early, "B"), Side("at last", "onnxscope", late, "B")]
    note = (
        ", ".join(f"{name} {mib:+.2f} MiB" for name, mib in growth.items())
        + f": medians of the first and of the last quarter of {_BATCHES - _SETTLED:,} batches"
    )
    return [Measured(_GROWTH, Spread.of([max(growth.values())]), tuple(sides), note)]


def _stream(target: str, pid: int, count: int) -> dict[str, list[int]]:
    """Streams, and returns what server and client held now and then, after the first batches."""
    watched = {"server": Process(pid), "client": Process()}
    held: dict[str, list[int]] = {name: [] for name in watched}
    batch = np.random.default_rng(0).random((_ROWS, 1, 8, 8), np.float32)
    with onnxscope.connect(target) as scope:
        model = scope.load(models.digits())
        for done, _ in enumerate(model.stream(itertools.repeat(batch, count), at="*", outputs="instrumented"), start=1):
            if done >= _SETTLED and done % _EVERY == 0:
                for name, process in watched.items():
                    held[name].append(process.resident())
    return held


MEASUREMENTS = (Measurement((_GROWTH,), _stream_memory),)

if __name__ == "__main__":
    print(json.dumps(_stream(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
