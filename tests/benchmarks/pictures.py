"""Outcomes as a picture: how far each figure is from its target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator
from tests.benchmarks.figures import Figure, Measured, Outcome
from tests.benchmarks.table import amount

_MET = "#2a6f97"
_MISSED = "#c1440e"
_LEAST = 0.05


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes a PNG: a line for each figure, its distance from the target, better to the left.

    Args:
        outcomes: what was measured; what was not is left out.
        path: the file.
    """
    measured = [outcome for outcome in outcomes if isinstance(outcome, Measured)]
    canvas = Canvas(figsize=(9, 1.2 + 0.38 * len(measured)), layout="constrained")
    axes = canvas.subplots()
    for row, outcome in enumerate(measured):
        figure, spread = outcome.figure, outcome.value
        low, median, high = sorted(_distance(figure, value) for value in (spread.low, spread.median, spread.high))
        colour = _MET if figure.is_met(spread.median) else _MISSED
        axes.plot([low, high], [row, row], color=colour, linewidth=4, alpha=0.35, solid_capstyle="round")
        axes.plot([median], [row], "o", color=colour)
        said = f"{amount(spread.median, figure.unit)}, target {amount(figure.target, figure.unit)}"
        axes.annotate(said, (1.01, row), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8, color=colour)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(measured)), [outcome.figure.name for outcome in measured], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times the target (log); 1 is the target, to the left is better")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=130)


def _distance(figure: Figure, value: float) -> float:
    value = max(value, _LEAST * figure.target)
    return value / figure.target if figure.at_most else figure.target / value
