"""Pictures: how far each figure is from its target, and how cost grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator
from tests.benchmarks.curves import LIMIT, Panel
from tests.benchmarks.figures import Figure, Measured, Outcome
from tests.benchmarks.table import amount

_MET = "#2a6f97"
_MISSED = "#c1440e"
_LEAST = 0.05
# onnxruntime in process first, which is dashed
_COLOURS = ("black", "#2a6f97", "#e09f3e", "#c1440e")


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


def _short(x: float) -> str:
    """Returns a number in the least letters: 4096 is 4Ki."""
    for shift, name in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if x >= 1 << shift:
            return f"{x / (1 << shift):g}{name}"
    return f"{x:g}"


def _distance(figure: Figure, value: float) -> float:
    value = max(value, _LEAST * figure.target)
    return value / figure.target if figure.at_most else figure.target / value


def draw_curves(panels: Sequence[Panel], path: Path) -> None:
    """Writes a PNG of the panels, medians between their quartiles, all axes logarithmic.

    Args:
        panels: four of them.
        path: the file.
    """
    canvas = Canvas(figsize=(12, 9), layout="constrained")
    labels = list(dict.fromkeys([LIMIT, *(label for panel in panels for label in panel.lines)]))
    for axes, panel in zip(canvas.subplots(2, 2).flat, panels, strict=False):
        for label, points in panel.lines.items():
            place = labels.index(label)
            colour, style = _COLOURS[place % len(_COLOURS)], "--" if label == LIMIT else "-"
            xs = [point.x for point in points]
            axes.plot(xs, [point.seconds.median for point in points], style, marker=".", color=colour, label=label)
            lows, highs = [point.seconds.low for point in points], [point.seconds.high for point in points]
            axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        shown = panel.lines[LIMIT][:: 1 + len(panel.lines[LIMIT]) // 9]
        axes.set_xticks([point.x for point in shown], [_short(point.x) for point in shown])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda seconds, _: amount(seconds, "s"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel(panel.over)
        axes.set_ylabel(panel.cost)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=120)
