"""Pictures of what probes found, as matplotlib figures that know nothing of models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from onnxscope.show.plots import ACCENT, INK, PALETTE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_INCHES_A_POINT = 0.42
_WIDTHS = (6.5, 24.0)
_MANY_POINTS = 60
_NAME_LETTERS = 36


def scores_by_depth(records: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """Draws a score with its interval at each hook point, and what it must be compared with.

    Args:
        records: a row a hook point, first to last: address, metric, score, low, high, and where they were measured
            baseline, input_score, control_score, shuffled_score, compression, baseline_compression.
        title: above the picture.

    Returns:
        A figure: scores above, and below them the compression where it was measured.
    """
    names = [str(record["address"]) for record in records]
    at = np.arange(len(names))
    compression = _column(records, "compression")
    has_compression = bool(np.isfinite(compression).any())
    width = min(_WIDTHS[1], max(_WIDTHS[0], 2.0 + _INCHES_A_POINT * len(names)))
    with rc_context(STYLE):
        figure = Figure(figsize=(width, 6.4 if has_compression else 4.4), layout="constrained")
        ratios = {"height_ratios": (2.2, 1)} if has_compression else None
        grid = figure.subplots(2 if has_compression else 1, 1, sharex=True, squeeze=False, gridspec_kw=ratios)
        panels = list(grid[:, 0])
        _scores(panels[0], records, at)
        if has_compression:
            _bars(panels[1], compression, at, _column(records, "baseline_compression"))
        step = max(1, math.ceil(len(names) / _MANY_POINTS))
        shown = [_short(name) for name in names[::step]]
        panels[-1].set_xticks(at[::step], shown, rotation=35, ha="right", rotation_mode="anchor")
        panels[-1].set_xlim(-0.6, len(names) - 0.4)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure


def _scores(axes: Axes, records: Sequence[Mapping[str, Any]], at: NDArray[Any]) -> None:
    score = _column(records, "score")
    reach = np.abs(np.stack([score - _column(records, "low"), _column(records, "high") - score]))
    metric = next((str(record["metric"]) for record in records if record.get("metric")), "score")
    axes.errorbar(
        at,
        score,
        yerr=np.nan_to_num(reach),
        fmt="o-",
        color=ACCENT,
        capsize=3,
        linewidth=1.4,
        label=f"{metric}, 95 % interval",
    )
    others = (
        ("control_score", "control task", PALETTE[1], "s"),
        ("shuffled_score", "shuffled weights", PALETTE[4], "D"),
    )
    for key, label, colour, marker in others:
        values = _column(records, key)
        if np.isfinite(values).any():
            axes.plot(at, values, marker=marker, color=colour, linewidth=1, linestyle=":", label=label)
    for key, label, style in (("input_score", "raw input", "--"), ("baseline", "baseline", "-.")):
        values = _column(records, key)
        if np.isfinite(values).any():
            axes.axhline(float(np.nanmedian(values)), color=INK, linestyle=style, linewidth=1, label=label)
    axes.set_ylabel(f"{metric}, held-out rows")
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    handles, labels = axes.get_legend_handles_labels()
    # scores with bars come last, and are what it is about
    axes.legend(
        [handles[-1], *handles[:-1]],
        [labels[-1], *labels[:-1]],
        frameon=False,
        fontsize=8.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )


def _bars(axes: Axes, compression: NDArray[np.float64], at: NDArray[Any], baseline: NDArray[np.float64]) -> None:
    bars = axes.bar(at, np.nan_to_num(compression), width=0.6, color=PALETTE[3])
    if len(at) <= _MANY_POINTS // 2:
        axes.bar_label(bars, [f"{value:.1f}" if math.isfinite(value) else "" for value in compression], fontsize=8)
    uninformed = float(np.nanmedian(baseline)) if np.isfinite(baseline).any() else 1.0
    axes.axhline(uninformed, color=INK, linestyle="-.", linewidth=1)
    axes.set_ylabel("compression")
    axes.margins(y=0.15)
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    """Leaves out the middle of a long address: models name their values from the whole to the part."""
    half = _NAME_LETTERS // 2
    return name if len(name) <= _NAME_LETTERS else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def _column(records: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    found = [record.get(key) for record in records]
    return np.array([math.nan if value is None else value for value in found], np.float64)
