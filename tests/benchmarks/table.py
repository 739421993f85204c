"""Outcomes as a table, and what fails."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.figures import Figure, Measured, Outcome, Role, Side, Unit

_HEADS = ("work", "target", "measured", "quartiles", "", "limit", "onnxscope", "peers")
_MIB = 1 << 20
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns a Markdown table with a line for each figure."""
    return "\n".join([_line(_HEADS), _line(["---"] * len(_HEADS)), *(_line(_cells(item)) for item in outcomes)])


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns what there is to say of figures, a line for each thing said."""
    named: dict[str, list[str]] = {}
    for item in outcomes:
        if isinstance(item, Measured) and item.note:
            named.setdefault(item.note, []).append(item.figure.name)
    return [f"{', '.join(names)}: {note}" for note, names in named.items()]


def failures(outcomes: Sequence[Outcome], *, check: bool) -> list[str]:
    """Says which figures should be there and are not and, with `check`, which are worse than their targets allow."""
    found = []
    for outcome in outcomes:
        figure = outcome.figure
        if not isinstance(outcome, Measured):
            if outcome.is_failure:
                found.append(f"FAILED: {figure.name}: {outcome.reason}")
        elif check and figure.is_failed(outcome.value.median):
            got, wanted = amount(outcome.value.median, figure.unit), _bound(figure, figure.bound)
            kind = "the target" if figure.reached is None else "what was reached"
            found.append(f"WORSE: {figure.name}: {got} where {wanted} is {kind}, {figure.slack:.0%} allowed")
    return found


def amount(value: float, unit: Unit) -> str:
    """Returns a measured amount with its unit."""
    if unit == "s":
        scale, name = next(item for item in _TIMES if value >= item[0] or item is _TIMES[-1])
        return f"{value / scale:.3g} {name}"
    if unit == "B":
        return f"{value / _MIB:,.0f} MiB"
    if unit == "1/s":
        return f"{value:,.0f} /s"
    return f"{value:.2f}" if unit == "x" else f"{value:.2f} {unit}"


def _cells(outcome: Outcome) -> list[str]:
    figure = outcome.figure
    if not isinstance(outcome, Measured):
        return [figure.work, _bound(figure, figure.target), "not measured", "", outcome.reason, "", "", ""]
    spread = outcome.value
    quartiles = f"{spread.low:.2f} .. {spread.high:.2f}" if spread.count > 1 else ""
    met = "met" if figure.is_met(spread.median) else "missed"
    sides = [_sides(outcome.sides, role) for role in ("limit", "onnxscope", "peer")]
    return [figure.work, _bound(figure, figure.target), amount(spread.median, figure.unit), quartiles, met, *sides]


def _sides(sides: Sequence[Side], role: Role) -> str:
    return "; ".join(f"{side.label} {amount(side.spread.median, side.unit)}" for side in sides if side.role == role)


def _bound(figure: Figure, value: float) -> str:
    return f"{'<=' if figure.at_most else '>='} {amount(value, figure.unit)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
