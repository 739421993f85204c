"""What is known not to hold, and why; whatever else fails makes the measurement fail."""

from __future__ import annotations

from tests.conformance.measure import Row

# model: (what its problem starts with, why)
KNOWN: dict[str, tuple[str, str]] = {}


def reason(row: Row, problem: str) -> str:
    """Returns why a problem of a model is known; empty where it is not."""
    start, why = KNOWN.get(row.name, ("", ""))
    return why if problem.startswith(start) else ""
