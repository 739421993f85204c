"""Joins the inputs of several callers along their rows, and gives each its rows of the result."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from onnxscope_server.domain import Array, Output, Reading, RowAxis, Segment, Value
from onnxscope_server.result_domain import Result

# input of the graph, data type and sizes behind the first axis, for each input
Kind: TypeAlias = tuple[tuple[str, str, tuple[int, ...]], ...]
_Span: TypeAlias = tuple[int, int]


def kind_of(segment: Segment, inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> tuple[Kind, int] | None:
    """Says what requests must have in common to be joined.

    Args:
        segment: what runs.
        inputs: of one request, by name.
        masks: of one request, by their name in the reduction.

    Returns:
        What they must have in common, and the number of rows of this one; None where not every value is an array with
        that many entries along its first axis.
    """
    fed = [(name, inputs[name]) for name in segment.inputs if name in inputs]
    fed += [(segment.masks[name], mask) for name, mask in masks.items() if name in segment.masks]
    kind = []
    counts = set()
    for name, value in fed:
        if not isinstance(value, np.ndarray) or not value.ndim:
            return None
        kind.append((name, value.dtype.str, value.shape[1:]))
        counts.add(len(value))
    return (tuple(kind), counts.pop()) if len(counts) == 1 else None


def joined(parts: Sequence[Mapping[str, Value]], names: Sequence[str]) -> dict[str, Array]:
    """Returns arrays of several callers one behind the other, along their first axis.

    Args:
        parts: of each caller, by name; they are of one kind.
        names: which of them.
    """
    given = [name for name in names if name in parts[0]]
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in given}


class RowsLostError(Exception):
    """A value of a joined run has not the rows that it must have."""


@dataclass(frozen=True, slots=True)
class Joint:
    """How results of a plan are taken apart.

    Attributes:
        segment: what runs.
        axes: where the rows of each graph output are; None for one that is the same whatever the rows are.
    """

    segment: Segment
    axes: Mapping[str, RowAxis | None]

    def row_bytes(self, result: Result, rows: int) -> tuple[int, int]:
        """Returns what activations take whatever the number of rows is, and what they take a row."""
        fixed = each = 0
        for address, value in result.activations.items():
            if isinstance(value, np.ndarray) and self._axis(self.segment.captures[address]) is None:
                fixed += value.nbytes
            elif isinstance(value, np.ndarray):
                each += -(-value.nbytes // rows)
        return fixed, each

    def split(self, result: Result, rows: Sequence[int]) -> list[Result]:
        """Gives each caller its rows, in arrays of its own: they neither hold another caller's memory nor reach it.

        Args:
            result: of the joined run.
            rows: number of rows of each caller, in order.

        Raises:
            RowsLostError: a value has not the rows that the graph says.
        """
        ends = list(itertools.accumulate(rows))
        spans = list(zip([0, *ends[:-1]], ends, strict=True))
        segment = self.segment
        activations = self._split(result.activations, segment.captures, spans)
        outputs = self._split(result.outputs, {name: Output(name) for name in result.outputs}, spans)
        scalings = self._split(result.scalings, segment.scalings, spans)
        probes = self._split(result.probes, segment.probes, spans)
        return [
            replace(result, activations=own[0], outputs=own[1], scalings=own[2], probes=own[3])
            for own in zip(activations, outputs, scalings, probes, strict=True)
        ]

    def _split(
        self, values: Mapping[str, Value], readings: Mapping[str, Reading], spans: Sequence[_Span]
    ) -> list[dict[str, Value]]:
        found: list[dict[str, Value]] = [{} for _ in spans]
        total = spans[-1][1]
        for name, value in values.items():
            place = self._axis(readings[name])
            if place is not None and not _has_rows(value, place, total):
                raise RowsLostError(f"{name!r} has not the {total} rows that were joined")
            for own, span in zip(found, spans, strict=True):
                own[name] = _rows(value, place, span)
        return found

    def _axis(self, reading: Reading) -> RowAxis | None:
        assert isinstance(reading, Output)  # noqa: S101  # where others are read, no rows are joined
        return self.axes[reading.name]


def _has_rows(value: Value, place: RowAxis, total: int) -> bool:
    if isinstance(value, list):
        return len(value) == total * place.per_row
    return isinstance(value, np.ndarray) and value.shape[place.axis] == total * place.per_row


def _rows(value: Value, place: RowAxis | None, span: _Span) -> Value:
    if place is None:
        return value.copy() if isinstance(value, np.ndarray) else value
    wanted = slice(span[0] * place.per_row, span[1] * place.per_row)
    if isinstance(value, list):
        return value[wanted]
    array = np.asarray(value)
    return array[(slice(None),) * place.axis + (wanted,)].copy()
