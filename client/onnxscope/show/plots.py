"""Pictures of plain arrays, as matplotlib figures that know nothing of models.

Text and lines are drawn in `INK`, which `onnxscope.show.page` turns into the page's own text colour, so that one
picture suits light and dark pages. Nothing here touches pyplot: there is no state to clean up.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

INK = "#5b6370"
ACCENT = "#3f90da"
# Petroff 2021, arXiv:2107.02270: ten colours that stay apart for colour-blind eyes.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
SIGNED_COLOURS = "RdBu_r"
GREY_COLOURS = "Greys"

STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_DPI = 100
_MAP_PIXELS = 56
_FILTER_PIXELS = 84
_GAP_PIXELS = 4
_FILTER_GAP_PIXELS = 16
_MAP_RANK = 3
_FILTER_RANK = 4
_PANEL_INCHES = 2.3


@contextmanager
def _styled() -> Iterator[None]:
    with rc_context(STYLE):
        yield


def projections(
    coordinates: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    *,
    columns: int = 5,
    captions: Mapping[str, str] | None = None,
) -> Figure:
    """Draws one scatter plot a hook point, each row a dot in the colour of its label.

    Colour is not alone: each class is named at its median.

    Args:
        coordinates: float `[row, axis=2]` by hook point.
        labels: `[row]`, at most ten classes have a colour of their own.
        columns: panels side by side.
        captions: a second line under a panel's name.

    Returns:
        A figure; its dots are drawn as pixels wherever the figure goes.
    """
    names = list(coordinates)
    across = max(1, min(columns, len(names)))
    down = max(1, math.ceil(len(names) / across))
    with _styled():
        figure = Figure(figsize=(_PANEL_INCHES * across, (_PANEL_INCHES + 0.35) * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
        for panel in grid.flat[len(names) :]:
            panel.set_visible(False)
        for panel, name in zip(grid.flat, names, strict=False):
            _scatter(panel, np.asarray(coordinates[name]), labels)
            second = (captions or {}).get(name)
            panel.set_title(f"{name}\n{second}" if second else name, fontsize=9)
    return figure


def _scatter(axes: Axes, points: NDArray[Any], labels: NDArray[Any]) -> None:
    classes = np.unique(labels)
    colours = np.array(PALETTE)[np.searchsorted(classes, labels) % len(PALETTE)]
    axes.scatter(points[:, 0], points[:, 1], s=9, color=colours.tolist(), alpha=0.7, linewidths=0, rasterized=True)
    for label in classes:
        x, y = np.median(points[labels == label], axis=0)
        box = {"boxstyle": "circle,pad=0.18", "facecolor": "white", "alpha": 0.85, "linewidth": 0}
        axes.text(x, y, str(label), ha="center", va="center", fontsize=8, color="black", bbox=box).set_fontweight(
            "bold"
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.04)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.35)


def feature_maps(maps: NDArray[Any], *, columns: int = 16) -> Figure:
    """Draws what each channel holds: red above zero, blue below, white at zero.

    Args:
        maps: float `[channel, height, width]`; `[feature]` is drawn as small squares.
        columns: channels side by side; features stand four times as dense.

    Returns:
        A figure without text, as large as its tiles. Full colour is the largest magnitude.

    Raises:
        ValueError: the array has another rank.
    """
    array = np.asarray(maps, np.float64)
    if array.ndim == 1:
        squares = array[:, np.newaxis, np.newaxis]
        return _tiles(squares, 4 * columns, _signed(array), SIGNED_COLOURS, pixels=_MAP_PIXELS // 4)
    if array.ndim != _MAP_RANK:
        raise ValueError(f"feature maps are [channel, height, width], not of rank {array.ndim}")
    return _tiles(array, columns, _signed(array), SIGNED_COLOURS, pixels=_MAP_PIXELS)


def picture(image: NDArray[Any]) -> Figure:
    """Draws one image, float `[height, width]`, from paper (lowest) to ink (highest)."""
    array = np.asarray(image, np.float64)
    norm = Normalize(array.min(), array.max())
    return _tiles(array[np.newaxis], 1, norm, GREY_COLOURS, pixels=2 * _MAP_PIXELS)


def filters(weights: NDArray[Any], *, columns: int = 8) -> Figure:
    """Draws a convolution's filters: red weights add, blue ones subtract.

    Args:
        weights: float `[filter, channel, height, width]`; with several channels each filter is
            a row of tiles, one a channel.
        columns: filters side by side, where each has one channel.

    Returns:
        A figure without text, as large as its tiles. Full colour is the largest magnitude.

    Raises:
        ValueError: the array has another rank.
    """
    array = np.asarray(weights, np.float64)
    if array.ndim != _FILTER_RANK:
        raise ValueError(f"filters are [filter, channel, height, width], not of rank {array.ndim}")
    across = array.shape[1] if array.shape[1] > 1 else columns
    flat = array.reshape(-1, *array.shape[2:])
    return _tiles(
        flat,
        across,
        _signed(array),
        SIGNED_COLOURS,
        pixels=_FILTER_PIXELS,
        gap=_FILTER_GAP_PIXELS if across == columns else _GAP_PIXELS,
    )


def _signed(array: NDArray[np.float64]) -> Normalize:
    return CenteredNorm(0.0, float(np.nanmax(np.abs(array), initial=0.0)) or 1.0)


def _tiles(
    array: NDArray[np.float64],
    columns: int,
    norm: Normalize,
    colours: str,
    *,
    pixels: int,
    gap: int = _GAP_PIXELS,
) -> Figure:
    """Lays `[tile, height, width]` out in rows, about `pixels` a tile, gaps transparent."""
    count, height, width = array.shape
    across = max(1, min(columns, count))
    down = max(1, math.ceil(count / across))
    zoom = max(1, round(pixels / max(height, width)))
    tall, wide = height * zoom + gap, width * zoom + gap
    canvas = np.zeros((down * tall - gap, across * wide - gap, 4))
    coloured = ScalarMappable(norm, colours).to_rgba(array.reshape(count, -1))
    for index, tile in enumerate(coloured.reshape(count, height, width, 4)):
        top, left = index // across * tall, index % across * wide
        canvas[top : top + height * zoom, left : left + width * zoom] = tile.repeat(zoom, axis=0).repeat(zoom, axis=1)
    # a hair more than the canvas, so that rounding never cuts a line of pixels off
    size = ((canvas.shape[1] + 0.01) / _DPI, (canvas.shape[0] + 0.01) / _DPI)
    figure = Figure(figsize=size, dpi=_DPI)
    figure.patch.set_alpha(0)
    figure.figimage(canvas)
    return figure
