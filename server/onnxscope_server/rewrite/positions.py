"""Positions as an axis of their own, and which of them a mask keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import DataType
from onnxscope_server.rewrite.fragment import Fragment
from onnxscope_server.rewrite.subject import IMAGE, Subject

# the opset from which GatherND picks in each row on its own
_GATHERS_BY_ROW = 12


@dataclass(frozen=True, slots=True)
class Positions:
    """A value whose axes were put in the order rows, positions, rest.

    Attributes:
        fragment: where operators are added.
        value: [row, position, rest...].
        rank: its number of axes.
        shape: int64 [rank], its shape.
    """

    fragment: Fragment
    value: ir.Value
    rank: int
    shape: ir.Value

    @property
    def row_count(self) -> ir.Value:
        """Int64 [1]: number of rows."""
        return self.fragment.gather(self.shape, self.fragment.integers(0), 0)

    @property
    def position_count(self) -> ir.Value:
        """Int64 [1]: positions in a row."""
        return self.fragment.gather(self.shape, self.fragment.integers(1), 0)

    def merged(self) -> ir.Value:
        """Returns [row and position, rest...]: rows one after the other."""
        lead = self.fragment.add("Mul", self.row_count, self.position_count)
        if self.rank == 2:  # noqa: PLR2004  rows and positions, no rest
            return self.fragment.reshape(self.value, lead)
        rest = self.fragment.gather(self.shape, self.fragment.integers(*range(2, self.rank)), 0)
        return self.fragment.reshape(self.value, self.fragment.add("Concat", lead, rest, axis=0))

    def picked(self, places: ir.Value) -> ir.Value:
        """Returns [row, rest...]: of each row one position.

        Args:
            places: int64 [row].
        """
        if self.fragment.opset >= _GATHERS_BY_ROW:
            return self.fragment.add("GatherND", self.value, self.fragment.unsqueeze(places, [1]), batch_dims=1)
        starts = self.fragment.add("Mul", counted(self.fragment, self.row_count), self.position_count)
        return self.fragment.gather(self.merged(), self.fragment.add("Add", starts, places), 0)

    def kept(self, mask: ir.Value) -> ir.Value:
        """Returns bool [row, position]: where a mask is not zero.

        A mask of another number of elements fails at run time, in a node whose name tells what is wrong.
        """
        flags = mask if mask.dtype is ir.DataType.BOOL else self.fragment.cast(mask, DataType.BOOL)
        shape = self.fragment.gather(self.shape, self.fragment.integers(0, 1), 0)
        return self.fragment.reshape(flags, shape, role="mask")

    def beside(self, flags: ir.Value) -> ir.Value:
        """Returns flags [row, position] as [row, position, 1...], to stand beside the value."""
        rest = range(2, self.rank)
        return self.fragment.unsqueeze(flags, rest) if rest else flags


def in_front(subject: Subject, work: DataType) -> Positions:
    """Puts the positions behind the rows and before all else, all positions in one axis.

        rank 3                      [row, position, feature]      as it is
        rank 4 and more             [row, channel, y, x...]       [row, position, channel]
        axis=2 of rank 4            [row, a, position, b]         [row, position, a, b]

    Args:
        subject: what is reduced.
        work: element type to give it.
    """
    fragment, rank = subject.fragment, subject.known_rank
    axes = subject.position_axes()
    if axes == [0]:
        raise subject.invalid("axis 0 holds the rows, and a mask or 'positions' needs another")
    value = subject.cast(subject.value, subject.data_type, work)
    order = [0, *axes, *(axis for axis in range(1, rank) if axis not in axes)]
    if order != list(range(rank)):
        value = fragment.add("Transpose", value, perm=order)
    if len(axes) > 1 or (rank >= IMAGE and subject.axis() is None):
        value, rank = _one_axis(fragment, value, rank), 3
    return Positions(fragment, value, rank, fragment.add("Shape", value))


def _one_axis(fragment: Fragment, value: ir.Value, rank: int) -> ir.Value:
    """Turns [row, position..., channel] into [row, position, channel]."""
    shape = fragment.add("Shape", value)
    rows = fragment.gather(shape, fragment.integers(0), 0)
    spatial = fragment.gather(shape, fragment.integers(*range(1, rank - 1)), 0)
    channels = fragment.gather(shape, fragment.integers(rank - 1), 0)
    count = fragment.reduce("ReduceProd", spatial, [0], keepdims=True)
    return fragment.reshape(value, fragment.add("Concat", rows, count, channels, axis=0))


def counted(fragment: Fragment, count: ir.Value) -> ir.Value:
    """Returns int64 [count]: 0, 1, 2 ..."""
    one = ir.tensor(np.array([1], np.int64))
    ones = fragment.add("ConstantOfShape", count, value=one)
    return fragment.squeeze(fragment.add("NonZero", ones), 0)


def where_true(fragment: Fragment, flags: ir.Value) -> ir.Value:
    """Returns int64 [n]: the places at which flags [row, position], read row after row, are true."""
    flat = fragment.reshape(flags, fragment.integers(-1))
    return fragment.squeeze(fragment.add("NonZero", flat), 0)
