"""One small call: what it takes beyond the run, against a bare echo of as many bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np
from tests.benchmarks import models
from tests.benchmarks.echo import echoing
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved
from tests.benchmarks.limit import Exposed
from tests.benchmarks.serving import over_tcp, serving

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import tensor_pb2 as tensor_pb

_WORK = "one small call, latency added to the run in process, against a bare gRPC echo of the same bytes"
_MEDIAN = Figure("small-call-median", f"{_WORK}, median", 1.8)
_P99 = Figure("small-call-p99", "the same, p99", 2.5)
_AT = "relu3"
_BLOCK = 120
_SETTLING = 20
_CAPTURE = "/onnxscope.v1.CaptureService/Capture"


def _small_call(bench: Bench) -> list[Outcome]:
    path = models.digits()
    feeds = {"image": np.random.default_rng(0).random((1, 1, 8, 8), np.float32)}
    limit = Exposed(path, [_AT])
    with serving() as server, over_tcp(server.target) as scope:
        model = scope.load(path)
        sent, received = _sizes(server.target, model.digest, feeds["image"])
        payload = bytes(sent)
        with echoing(received) as echo:
            found = interleaved(
                {
                    "run": _block(lambda: limit.run(feeds)),
                    "capture": _block(lambda: model.capture(feeds, at=_AT, outputs="instrumented")),
                    "echo": _block(lambda: echo(payload)),
                },
                rounds=bench.rounds(28, 21),
            )
    note = f"{sent} bytes there, {received} back; {len(found['run']) * (_BLOCK - _SETTLING):,} calls of each"
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


def _sizes(target: str, digest: str, image: np.ndarray) -> tuple[int, int]:
    """Returns the bytes of the messages that a capture sends and receives, asked as the protocol says."""
    spec = capture_pb.CaptureSpec(model=digest, selectors=[_AT], outputs=capture_pb.OUTPUT_MODE_INSTRUMENTED)
    array = tensor_pb.ArrayLayout(data_type=tensor_pb.DATA_TYPE_FLOAT32, shape=image.shape, byte_count=image.nbytes)
    layout = tensor_pb.ValueLayout(array=array)
    start = tensor_pb.ValueStart(role=tensor_pb.VALUE_ROLE_INPUT, name="image", layout=layout, data=image.tobytes())
    request = capture_pb.CaptureRequest(spec=spec, inputs=[tensor_pb.ValuePart(start=start)]).SerializeToString()
    with grpc.insecure_channel(target) as channel:
        answers = list(channel.stream_stream(_CAPTURE)(iter([request])))
    return len(request), sum(map(len, answers))


MEASUREMENTS = (Measurement((_MEDIAN, _P99), _small_call),)
