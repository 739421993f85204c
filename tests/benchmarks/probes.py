"""Linear probes that run with a model: what they add to its time, and what crosses the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved, timed
from tests.benchmarks.serving import serving
from tests.served_probes import NONE, Array, Keeper, Linear

import onnxscope
from onnxscope.encode import SentValue, capture_requests
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import tensor_pb2

_ONE = {
    name: Figure(f"one-probe-{name}", f"{what} with a grafted linear probe, against without", 1.05)
    for name, what in (("bert", "transformer of 226 MB"), ("cnn", "ResNet50"))
}
_TEN = {name: Figure(f"ten-probes-{name}", "the same with ten probes", 1.15) for name in ("bert", "cnn")}
_WIRE = Figure(
    "probe-bytes", "KB a row that cross the wire where a probe is all that is asked for (ResNet50)", 1.0, slack=0
)
_COUNT = 10
_MEAN = capture_pb.Reduction(kind=capture_pb.REDUCTION_KIND_MEAN)


def _bert(bench: Bench) -> Sequence[Outcome]:
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 128, 768), np.float32)}
    points = [f"layer{layer}/norm2/shifted" for layer in range(8)] + ["layer2/norm1/shifted", "layer5/norm1/shifted"]
    return _against_without(bench, "bert", models.bert(bench), feeds, dict.fromkeys(points, 768))


def _cnn(bench: Bench) -> Sequence[Outcome]:
    path = models.resnet50(bench)
    with onnxscope.local() as scope:
        relus = scope.load(path).hook_points("op:Relu", batch_axes=False)
    chosen = relus[4::5][-_COUNT:]
    return _against_without(bench, "cnn", path, _image(), {point.address: _channels(point) for point in chosen})


def _channels(point: onnxscope.HookPoint) -> int:
    assert point.shape is not None
    return int(point.shape[1] or 0)


def _image() -> dict[str, Array]:
    return {"gpu_0/data_0": np.random.default_rng(0).random((1, 3, 224, 224), np.float32)}


def _against_without(
    bench: Bench, name: str, path: Path, feeds: Mapping[str, Array], features: Mapping[str, int]
) -> Sequence[Outcome]:
    with serving() as server, onnxscope.connect(server.target) as scope:
        keeper = Keeper(scope, scope.load(path).digest, server.target)
        for address, count in features.items():
            keeper.bring_in(f"p/{address}", Linear.drawn(count).onnx(), address, _MEAN)
        names = [f"p/{address}" for address in features]
        middle = names[len(names) // 2]
        found = interleaved(
            {
                "none": timed(lambda: keeper.run(feeds)),
                "one": timed(lambda: keeper.run(feeds, middle)),
                "ten": timed(lambda: keeper.run(feeds, *names)),
            },
            rounds=bench.rounds(31, 15),
        )
        blocked = [keeper.run(feeds, *some).fidelity.fusion_blocked for some in ([middle], names)]
    without = Side("without", "limit", Spread.of(found["none"]))
    note = "a fusion was blocked, so that the model ran twice" if any(blocked) else ""
    return [
        Measured(
            figure[name],
            Spread.of_ratios(found[which], found["none"]),
            (without, Side(f"with {which}", "onnxscope", Spread.of(found[which]))),
            note,
        )
        for figure, which in ((_ONE, "one"), (_TEN, "ten"))
    ]


def _wire(bench: Bench) -> Sequence[Outcome]:
    with serving() as server, onnxscope.connect(server.target) as scope:
        model = scope.load(models.resnet50(bench))
        point = model.hook_points("op:Relu", batch_axes=False)[-1]
        keeper = Keeper(scope, model.digest, server.target)
        keeper.bring_in("p", Linear.drawn(_channels(point), 10).onnx(), point.address, _MEAN)
        values = [SentValue(tensor_pb2.VALUE_ROLE_INPUT, name, value) for name, value in _image().items()]
        requests = list(capture_requests(keeper.spec(["p"], outputs=NONE), values))
        with grpc.insecure_channel(server.target) as channel:
            call = channel.stream_stream("/onnxscope.v1.CaptureService/Capture")
            size = sum(len(response) for response in call(iter(requests)))
    return [Measured(_WIRE, Spread.of([size / 1000]), (), f"{size} bytes: labels, scores of 10 classes, and the plan")]


MEASUREMENTS = (
    Measurement((_ONE["bert"], _TEN["bert"]), _bert),
    Measurement((_ONE["cnn"], _TEN["cnn"]), _cnn),
    Measurement((_WIRE,), _wire),
)
