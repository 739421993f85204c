"""Plans on a model that is loaded: what the first call of a new one takes, and what ten of them hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved, timed
from tests.benchmarks.limit import Exposed, plain
from tests.benchmarks.serving import serving

import onnxscope

_NEW = Figure(
    "new-plan",
    "first call of a new plan on a loaded model (transformer, 226 MB), time to first tensor, against making a plain "
    "session of it",
    1.0,
    reached=1.1,
)
_MEMORY = Figure("ten-plans-memory", "10 plans on a 226 MB model, PSS against one plain session", 2.0)
_TIME = Figure("ten-plans-time", "the same, run time against its own session", 1.1)
_LIVE = 10
_TIMED = (0, 4, 9)
_POINTS = 4


def _feeds(rows: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((rows, 32, 768), np.float32)}


def _selections(model: onnxscope.Model) -> Iterator[list[str]]:
    """Yields lists of hook points, no two alike."""
    addresses = [point.address for point in model.hook_points(batch_axes=False)]
    rng = np.random.default_rng(0)
    while True:
        yield [addresses[index] for index in sorted(rng.choice(len(addresses), _POINTS, replace=False))]


def _new_plan(bench: Bench) -> list[Outcome]:
    path, feeds = models.bert(bench), _feeds(1)
    with serving() as server, onnxscope.connect(server.target) as scope:
        model = scope.load(path)
        selections = _selections(model)
        # the rest of an answer that is under way when the time is taken
        rest: list[Iterator[object]] = []

        def first() -> object:
            arriving = model.capture_iter(feeds, at=next(selections), outputs="instrumented")
            pair = next(arriving)
            rest.append(arriving)
            return pair

        def until_first() -> float:
            seconds = timed(first)()
            with closing(rest.pop()) as arriving:
                for _ in arriving:
                    pass
            return seconds

        found = interleaved(
            {"session": timed(lambda: plain(path)), "plan": until_first}, rounds=bench.rounds(15), warmups=1
        )
    sides = (
        Side("InferenceSession(path)", "limit", Spread.of(found["session"])),
        Side("first tensor", "onnxscope", Spread.of(found["plan"])),
    )
    return [Measured(_NEW, Spread.of_ratios(found["plan"], found["session"]), sides)]


def _ten_plans(bench: Bench) -> list[Outcome]:
    path, feeds = models.bert(bench), _feeds(8)
    with serving() as server, onnxscope.connect(server.target) as scope:
        model = scope.load(path)
        selections = _selections(model)
        plans = [next(selections) for _ in range(_LIVE)]
        for at in plans:
            model.capture(feeds, at=at, outputs="instrumented")
        held = server.process.share()
        limits = {index: Exposed(path, plans[index]) for index in _TIMED}
        tops: list[float] = []
        bottoms: list[float] = []
        for index, limit in limits.items():
            at = plans[index]
            found = interleaved(
                {
                    "session": timed(lambda limit=limit: limit.run(feeds)),
                    "plan": timed(lambda at=at: model.capture(feeds, at=at, outputs="instrumented")),
                },
                rounds=bench.rounds(11),
            )
            tops += found["plan"]
            bottoms += found["session"]
    alone = _alone(path)
    memory = (
        Side("one session, a process of its own", "limit", Spread.of([alone]), "B"),
        Side("server with 10 plans", "onnxscope", Spread.of([held]), "B"),
    )
    time = (
        Side("onnxruntime in process", "limit", Spread.of(bottoms)),
        Side("capture", "onnxscope", Spread.of(tops)),
    )
    note = f"{len(_TIMED)} of the plans, one after the other"
    return [
        Measured(_MEMORY, Spread.of([held / alone]), memory, "memory is read once"),
        Measured(_TIME, Spread.of_ratios(tops, bottoms), time, note),
    ]


def _alone(path: object) -> int:
    """Returns the PSS of a process with one plain session of a model, that has run once."""
    command = [sys.executable, "-m", "tests.benchmarks.one_session", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


MEASUREMENTS = (Measurement((_NEW,), _new_plan), Measurement((_MEMORY, _TIME), _ten_plans))
