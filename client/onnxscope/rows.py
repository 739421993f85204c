"""Rows: a data set as pieces that a model takes at once."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope import decode, inputs
from onnxscope.errors import InputMismatchError, ReductionInvalidError, ValueInvalidError
from onnxscope.v1 import model_service_pb2 as pb
from onnxscope.v1.codec import Array, Value


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
        if self._carried and not self._is_batches and not isinstance(X, AsyncIterable):
            raise ValueInvalidError("with carry= the batches are steps in time: give a list or an iterator of batches")

    @property
    def is_fixed(self) -> bool:
        """Whether the model prescribes the number of rows of a run."""
        return self._fixed is not None

    @property
    def total(self) -> int | None:
        """Number of rows; None where they come lazily."""
        if isinstance(self.data, list | tuple) and self._is_batches and not self._carried:
            return sum(map(_row_count, self.data))
        if self._is_batches or isinstance(self.data, AsyncIterable):
            return None
        return self._data_rows()[1]

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
            self._piece(_filled(given, with_rows, start, self._fixed), min(self._fixed, count - start))
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
        with_rows, count = self._data_rows()
        if self._fixed and not self._preprocess:
            if count:
                yield self.data
            return
        for start in range(0, count, self._size):
            if isinstance(self.data, Mapping):
                yield _part(self.data, with_rows, start, self._size)
            else:
                yield self.data[start : start + self._size]

    def _data_rows(self) -> tuple[set[str], int]:
        """Returns which arrays of a whole data set hold rows, and how many."""
        if self._preprocess:  # what the arrays are is only known behind it: the longest are rows
            count = _row_count(self.data)
            given = self.data if isinstance(self.data, Mapping) else {}
            return {name for name, value in given.items() if _length(value) == count}, count
        given = inputs.named(self.data, self._model)
        if self._fixed:
            off, count = _off_size(given, self._model, self._fixed)
            return off, count if off else self._fixed
        return _open_rows(given, self._model, self._size)


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


def _first_extents(model: pb.Model) -> dict[str, int | str | None]:
    """Returns what is declared of the first axis of every input that has one."""
    found = {}
    for spec in (*model.inputs, *model.optional_inputs):
        if spec.type.WhichOneof("type") == "tensor":
            shape = decode.shape(spec.type.tensor)
            if shape != ():
                found[spec.name] = shape[0] if shape else None
    return found


def _fixed_size(model: pb.Model) -> int | None:
    """Returns the batch dimension that a model prescribes: where the first axis of no input is open."""
    extents = _first_extents(model)
    sizes = [extents[spec.name] for spec in model.inputs if spec.name in extents]
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    return int(sizes[0] or 0)


def _rows_of(given: Mapping[str, Any], model: pb.Model) -> int:
    """Returns the number of rows of a batch whose size the model leaves open.

    Raises:
        InputMismatchError: two inputs whose first axis has the same symbol have different lengths.
    """
    extents = _first_extents(model)
    lengths = {name: _length(given[name]) for name, extent in extents.items() if name in given}
    open_ones = [name for name in lengths if not isinstance(extents[name], int)]
    for name in open_ones:
        twin = next((other for other in open_ones if extents[other] == extents[name] and extents[name]), name)
        if lengths[twin] != lengths[name]:
            raise _disagreement({twin: lengths[twin], name: lengths[name]})
    return lengths[open_ones[0]] if open_ones else 1


def _open_rows(given: Mapping[str, Any], model: pb.Model, size: int) -> tuple[set[str], int]:
    """Returns the inputs of a whole data set that hold rows, where the model leaves their number open.

    Raises:
        InputMismatchError: the data set must be cut, and the inputs hold different numbers of rows.
    """
    count = _rows_of(given, model)
    extents = _first_extents(model)
    lengths = {
        name: _length(given[name]) for name, extent in extents.items() if name in given and not isinstance(extent, int)
    }
    if count > size and set(lengths.values()) != {count}:
        raise _disagreement(lengths)
    return {name for name, length in lengths.items() if length == count}, count


def _disagreement(lengths: Mapping[str, int]) -> InputMismatchError:
    listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
    first = next(iter(lengths))
    return InputMismatchError(
        f"the inputs disagree on the number of rows: {listed}",
        {"input": first, "expected": str(lengths[first]), "got": listed},
    )


def _off_size(given: Mapping[str, Any], model: pb.Model, fixed: int) -> tuple[set[str], int]:
    """Returns the inputs that hold more or fewer rows than the model prescribes, and how many.

    Raises:
        InputMismatchError: two of them hold different numbers of rows.
    """
    found = {
        name: _length(given[name])
        for name, extent in _first_extents(model).items()
        if name in given and extent == fixed and _length(given[name]) != fixed
    }
    if len(set(found.values())) > 1:
        raise _disagreement(found)
    return set(found), next(iter(found.values()), 0)


def _part(given: Mapping[str, Any], with_rows: set[str], start: int, size: int) -> dict[str, Any]:
    """Returns some of the rows; what holds none stays whole."""
    return {name: value[start : start + size] if name in with_rows else value for name, value in given.items()}


def _filled(given: Mapping[str, Any], with_rows: set[str], start: int, size: int) -> dict[str, Any]:
    """Returns some of the rows, the last one repeated until there are `size`."""
    part = _part(given, with_rows, start, size)
    return {name: pad(value, size) if name in with_rows else value for name, value in part.items()}


def _row_count(data: Any) -> int:
    if isinstance(data, Mapping):
        return max((_length(value) for value in data.values()), default=0)
    return _length(data)


def _length(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 1
