"""Results without the rows that filled a fixed batch dimension."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from onnxscope.ask import Ask
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.result import ProbeResult
from onnxscope.reduce import Reduction
from onnxscope.results import Activations, HookPoint
from onnxscope.rows import Piece
from onnxscope.v1.codec import Array, Value

_WITHOUT_ROWS = ("constant", "weight")


class Padding:
    """Takes added rows out of the results of one stream.

    Where rows are is asked of the server once, and only when there is something to take out: send
    what `questions` returns, ask for the probes that run, give the answers to `learn`, then call `remove`.

    Args:
        ask: what the stream asks.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._points: dict[str, HookPoint] = {}
        self._reductions: dict[str, Reduction] = {}
        self._probes: dict[str, Reduction | None] = {}
        self.is_known = False

    def questions(self, acts: Activations) -> list[list[str]]:
        """Returns lists of selectors: for each the hook points are wanted."""
        names = dict.fromkeys([*acts, *acts.outputs])
        return [list(names), *([selector] for selector, _ in self._ask.rules)]

    @property
    def probe_names(self) -> tuple[str, ...]:
        """The probes that run."""
        return tuple(self._ask.spec.probes)

    def learn(self, answers: Sequence[Sequence[HookPoint]], probes: Iterable[DescribedProbe] = ()) -> None:
        """Takes the hook points of each question, in order, and the probes."""
        self._probes = {probe.name: probe.reduction for probe in probes}
        self._points = {point.address: point for point in answers[0]}
        for (_, reduction), chosen in zip(self._ask.rules, answers[1:], strict=True):
            self._reductions |= {point.address: reduction for point in chosen}
        self.is_known = True

    def remove(self, acts: Activations, piece: Piece) -> Activations:
        """Returns the result of a piece with the caller's rows alone."""
        return Activations(
            {name: self._trim(name, value, piece) for name, value in acts.items()},
            outputs={
                name: trim(value, piece, row_axis(value, piece, self._points.get(name)))
                for name, value in acts.outputs.items()
            },
            fidelity=acts.fidelity,
            timings=acts.timings,
            quantization=acts.quantization,
            probes={name: self._trim_probe(name, result, piece) for name, result in acts.probes.items()},
        )

    def _trim_probe(self, name: str, result: ProbeResult, piece: Piece) -> ProbeResult:
        reduction = self._probes.get(name)
        if reduction is None or reduction.kind != "positions":
            outputs = {key: trim(value, piece, 0) for key, value in result.outputs.items()}
        else:
            mask = _mask_of(reduction, piece)
            outputs = {key: _trim_positions(value, piece, mask) for key, value in result.outputs.items()}
        return ProbeResult.of(outputs, result.classes, result.address, result.kind)

    def _trim(self, name: str, value: Value, piece: Piece) -> Value:
        reduction = self._reductions.get(name)
        if reduction is None:
            return trim(value, piece, row_axis(value, piece, self._points.get(name)))
        if reduction.kind == "positions":
            return _trim_positions(value, piece, _mask_of(reduction, piece))
        return trim(value, piece, None if reduction.axis == 0 else 0)


def row_axis(value: Value, piece: Piece, point: HookPoint | None) -> int | None:
    """Returns the axis that rows lie along in a value that was not reduced; None where there is none.

    What the server found wins. It cannot try two batch sizes where the model prescribes one; then it
    is the first axis, or the only one, that has as many entries as rows ran.
    """
    if isinstance(value, list) and point is not None:
        return point.batch_axis
    if not isinstance(value, np.ndarray) or (point is not None and point.kind in _WITHOUT_ROWS):
        return None
    if point is not None and point.batch_axis is not None:
        return point.batch_axis
    fitting = [axis for axis, size in enumerate(value.shape) if size == piece.padded_count]
    return fitting[0] if fitting and (fitting[0] == 0 or len(fitting) == 1) else None


def trim(value: Value, piece: Piece, axis: int | None) -> Value:
    """Returns a value with the piece's own rows alone, where it has rows along an axis.

    A classifier's list of maps, class to score, has one map a row. In a list of iterations each has its rows.
    """
    if isinstance(value, list) and len(value) == piece.padded_count and all(isinstance(item, dict) for item in value):
        return value[: piece.row_count]
    if isinstance(value, list) and axis:
        return [trim(item, piece, axis - 1) for item in value]
    if axis is None or not isinstance(value, np.ndarray) or axis >= value.ndim:
        return value
    if value.shape[axis] != piece.padded_count:
        return value
    return value[(slice(None),) * axis + (slice(0, piece.row_count),)]


def _trim_positions(value: Value, piece: Piece, mask: Array | None) -> Value:
    """Returns `[row and position, feature]` without the positions of the added rows."""
    if not isinstance(value, np.ndarray):
        return value
    if mask is not None:
        return value[: np.count_nonzero(mask[: piece.row_count])]
    return value[: len(value) // piece.padded_count * piece.row_count]


def _mask_of(reduction: Reduction, piece: Piece) -> Array | None:
    if isinstance(reduction.mask, str):
        return np.asarray(piece.values[reduction.mask])
    return None if reduction.mask is None else piece.rows_of(reduction.mask)
