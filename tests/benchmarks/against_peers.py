"""What else does the same: every value of a CNN for a data set of a few batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, NotMeasured, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved
from tests.benchmarks.limit import Exposed
from tests.benchmarks.peer import Peer, PeerError, environment, peer
from tests.benchmarks.serving import over_tcp, serving

import onnxscope

_ROWS = 32
_BATCHES = 4
_ROUNDS = 7
_WORK = "all 35 hook points of a CNN of 16 layers, 32 rows, 134 MB a batch, how much faster than"
# a peer's script, and those that are shown beside it
_FIGURES = {
    "mlserver_client": Figure("against-mlserver", f"{_WORK} MLServer", 15.0, at_most=False),
    "polygraphy_comparator": Figure("against-polygraphy", "the same, than Polygraphy's Comparator", 2.0, at_most=False),
    "collect_activations": Figure(
        "against-ort", "the same, than onnxruntime's collect_activations", 2.0, at_most=False
    ),
}
_BESIDE = {"mlserver_client": "naive_stream", "polygraphy_comparator": "polygraphy_runner"}
_LABELS = {
    "mlserver_client": "MLServer with tritonclient",
    "polygraphy_comparator": "Comparator",
    "collect_activations": "collect_activations",
    "naive_stream": "gRPC stream of 1 MiB chunks",
    "polygraphy_runner": "OnnxrtRunner",
}
# batches a turn where one is enough
_SLOW = {"mlserver_client": 1}


def _peers(bench: Bench) -> list[Outcome]:
    try:
        python = environment(bench.cache)
    except PeerError as error:
        return [NotMeasured(figure, str(error)) for figure in _FIGURES.values()]
    path = models.cnn(bench)
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = _own(stack, path)
        for script in _LABELS:
            batches = _SLOW.get(script, _BATCHES)
            try:
                started = stack.enter_context(peer(python, script, logs, path, _ROWS, batches))
                _check_the_same(script, started, batches)
            except PeerError as error:
                missing[script] = str(error)
            else:
                contenders[script] = partial(_turn, started, batches)
        found = interleaved(contenders, rounds=_ROUNDS, warmups=1)
    return [
        NotMeasured(figure, missing[script]) if script in missing else _outcome(script, figure, found)
        for script, figure in _FIGURES.items()
    ]


def _own(stack: ExitStack, path: Path) -> dict[str, Callable[[], float]]:
    """Returns onnxruntime in process and onnxscope as contenders; each measures seconds a batch and keeps all."""
    feeds = {"x": np.random.default_rng(0).random((_ROWS, 3, 32, 32), np.float32)}
    server = stack.enter_context(serving())
    scope = stack.enter_context(onnxscope.connect(server.target))
    model = scope.load(path)
    limit = Exposed(path, [point.address for point in model.hook_points(batch_axes=False)])

    def batches(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        kept = [run() for _ in range(_BATCHES)]
        seconds = time.perf_counter() - start
        del kept
        return seconds / _BATCHES

    own = {"onnxruntime": lambda: batches(lambda: limit.run(feeds))}
    own["capture"] = lambda: batches(lambda: model.capture(feeds, at="*", outputs="instrumented"))
    remote = stack.enter_context(over_tcp(server.target)).load(path)
    own["capture over TCP"] = lambda: batches(lambda: remote.capture(feeds, at="*", outputs="instrumented"))
    return own


def _check_the_same(script: str, started: Peer, batches: int) -> None:
    """Refuses a peer that has not brought all values; one that brings the input too is none."""
    least = 134_227_200 * batches
    _, received = started.turn()
    if not least <= received <= least * 1.01:
        raise PeerError(f"{script} brings {received:,} bytes where all values are {least:,}")


def _turn(started: Peer, batches: int) -> float:
    seconds, _ = started.turn()
    return seconds / batches


def _outcome(script: str, figure: Figure, found: dict[str, list[float]]) -> Outcome:
    shown = [name for name in (script, _BESIDE.get(script, "")) if name in found]
    own = [name for name in found if name.startswith("capture")]
    sides = (
        Side("onnxruntime in process", "limit", Spread.of(found["onnxruntime"])),
        *(Side(name, "onnxscope", Spread.of(found[name])) for name in own),
        *(Side(_LABELS[name], "peer", Spread.of(found[name])) for name in shown),
    )
    note = f"times are of a batch; a turn has {_BATCHES} of them, MLServer's one, and keeps what it gets"
    return Measured(figure, Spread.of_ratios(found[script], found["capture"]), sides, note)


MEASUREMENTS = (Measurement(tuple(_FIGURES.values()), _peers, needs="the peers' environment"),)
