"""One hook point at a quarter of the depth: what lies behind it is not computed."""

from __future__ import annotations

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved, timed
from tests.benchmarks.limit import plain
from tests.benchmarks.serving import serving

import onnxscope

_QUARTER = Figure(
    "quarter-depth",
    "one hook point at 25 % of the depth (ResNet50, its 12th ReLU of 49), against the full model",
    0.33,
    reached=0.4,
)


def _quarter(bench: Bench) -> list[Outcome]:
    path = models.resnet50(bench)
    feeds = {"gpu_0/data_0": np.random.default_rng(0).random((1, 3, 224, 224), np.float32)}
    with serving() as server, onnxscope.connect(server.target) as scope:
        model = scope.load(path)
        relus = model.hook_points("op:Relu", batch_axes=False)
        at = relus[len(relus) // 4 - 1].address
        full = plain(path)
        found = interleaved(
            {
                "onnxruntime": timed(lambda: full.run(None, feeds)),
                "full": timed(lambda: model.run(feeds)),
                "quarter": timed(lambda: model.capture(feeds, at=at, outputs=False)),
            },
            rounds=bench.rounds(31, 15),
        )
    sides = (
        Side("full model, onnxruntime in process", "limit", Spread.of(found["onnxruntime"])),
        Side("one hook point", "onnxscope", Spread.of(found["quarter"])),
        Side("full model", "onnxscope", Spread.of(found["full"])),
    )
    against_own = Spread.of_ratios(found["quarter"], found["full"]).median
    note = f"against the full run through onnxscope: {against_own:.2f}"
    return [Measured(_QUARTER, Spread.of_ratios(found["quarter"], found["onnxruntime"]), sides, note)]


MEASUREMENTS = (Measurement((_QUARTER,), _quarter),)
