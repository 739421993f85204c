"""Everything that a speech synthesiser computes, captured: what the server holds then, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, NotMeasured, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved
from tests.benchmarks.serving import serving

import onnxscope

_MEMORY = Figure(
    "kokoro-memory",
    "kokoro, everything captured to the client: peak of a fresh server against a fresh server's plain run",
    1.5,
)
_TIME = Figure("kokoro-time", "the same, time", 5.0)
_TOKENS = 64
# a repetition takes tens of seconds
_ROUNDS = 3


def _kokoro(bench: Bench) -> list[Outcome]:
    path = models.kokoro(bench)
    if path is None:
        reason = "the model could not be fetched"
        return [NotMeasured(figure, reason, is_failure=True) for figure in (_MEMORY, _TIME)]
    feeds = {
        "tokens": np.random.default_rng(0).integers(1, 100, (1, _TOKENS)),
        "style": np.random.default_rng(1).normal(0, 0.3, (1, 256)).astype(np.float32),
        "speed": np.ones(1, np.float32),
    }
    captured = [0]

    def everything(model: onnxscope.Model) -> None:
        arriving = model.capture_iter(feeds, at="*", outputs="instrumented")
        captured[0] = sum(getattr(value, "nbytes", 0) for _, value in arriving)

    def fresh(work: Callable[[onnxscope.Model], object]) -> tuple[float, int]:
        with serving() as server, onnxscope.connect(server.target) as scope:
            model = scope.load(path)
            start = time.perf_counter()
            work(model)
            return time.perf_counter() - start, server.process.peak()

    found = interleaved(
        {"run": lambda: fresh(lambda model: model.run(feeds)), "capture": lambda: fresh(everything)},
        rounds=_ROUNDS,
        warmups=0,
    )
    run_seconds, run_peaks = zip(*found["run"], strict=True)
    seconds, peaks = zip(*found["capture"], strict=True)
    note = f"{_ROUNDS} repetitions; {_TOKENS} tokens, {captured[0] / 1e9:.2f} GB captured; times are of first calls"
    memory = (
        Side("fresh server, plain run", "limit", Spread.of(run_peaks), "B"),
        Side("fresh server, everything", "onnxscope", Spread.of(peaks), "B"),
    )
    times = (
        Side("fresh server, plain run", "limit", Spread.of(run_seconds)),
        Side("fresh server, everything", "onnxscope", Spread.of(seconds)),
    )
    return [
        Measured(_MEMORY, Spread.of_ratios(peaks, run_peaks), memory, note),
        Measured(_TIME, Spread.of_ratios(seconds, run_seconds), times, note),
    ]


MEASUREMENTS = (Measurement((_MEMORY, _TIME), _kokoro, needs="a model that is fetched"),)
