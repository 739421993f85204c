"""One small call: what it takes beyond the run, against a bare echo of as many bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np
from tests.benchmarks import models, protocol
from tests.benchmarks.echo import echoing
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved
from tests.benchmarks.limit import Exposed
from tests.benchmarks.serving import over_tcp, serving

_WORK = "one small call, latency added to the run in process, against a bare gRPC echo of the same bytes"
_MEDIAN = Figure("small-call-median", f"{_WORK}, median", 1.8, reached=2.0)
_P99 = Figure("small-call-p99", "the same, p99", 2.5, reached=4.0)
_BLOCK = 120
_SETTLING = 20


def _small_call(bench: Bench) -> list[Outcome]:
    path = models.digits()
    feeds = {"image": protocol.image()}
    limit = Exposed(path, [protocol.AT])
    with serving() as server, over_tcp(server.target) as scope:
        model = scope.load(path)
        payload = protocol.request(model.digest)
        received = _answer_bytes(server.target, payload)
        with echoing(received) as echo:
            found = interleaved(
                {
                    "run": _block(lambda: limit.run(feeds)),
                    "capture": _block(lambda: model.capture(feeds, at=protocol.AT, outputs="instrumented")),
                    "echo": _block(lambda: echo(payload)),
                },
                rounds=bench.rounds(28, 21),
            )
    note = f"{len(payload)} bytes there, {received} back; {len(found['run']) * (_BLOCK - _SETTLING):,} calls of each"
    return [_quantile(_MEDIAN, found, 50, note), _quantile(_P99, found, 99, note)]


def _block(call: Callable[[], object]) -> Callable[[], list[float]]:
    """Returns a contender that takes the seconds of many calls; the first of them find cold caches."""

    def measure() -> list[float]:
        seconds = []
        for _ in range(_BLOCK):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds[_SETTLING:]

    return measure


def _quantile(figure: Figure, found: dict[str, list[list[float]]], percent: int, note: str) -> Outcome:
    """Sums up: the ratio over all calls, between the quartiles of those over each seventh of the blocks."""

    def of(blocks: dict[str, Sequence[list[float]]]) -> dict[str, float]:
        return {name: float(np.percentile(np.concatenate(items), percent)) for name, items in blocks.items()}

    def ratio(blocks: dict[str, Sequence[list[float]]]) -> float:
        seconds = of(blocks)
        return (seconds["capture"] - seconds["run"]) / seconds["echo"]

    parts = [{name: items[part::7] for name, items in found.items()} for part in range(7)]
    spread = Spread.of([ratio(part) for part in parts])
    pooled = {name: [of(part)[name] for part in parts] for name in found}
    sides = (
        Side("onnxruntime in process", "limit", Spread.of(pooled["run"])),
        Side("gRPC echo", "limit", Spread.of(pooled["echo"])),
        Side("capture", "onnxscope", Spread.of(pooled["capture"])),
    )
    return Measured(figure, Spread(spread.low, ratio(found), spread.high, spread.count), sides, note)


def _answer_bytes(target: str, request: bytes) -> int:
    """Returns the bytes of the message that answers a request."""
    with grpc.insecure_channel(target) as channel:
        return len(channel.unary_unary(protocol.METHOD)(request))


MEASUREMENTS = (Measurement((_MEDIAN, _P99), _small_call),)
