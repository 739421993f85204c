"""What a reduction is applied to: a value, what is known of it, and where its axes lie."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxscope_server.domain import DataType, Dimension, Reduction, TensorType
from onnxscope_server.errors import ReductionInvalidError
from onnxscope_server.rewrite.element_types import (
    FLOATS,
    averaging_type,
    comparing_type,
    moving_type,
)
from onnxscope_server.rewrite.fragment import Fragment

MATRIX, SEQUENCE, IMAGE = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Subject:
    """A value that is reduced.

    Attributes:
        address: of the value, for errors.
        reduction: what is done.
        value: what is reduced.
        declared: its type; None where nothing is known.
        fragment: where operators are added.
        mask: [row, position], any number type; nonzero keeps. None keeps all.
    """

    address: str
    reduction: Reduction
    value: ir.Value
    declared: TensorType | None
    fragment: Fragment
    mask: ir.Value | None

    @property
    def rank(self) -> int | None:
        """Number of axes; None where it is unknown."""
        return None if self.declared is None or self.declared.shape is None else len(self.declared.shape)

    @property
    def known_rank(self) -> int:
        """Number of axes.

        Raises:
            ReductionInvalidError: it is unknown.
        """
        if self.rank is None:
            raise self.invalid("its rank is not known before it runs. Say axis=, without a mask")
        return self.rank

    @property
    def data_type(self) -> DataType:
        """Type of the elements.

        Raises:
            ReductionInvalidError: it is unknown.
        """
        if self.declared is None:
            raise self.invalid("its type is not known before it runs. Capture it without a reduction")
        return self.declared.data_type

    @property
    def is_float(self) -> bool:
        """Whether a NaN can be among its elements."""
        return self.data_type in FLOATS

    def axis(self, default: int | None = None) -> int | None:
        """Returns the axis that was asked for, counted from the front where the rank is known."""
        asked = self.reduction.axis if self.reduction.axis is not None else default
        if asked is None or self.rank is None:
            return asked
        if not -self.rank <= asked < self.rank:
            raise self.invalid(f"it has {self.rank} axes and none numbered {asked}. Say another axis=")
        return asked % self.rank

    def size(self, axis: int) -> Dimension:
        """Returns what is known of the size along an axis."""
        return None if self.declared is None or self.declared.shape is None else self.declared.shape[axis]

    def position_axes(self) -> list[int]:
        """Returns the axes of the positions.

        Raises:
            ReductionInvalidError: it has none, or its rank is unknown.
        """
        axis = self.axis()
        if axis is not None:
            return [axis]
        if self.known_rank < SEQUENCE:
            raise self.invalid(
                f"with {self.known_rank} axes it has no positions. Leave the reduction out there, or say axis="
            )
        return [1] if self.known_rank == SEQUENCE else list(range(2, self.known_rank))

    def averaging(self) -> tuple[DataType, DataType]:
        """Returns the type to average in and the type of the result."""
        work = averaging_type(self.data_type)
        if work is None:
            raise self.invalid(f"it holds {self.data_type.name.lower()}, which has no mean")
        return work, self.data_type if self.is_float else DataType.FLOAT32

    def comparing(self) -> DataType:
        """Returns the type to compare in."""
        work = comparing_type(self.data_type)
        if work is None:
            raise self.invalid(f"onnxruntime compares no {self.data_type.name.lower()}")
        return work

    def moving(self) -> DataType:
        """Returns the type to pick entries in."""
        return moving_type(self.data_type)

    def cast(self, value: ir.Value, have: DataType, want: DataType) -> ir.Value:
        """Changes the type of elements where it is another."""
        return value if have is want else self.fragment.cast(value, want)

    def invalid(self, why: str) -> ReductionInvalidError:
        """Returns the error that says why this reduction does not fit."""
        return invalid(self.address, self.reduction, why)


def invalid(address: str, reduction: Reduction, why: str) -> ReductionInvalidError:
    """Returns the error that says why a reduction does not fit a value."""
    kind = reduction.kind.value
    return ReductionInvalidError(f"{kind!r} does not fit {address!r}: {why}.", address=address, reduction=kind)
