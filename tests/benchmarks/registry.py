"""All measurements, in the order of the table."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks import (
    against_peers,
    batching,
    large_capture,
    long_stream,
    part_of_model,
    plans,
    probe_memory,
    probes,
    small_calls,
    sweeping,
    whole_model,
)
from tests.benchmarks.figures import Bench, Outcome

MEASUREMENTS = (
    *whole_model.MEASUREMENTS,
    *plans.MEASUREMENTS,
    *part_of_model.MEASUREMENTS,
    *probes.MEASUREMENTS,
    *sweeping.MEASUREMENTS,
    *against_peers.MEASUREMENTS,
    *batching.MEASUREMENTS,
    *small_calls.MEASUREMENTS,
    *large_capture.MEASUREMENTS,
    *long_stream.MEASUREMENTS,
    *probe_memory.MEASUREMENTS,
)


def measure(index: int, bench: Bench) -> Sequence[Outcome]:
    """Measures the figures of one of them."""
    return MEASUREMENTS[index].measure(bench)
