"""Rows: a data set as pieces that a model takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope import describe, inputs
from onnxscope.errors import InputMismatchError, ReductionInvalidError, ValueInvalidError
from onnxscope.v1 import model_service_pb2 as pb
from onnxscope.v1.codec import Array, Value
from onnxscope.v1.tensor_pb2 import ValueType


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Inputs of one run.

    Attributes:
        values: by name, checked.
        first_row: number of rows of the data set before these.
        row_count: how many rows are the caller's.
        padded_count: how many rows run; above `row_count` where the last one was repeated to fill a
            fixed batch dimension.
    """

    values: Mapping[str, Value]
    first_row: int
    row_count: int
    padded_count: int

    @property
    def is_padded(self) -> bool:
        """Whether rows were added."""
        return self.padded_count > self.row_count

    def rows_of(self, mask: Array) -> Array:
        """Returns the rows of a mask of the whole data set that belong to this piece, padded alike.

        Raises:
            ReductionInvalidError: the mask has fewer rows than the data set.
        """
        part = mask[self.first_row : self.first_row + self.row_count]
        if len(part) < self.row_count:
            raise ReductionInvalidError(f"a mask has {len(mask)} rows, and the data set more: give it a row for each")
        padded: Array = pad(part, self.padded_count)
        return padded


class Rows:
    """A data set, cut for one model.

    A batch of an iterable is run as it is, unless the model's batch dimension is fixed: then it is
    cut into pieces of that size.

    Args:
        X: an array, a dict of arrays, or an iterable of such batches, which is read lazily.
        model: that takes the rows.
        batch_size: rows at once, where `X` is not batches already and the model leaves it open.
        preprocess: called with every batch before it is checked; returns an array or a dict.
        carried: inputs that a stream feeds back. Batches are steps then, not rows: each is run whole.

    Raises:
        ValueInvalidError: `batch_size` is below one, or an array is given where inputs are carried.
    """

    def __init__(
        self,
        X: Any,  # noqa: N803  # the contract's name
        model: pb.Model,
        *,
        batch_size: int = 32,
        preprocess: Callable[[Any], Any] | None = None,
        carried: Iterable[str] = (),
    ) -> None:
        if batch_size < 1:
            raise ValueInvalidError(f"batch_size must be at least 1, not {batch_size}")
        self.data = X
        self._model = model
        self._fixed = _fixed_size(model)
        self._size = self._fixed or batch_size
        self._preprocess = preprocess
        self._carried = frozenset(carried)
        self._is_batches = is_batches(X)
        self._next_row = 0
        self._is_first = True
        if self._carried and not self._is_batches and not hasattr(X, "__aiter__"):
            raise ValueInvalidError("with carry= the batches are steps in time: give a list or an iterator of batches")

    @property
    def total(self) -> int | None:
        """Number of rows; None where they come lazily."""
        if not self._is_batches:
            return None if hasattr(self.data, "__aiter__") else _row_count(self.data)
        if isinstance(self.data, list | tuple) and not self._carried:
            return sum(map(_row_count, self.data))
        return None

    def pieces(self) -> Iterator[Piece]:
        """Yields the pieces in order, reading no further than they are taken.

        Raises:
            InputMismatchError: a batch is not what the model declares.
        """
        for batch in self._batches():
            yield from self.cut(batch)

    def cut(self, batch: Any) -> list[Piece]:
        """Returns the pieces of the next batch."""
        prepared = self._preprocess(batch) if self._preprocess else batch
        if self._carried:
            return [self._step(prepared)]
        given = inputs.named(prepared, self._model)
        if self._fixed is None:
            return [self._piece(given, _rows_of(given, self._model))]
        with_rows, count = _off_size(given, self._model, self._fixed)
        if not with_rows:
            return [self._piece(given, self._fixed)]
        return [
            self._piece(_part(given, with_rows, start, self._fixed), min(self._fixed, count - start))
            for start in range(0, count, self._fixed)
        ]

    def _piece(self, given: Mapping[str, Any], row_count: int) -> Piece:
        values = inputs.check(given, self._model)
        piece = Piece(values, self._next_row, row_count, self._fixed or row_count)
        self._next_row += row_count
        return piece

    def _step(self, batch: Any) -> Piece:
        may_lack = () if self._is_first else self._carried
        self._is_first = False
        first = next((spec.name for spec in self._model.inputs if spec.name not in self._carried), None)
        given = batch if isinstance(batch, Mapping) or first is None else {first: batch}
        values = inputs.check(given, self._model, may_lack=may_lack)
        piece = Piece(values, self._next_row, 1, 1)
        self._next_row += 1
        return piece

    def _batches(self) -> Iterator[Any]:
        if self._is_batches:
            yield from self.data
            return
        count = _row_count(self.data)
        for start in range(0, count, self._size):
            yield _slice(self.data, start, start + self._size, count)


def is_batches(X: Any) -> bool:  # noqa: N803
    """Says whether a data set comes as batches: an iterator, or a list of arrays or dicts."""
    if isinstance(X, Mapping | np.ndarray | str | bytes) or hasattr(X, "__array__"):
        return False
    if isinstance(X, list | tuple):
        return bool(X) and (isinstance(X[0], Mapping) or _is_array(X[0]))
    return isinstance(X, Iterable)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, np.generic)


def pad(rows: Any, size: int) -> Any:
    """Returns rows with the last one repeated until there are `size`; a list stays a list."""
    missing = size - len(rows)
    if missing <= 0:
        return rows
    if isinstance(rows, list | tuple):
        return [*rows, *[rows[-1]] * missing]
    array = np.asarray(rows)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _fixed_size(model: pb.Model) -> int | None:
    """Returns the batch dimension that a model prescribes: where the first axis of no input is open."""
    sizes = []
    for spec in model.inputs:
        if spec.type.WhichOneof("type") != "tensor" or not spec.type.tensor.shape.dimensions:
            continue
        first = spec.type.tensor.shape.dimensions[0]
        if first.WhichOneof("extent") != "size":
            return None
        sizes.append(first.size)
    return sizes[0] if sizes and sizes[0] > 0 else None


def _first_extent(declared: ValueType) -> int | str | None:
    """Returns what a type says of its first axis; None also where there is no such axis."""
    if declared.WhichOneof("type") != "tensor":
        return None
    shape = describe.shape(declared.tensor)
    return shape[0] if shape else None


def _rows_of(given: Mapping[str, Any], model: pb.Model) -> int:
    """Returns the number of rows of a batch whose size the model leaves open.

    Raises:
        InputMismatchError: two inputs that must have as many rows don't.
    """
    seen: dict[str, tuple[str, int]] = {}
    count = None
    for spec in model.inputs:
        extent = _first_extent(spec.type)
        if spec.name not in given or isinstance(extent, int):
            continue
        length = _length(given[spec.name])
        count = length if count is None else count
        if isinstance(extent, str):
            other, expected = seen.setdefault(extent, (spec.name, length))
            if expected != length:
                raise InputMismatchError(
                    f"the inputs disagree on the number of rows: {other!r} has {expected}, {spec.name!r} has {length}",
                    {"input": spec.name, "expected": str(expected), "got": str(length)},
                )
    return 1 if count is None else count


def _off_size(given: Mapping[str, Any], model: pb.Model, fixed: int) -> tuple[set[str], int]:
    """Returns the inputs that hold more or fewer rows than the model prescribes, and how many.

    Raises:
        InputMismatchError: two of them hold different numbers of rows.
    """
    extents = {spec.name: _first_extent(spec.type) for spec in model.inputs}
    found = {
        name: _length(value) for name, value in given.items() if extents.get(name) == fixed and _length(value) != fixed
    }
    if len(set(found.values())) > 1:
        raise InputMismatchError(
            "the inputs disagree on the number of rows: "
            + ", ".join(f"{name!r} has {length}" for name, length in found.items()),
            {"input": next(iter(found))},
        )
    return set(found), next(iter(found.values()), 0)


def _part(given: Mapping[str, Any], with_rows: set[str], start: int, size: int) -> dict[str, Any]:
    """Returns the inputs of one piece; the last row is repeated until the piece is full."""
    part = dict(given)
    for name in with_rows:
        part[name] = pad(given[name][start : start + size], size)
    return part


def _row_count(data: Any) -> int:
    if isinstance(data, Mapping):
        return max((_length(value) for value in data.values()), default=0)
    return _length(data)


def _length(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 1


def _slice(data: Any, start: int, stop: int, count: int) -> Any:
    if isinstance(data, Mapping):
        return {name: _slice(value, start, stop, count) for name, value in data.items()}
    return data[start:stop] if _length(data) == count and hasattr(data, "__getitem__") else data
