"""Many small requests at once: a server that runs them together against one that does not."""

from __future__ import annotations

from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread
from tests.benchmarks.interleaved import interleaved
from tests.benchmarks.load import calling
from tests.benchmarks.serving import over_tcp, serving

_BATCHING = Figure(
    "batching",
    "digits CNN, one hook point, 32 concurrent callers, requests a second against the same server without batching",
    3.0,
    at_most=False,
    reached=1.3,
)
_CALLERS = 32
# of callers
PROCESSES = 2
# of a server that batches
BATCHING_FLAGS = ("--max-batch-rows", str(_CALLERS))


def _batching(bench: Bench) -> list[Outcome]:
    path = models.digits()
    with serving() as alone, serving(*BATCHING_FLAGS) as together, calling(PROCESSES) as callers:
        digests = {}
        for server in (alone, together):
            with over_tcp(server.target) as scope:
                digests[server.target] = scope.load(path).digest
        found = interleaved(
            {
                "alone": lambda: callers.call(alone, digests[alone.target], _CALLERS, 1.5),
                "together": lambda: callers.call(together, digests[together.target], _CALLERS, 1.5),
            },
            rounds=bench.rounds(9),
            warmups=1,
        )
    rates = {name: [rate.calls_per_second for rate in rates] for name, rates in found.items()}
    sides = (
        Side("without batching", "limit", Spread.of(rates["alone"]), "1/s"),
        Side("with batching", "onnxscope", Spread.of(rates["together"]), "1/s"),
    )
    cores = {name: Spread.of([rate.server_cores for rate in items]).median for name, items in found.items()}
    clients = Spread.of([rate.client_cores for rate in found["together"]]).median
    note = (
        f"cores that the server kept busy: {cores['alone']:.1f} without batching, {cores['together']:.1f} with it; "
        f"the {PROCESSES} processes of callers then {clients:.1f}"
    )
    return [Measured(_BATCHING, Spread.of_ratios(rates["together"], rates["alone"]), sides, note)]


MEASUREMENTS = (Measurement((_BATCHING,), _batching),)
