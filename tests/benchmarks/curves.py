"""How cost grows: with the bytes captured, with hook points, with clients, with rows; onnxruntime in process beside."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tests.benchmarks import models, protocol
from tests.benchmarks.batching import BATCHING_FLAGS, PROCESSES
from tests.benchmarks.figures import Bench, Spread
from tests.benchmarks.interleaved import interleaved, timed
from tests.benchmarks.limit import Exposed
from tests.benchmarks.load import calling
from tests.benchmarks.serving import over_tcp, serving

import onnxscope

LIMIT = "onnxruntime in process"
Feeds = Mapping[str, np.ndarray]
_TCP, _SHARED, _LOCAL, _BATCHED = "TCP", "shared memory", "local()", "TCP, batching"
_ROUNDS = 7
# where one repetition takes seconds
_FEW_ROUNDS = 3
_LARGE_BYTES = 128 << 20
_COLUMNS = 1 << 14
_CALLING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """One place of a line: what was taken there, in seconds."""

    x: float
    seconds: Spread


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over one axis.

    Attributes:
        name: of the panel.
        over: what grows.
        cost: what is measured.
        lines: points by label.
    """

    name: str
    over: str
    cost: str
    lines: dict[str, list[Point]]


def by_bytes(bench: Bench) -> Panel:
    """Measures one hook point that is 1 KiB, 4 KiB ... 1 GiB large."""
    lines: dict[str, list[Point]] = {}
    path = models.widening(bench)
    with _ways(path) as ways:
        limit = Exposed(path, ["wide"])
        for size in (1 << shift for shift in range(10, 31, 2)):
            columns = min(size // 4, _COLUMNS)
            feeds = {"x": np.ones((size // 4 // columns, 1), np.float32), "w": np.ones((1, columns), np.float32)}
            rounds = _ROUNDS if size < _LARGE_BYTES else _FEW_ROUNDS
            _measure(lines, size, limit, ways, feeds, "wide", rounds=rounds)
    return Panel("bytes", "bytes captured, one hook point", "time a capture", lines)


def by_hook_points(bench: Bench) -> Panel:
    """Measures 1, 2, 5 ... all hook points of a ResNet50, spread over its depth."""
    lines: dict[str, list[Point]] = {}
    path = models.resnet50(bench)
    feeds = {"gpu_0/data_0": np.random.default_rng(0).random((1, 3, 224, 224), np.float32)}
    with _ways(path) as ways:
        points = ways[_TCP].hook_points(batch_axes=False)
        addresses = [point.address for point in points]
        for count in (1, 2, 5, 10, 20, 50, 100, len(addresses)):
            last = np.linspace(len(addresses) / count - 1, len(addresses) - 1, count)
            at = [addresses[round(index)] for index in last]
            _measure(lines, count, Exposed(path, at), ways, feeds, at, rounds=_ROUNDS)
    return Panel("hook points", "hook points, ResNet50", "time a capture", lines)


def by_batch(bench: Bench) -> Panel:
    """Measures 1, 2 ... 64 rows of a CNN, all hook points."""
    lines: dict[str, list[Point]] = {}
    path = models.cnn(bench)
    with _ways(path) as ways:
        points = ways[_TCP].hook_points(batch_axes=False)
        limit = Exposed(path, [point.address for point in points])
        for rows in (1, 2, 4, 8, 16, 32, 64):
            feeds = {"x": np.random.default_rng(0).random((rows, 3, 32, 32), np.float32)}
            _measure(lines, rows, limit, ways, feeds, "*", rounds=_ROUNDS, share=1 / rows)
    return Panel("batch", "rows a batch, CNN, all hook points (4.2 MB a row)", "time a row", lines)


def by_clients(bench: Bench) -> Panel:
    """Measures 1, 2 ... 64 callers, each of one row and one hook point of the digits CNN."""
    lines: dict[str, list[Point]] = {}
    path = models.digits()
    limit = Exposed(path, [protocol.AT])
    servers = {_TCP: (), _BATCHED: BATCHING_FLAGS}
    with ExitStack() as stack:
        callers = stack.enter_context(calling(PROCESSES))
        contenders: dict[str, Callable[[int], float]] = {LIMIT: lambda count: _in_threads(limit, count)}
        for label, flags in servers.items():
            server = stack.enter_context(serving(*flags))
            with over_tcp(server.target) as scope:
                digest = scope.load(path).digest
            contenders[label] = lambda count, server=server, digest=digest: (
                1 / callers.call(server, digest, count, _CALLING_SECONDS).calls_per_second
            )
        for count in (1, 2, 4, 8, 16, 32, 64):
            turns = {label: lambda take=take, count=count: take(count) for label, take in contenders.items()}
            for label, seconds in interleaved(turns, rounds=_FEW_ROUNDS, warmups=1).items():
                lines.setdefault(label, []).append(Point(count, Spread.of(seconds)))
    return Panel("clients", "clients, digits CNN, one row, one hook point", "time / calls of all clients", lines)


PANELS: tuple[Callable[[Bench], Panel], ...] = (by_bytes, by_hook_points, by_clients, by_batch)


def measure(index: int, bench: Bench) -> Panel:
    """Measures one of the panels."""
    return PANELS[index](bench)


def write(panels: Sequence[Panel], path: Path) -> None:
    """Writes the panels as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(panel) for panel in panels], indent=1))


@contextmanager
def _ways(path: Path) -> Iterator[dict[str, onnxscope.Model]]:
    """Gives the model by each of the ways to it."""
    with ExitStack() as stack:
        server = stack.enter_context(serving())
        scopes = {
            _TCP: over_tcp(server.target),
            _LOCAL: onnxscope.local(),
            _SHARED: onnxscope.connect(server.target),
        }
        yield {label: stack.enter_context(scope).load(path) for label, scope in scopes.items()}


def _measure(
    lines: dict[str, list[Point]],
    x: float,
    limit: Exposed,
    ways: Mapping[str, onnxscope.Model],
    feeds: Feeds,
    at: str | list[str],
    *,
    rounds: int,
    share: float = 1,
) -> None:
    """Adds a point to each line."""
    contenders = {LIMIT: timed(lambda: limit.run(feeds))}
    for label, model in ways.items():
        contenders[label] = timed(lambda model=model: model.capture(feeds, at=at, outputs="instrumented"))
    for label, seconds in interleaved(contenders, rounds=rounds, warmups=2).items():
        lines.setdefault(label, []).append(Point(x, Spread.of([one * share for one in seconds])))


def _in_threads(limit: Exposed, count: int) -> float:
    """Runs from threads for a while; returns seconds over runs."""
    feeds = {"image": protocol.image()}
    runs = [0] * count
    start = time.perf_counter()
    end = start + _CALLING_SECONDS / 2

    def run(index: int) -> None:
        while time.perf_counter() < end:
            limit.run(feeds)
            runs[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - start) / sum(runs)
