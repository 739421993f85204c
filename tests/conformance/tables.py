"""What many measured models come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.conformance import exceptions
from tests.conformance.measure import Row

_SUMMED = (
    "values",
    "listed",
    "points",
    "captured",
    "checked",
    "right",
    "parts",
    "parts_captured",
    "parts_checked",
    "parts_right",
    "sums",
    "sums_right",
)
_HEADS = ("models", "run", "random", "outputs equal", *(name.replace("_", " ") for name in _SUMMED))
_NOT_RUN = "not run by onnxruntime"
_LEAST_RIGHT = 0.999


@dataclass(frozen=True)
class _Sums:
    models: int
    run: int
    random: int
    equal: int
    deterministic: int
    counts: dict[str, int]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Sums:
        run = [row for row in rows if row.state != _NOT_RUN]
        random = sum(row.state == "random" for row in run)
        equal = sum(row.outputs_equal is True for row in run)
        deterministic = sum(row.outputs_equal is not None or row.state != "random" for row in run)
        counts = {name: sum(getattr(row, name) for row in run) for name in _SUMMED}
        return cls(len(rows), len(run), random, equal, deterministic, counts)


def table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table with a line for each group, and one of totals."""
    lines = ["| |" + "|".join(_HEADS) + "|", "|---|" + "--:|" * len(_HEADS)]
    for group in (*sorted({row.group for row in rows}), ""):
        sums = _Sums.of([row for row in rows if group in ("", row.group)])
        equal = f"{sums.equal}/{sums.deterministic}"
        cells = [sums.models, sums.run, sums.random, equal, *sums.counts.values()]
        lines.append(f"|{group or 'total'}|" + "|".join(map(str, cells)) + "|")
    return "\n".join(lines)


def totals(rows: Sequence[Row]) -> str:
    """Returns the line that tells whether the targets are met."""
    sums = _Sums.of(rows)
    counts = sums.counts
    slow = [row.state for row in rows if row.state in ("crash", "timeout")]
    return (
        f"{sums.run} models: values listed {_share(counts['listed'], counts['values'])}, "
        f"captured {_share(counts['captured'], counts['points'])}, "
        f"right {_share(counts['right'], counts['checked'])} of those compared, "
        f"parts captured {_share(counts['parts_captured'], counts['parts'])} "
        f"and right {_share(counts['parts_right'], counts['parts_checked'])}, "
        f"outputs bit-equal {_share(sums.equal, sums.deterministic)} of deterministic models, "
        f"{slow.count('crash')} crashes, {slow.count('timeout')} hangs"
    )


def failures(rows: Sequence[Row]) -> list[str]:
    """Says which targets are missed, and which problems nobody knows of."""
    sums = _Sums.of(rows)
    counts = sums.counts
    found = [
        f"UNKNOWN: {row.name}: {problem}"
        for row in rows
        for problem in row.problems
        if not exceptions.reason(row, problem)
    ]
    if counts["listed"] < counts["values"]:
        found.append("MISSED: not every value is listed")
    if counts["captured"] < _LEAST_RIGHT * counts["points"] or counts["right"] < _LEAST_RIGHT * counts["checked"]:
        found.append("MISSED: less than 99.9 % captured and right")
    if sums.equal < sums.deterministic:
        found.append("MISSED: outputs of a deterministic model moved")
    return found


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.2%})" if whole else "none of none"
