"""Every hidden value of a ResNet50: over TCP, through shared memory, in process; and how soon the first is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved, timed
from tests.benchmarks.limit import Exposed
from tests.benchmarks.plain_socket import plain_socket
from tests.benchmarks.serving import over_tcp, serving

import onnxscope

Way = Callable[[], AbstractContextManager[onnxscope.Scope]]

_ROUNDS = 21
# fused or not, onnxruntime rounds differently
_ROUNDING = 1e-4
_TCP = Figure("resnet50-tcp", "ResNet50, all 175 hidden values (150 MB), TCP loopback", 1.15, reached=3.5)
_SHARED = Figure("resnet50-shared-memory", "the same, shared memory", 1.03, reached=1.2)
_LOCAL = Figure("local", "`local()` against onnxruntime itself on the same graph (ResNet50, all hidden values)", 1.02)
_FIRST_TCP = Figure("first-activation-tcp", "first activation after, as a share of the whole, plan warm; TCP", 0.10)
_FIRST_SHARED = Figure("first-activation-shared-memory", "the same, shared memory", 0.10, reached=0.12)


@contextmanager
def _tcp() -> Iterator[onnxscope.Scope]:
    with serving() as server, over_tcp(server.target) as scope:
        yield scope


@contextmanager
def _shared_memory() -> Iterator[onnxscope.Scope]:
    with serving() as server, onnxscope.connect(server.target) as scope:
        yield scope


def _feeds() -> dict[str, np.ndarray]:
    return {"gpu_0/data_0": np.random.default_rng(0).random((1, 3, 224, 224), np.float32)}


def _whole(bench: Bench, figure: Figure, way: Way) -> Outcome:
    path, feeds = models.resnet50(bench), _feeds()
    with way() as scope:
        model = scope.load(path)
        names = [point.address for point in model.hook_points(batch_axes=False)]
        limit = Exposed(path, names)
        _check_the_same(model, limit, feeds)
        contenders = {
            "onnxruntime": timed(lambda: limit.run(feeds)),
            "onnxscope": timed(lambda: model.capture(feeds, at="*", outputs="instrumented")),
        }
        with plain_socket(path, limit, feeds) if way is _tcp else nullcontext() as least:
            if least is not None:
                contenders["socket"] = timed(least)
            found = interleaved(contenders, rounds=bench.rounds(_ROUNDS))
    sides = [
        Side("onnxruntime in process", "limit", Spread.of(found["onnxruntime"])),
        Side("capture", "onnxscope", Spread.of(found["onnxscope"])),
    ]
    if "socket" in found:
        sides.append(Side("onnxruntime elsewhere, then a plain socket", "limit", Spread.of(found["socket"])))
    return Measured(figure, Spread.of_ratios(found["onnxscope"], found["onnxruntime"]), tuple(sides))


def _check_the_same(model: onnxscope.Model, limit: Exposed, feeds: dict[str, np.ndarray]) -> None:
    """Refuses to compare what is not the same work."""
    acts = model.capture(feeds, at="*", outputs="instrumented")
    for name, value in zip(limit.names, limit.run(feeds), strict=True):
        if np.abs(acts[name] - value).max() > _ROUNDING * np.abs(value).max():
            raise RuntimeError(f"{name} is not what onnxruntime computes")


def _first(bench: Bench, figure: Figure, way: Way) -> Outcome:
    path, feeds = models.resnet50(bench), _feeds()
    with way() as scope:
        model = scope.load(path)

        def iterate() -> tuple[float, float]:
            start = time.perf_counter()
            arriving = model.capture_iter(feeds, at="*", outputs="instrumented")
            next(arriving)
            first = time.perf_counter() - start
            for _ in arriving:
                pass
            return first, time.perf_counter() - start

        found = interleaved({"capture_iter": iterate}, rounds=bench.rounds(_ROUNDS))["capture_iter"]
    firsts, wholes = zip(*found, strict=True)
    sides = (
        Side("the whole", "limit", Spread.of(wholes)),
        Side("the first", "onnxscope", Spread.of(firsts)),
    )
    return Measured(figure, Spread.of_ratios(firsts, wholes), sides)


MEASUREMENTS = (
    Measurement((_TCP,), lambda bench: [_whole(bench, _TCP, _tcp)]),
    Measurement((_SHARED,), lambda bench: [_whole(bench, _SHARED, _shared_memory)]),
    Measurement((_FIRST_TCP,), lambda bench: [_first(bench, _FIRST_TCP, _tcp)]),
    Measurement((_FIRST_SHARED,), lambda bench: [_first(bench, _FIRST_SHARED, _shared_memory)]),
    Measurement((_LOCAL,), lambda bench: [_whole(bench, _LOCAL, onnxscope.local)]),
)
