"""Parts of one run's results: put together, and told apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeAlias

from onnxscope_server.result_domain import VALUE_KINDS, Result, ValueKind

Key: TypeAlias = tuple[ValueKind, str]


def merged(parts: Sequence[Result]) -> Result:
    """Returns the values of parts of one run as one part, without timings and fidelity."""
    return Result.of(
        {kind: {name: value for part in parts for name, value in part.values[kind].items()} for kind in VALUE_KINDS}
    )


def joined(results: Sequence[Result]) -> Result:
    """Returns results of one run, in whatever pieces they came, as one; those with timings are ends of groups."""
    if len(results) == 1:
        return results[0]
    ends = [result for result in results if result.timings]
    stages = dict.fromkeys(stage for end in ends for stage in end.timings)
    return replace(
        merged(results),
        timings={stage: sum(end.timings.get(stage, 0.0) for end in ends) for stage in stages},
        # the first group brings the outputs
        fidelity=ends[0].fidelity,
    )


def keys(part: Result) -> set[Key]:
    """Returns which values a part has."""
    return {(kind, name) for kind, values in part.values.items() for name in values}


def without(part: Result, sent: Collection[Key]) -> Result:
    """Returns a part without those values that were sent already."""
    missing = {
        kind: {name: value for name, value in values.items() if (kind, name) not in sent}
        for kind, values in part.values.items()
    }
    return Result.of(missing, part.timings, part.fidelity)
