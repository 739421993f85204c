"""What is known of a value while the number of rows is left open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from onnxscope_server.domain import Array, RowAxis


class MixedRowsError(Exception):
    """Some value is not made of rows that are computed each on its own; the text says which operator does that."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number that grows with the rows: so many of each."""

    per_row: int


# None: nothing is known, not even that it stays the same whatever the number of rows is
Size: TypeAlias = int | Count | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a value.

    It has rows (`axis`), or it is the same whatever the rows are (`is_fixed`), or it counts rows: its elements depend
    on how many there are and on nothing that is in them.

    Attributes:
        data_type: ONNX's number of the element type; None where it is unknown.
        shape: sizes, those along the rows as `Count`; None where the rank is unknown.
        axis: along which the rows lie, one behind the other; None for a value without rows.
        content: the elements of a small value without rows; an array of objects where some are `Count` or None.
    """

    data_type: int | None
    shape: tuple[Size, ...] | None
    axis: int | None = None
    content: Array | None = None

    @property
    def rank(self) -> int | None:
        """Number of axes."""
        return None if self.shape is None else len(self.shape)

    @property
    def has_rows(self) -> bool:
        """Whether it has an axis of rows."""
        return self.axis is not None

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same whatever the rows are."""
        if self.axis is not None:
            return False
        if self.content is None or self.content.dtype != object:
            return True
        return not any(map(_is_open, self.content.reshape(-1).tolist()))

    @property
    def rows(self) -> RowAxis | None:
        """Where its rows are."""
        if self.axis is None or self.shape is None:
            return None
        count = self.shape[self.axis]
        assert isinstance(count, Count)  # noqa: S101  # what an axis of rows is
        return RowAxis(self.axis, count.per_row)


def product(sizes: Iterable[Size]) -> int | None:
    """Returns the product of sizes that are all known numbers, None otherwise."""
    result = 1
    for size in sizes:
        if not isinstance(size, int):
            return None
        result *= size
    return result


def _is_open(element: object) -> bool:
    return element is None or isinstance(element, Count)
