"""Rows with their labels, and what else belongs to them, as pieces that a model takes at once."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxscope.errors import DataInvalidError, ValueInvalidError
from onnxscope.probes import labels
from onnxscope.rows import Piece, Rows, is_batches
from onnxscope.v1.codec import Array

LABELS, GROUPS, WEIGHTS, TEST = "labels", "groups", "weights", "test"
_CALLED = {LABELS: "y", GROUPS: "groups", WEIGHTS: "sample_weight", TEST: "test"}
_PAIR = 2


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPiece:
    """Inputs of one run, and what belongs to their rows.

    Attributes:
        piece: the inputs.
        beside: labels, groups, weights and test flags by name, each with `piece.row_count` rows.
    """

    piece: Piece
    beside: Mapping[str, Array]


@dataclass(slots=True)
class Part:
    """A data set with what belongs to its rows; a test set of its own is a second one.

    Attributes:
        rows: cuts it.
        beside: arrays of all rows by name, without the labels where these come with the batches.
        with_labels: whether batches come as `(batch, labels)`.
        has_labels: whether there are labels at all.
        per_position: whether each position is an example.
        fill: what rows get that an array lacks, by name.
        group: number of the first row's group, where each row is one; None where groups are given, or none.
        done: rows so far.
    """

    rows: Rows
    beside: dict[str, Array]
    with_labels: bool
    has_labels: bool
    per_position: bool
    fill: Mapping[str, Any] = field(default_factory=dict)
    group: int | None = None
    done: int = 0

    @property
    def total(self) -> int | None:
        """Number of rows; None where they come lazily."""
        if not self.with_labels:
            return self.rows.total
        pairs = self.rows.data
        return sum(len(item[1]) for item in pairs) if isinstance(pairs, list | tuple) else None

    def check(self) -> None:
        """Compares lengths, where the number of rows is known.

        Raises:
            DataInvalidError: something has more or fewer rows than the data set.
        """
        if (total := self.total) is not None:
            self._compare(total)

    def pieces(self) -> Iterator[LabelledPiece]:
        """Yields the pieces in order, reading no further than they are taken."""
        if self.with_labels:
            for item in self.rows.data:
                yield from self.cut(item)
        else:
            for piece in self.rows.pieces():
                yield self._piece(piece, None, 0)
        self.end()

    def cut(self, item: Any) -> list[LabelledPiece]:
        """Returns the pieces of the next batch.

        Raises:
            DataInvalidError: labels and rows are not as many, or a batch comes without labels.
        """
        if not self.with_labels:
            return [self._piece(piece, None, 0) for piece in self.rows.cut(item)]
        if not isinstance(item, tuple | list) or len(item) != _PAIR:
            raise DataInvalidError(
                "without y the data set is an iterable of (batch, labels), and this one gives "
                f"{type(item).__name__}: give y, or pairs",
                {"what": "y"},
            )
        batch, given = item
        start = self.done
        pieces = self.rows.cut(batch)
        if not self.has_labels:
            return [self._piece(piece, None, 0) for piece in pieces]
        y = labels.of(given, per_position=self.per_position)
        count = sum(piece.row_count for piece in pieces)
        if len(y) != count:
            raise DataInvalidError(
                f"a batch has {count} rows and {len(y)} labels: give a label for each row", {"what": "y"}
            )
        return [self._piece(piece, y, start) for piece in pieces]

    def end(self) -> None:
        """Says that the data set has ended.

        Raises:
            DataInvalidError: something has more rows than it.
        """
        self._compare(self.done)

    def _piece(self, piece: Piece, y: Array | None, start: int) -> LabelledPiece:
        first, count = self.done, piece.row_count
        self.done += count
        beside = {} if y is None else {LABELS: y[first - start : first - start + count]}
        for name, array in self.beside.items():
            beside[name] = self._slice(name, array, first, count)
        if self.group is not None:
            beside[GROUPS] = np.arange(first, first + count) + self.group
        return LabelledPiece(piece, beside)

    def _slice(self, name: str, array: Array, first: int, count: int) -> Array:
        found = array[first : first + count]
        if len(found) == count:
            return found
        if name not in self.fill:
            raise DataInvalidError(
                f"{_CALLED[name]} has {len(array)} rows, and the data set more: give one for each row",
                {"what": _CALLED[name]},
            )
        return np.concatenate([found, np.full(count - len(found), self.fill[name], array.dtype)])

    def _compare(self, total: int) -> None:
        for name, array in self.beside.items():
            if len(array) > total or (len(array) < total and name not in self.fill):
                raise DataInvalidError(
                    f"{_CALLED[name]} has {len(array)} rows, and the data set {total}: give one for each row",
                    {"what": _CALLED[name]},
                )


class Labelled:
    """A data set to learn from: its parts, one behind the other.

    Args:
        X: an array, a dict of arrays, or an iterable of batches, or of `(batch, labels)` where `y` is None.
        y: labels of all rows; None for kinds that learn without, and where they come with the batches.
        cut: makes the rows of a data set.
        supervised: whether the kind learns from labels.
        per_position: whether each position is an example.
        groups: `[row]`: rows of one group are never parted.
        sample_weight: `[row]`.
        test: bool `[row]`, numbers of rows, or `(X_test, y_test)`.

    Raises:
        DataInvalidError: rows and what belongs to them are not as many.
        ValueInvalidError: an argument has no meaning.
    """

    def __init__(
        self,
        X: Any,  # noqa: N803  # the contract's name
        y: Any,
        cut: Callable[[Any], Rows],
        *,
        supervised: bool,
        per_position: bool,
        groups: Any = None,
        sample_weight: Any = None,
        test: Any = None,
    ) -> None:
        self._cut = cut
        self._supervised = supervised
        self._per_position = per_position
        train = self._part(X, y)
        self.parts = [train]
        if groups is not None:
            train.beside[GROUPS] = labels.groups_of(groups)
        elif not supervised and train.rows.is_fixed:
            # a batch has as many rows as what comes with them, and here nothing else does
            train.group = 0
        if sample_weight is not None:
            train.beside[WEIGHTS] = labels.weights_of(sample_weight)
        if isinstance(test, tuple):
            self._append(train, test)
        elif test is not None:
            train.beside[TEST] = labels.test_of(test, train.total)
            if train.total is None and np.asarray(test).dtype.kind != "b":
                train.fill = {TEST: False}
        for part in self.parts:
            part.check()

    @property
    def total(self) -> int | None:
        """Number of rows of all parts; None where they come lazily."""
        totals = [part.total for part in self.parts]
        return None if None in totals else sum(total or 0 for total in totals)

    @property
    def is_asynchronous(self) -> bool:
        """Whether a part must be awaited."""
        return any(isinstance(part.rows.data, AsyncIterable) for part in self.parts)

    def pieces(self) -> Iterator[LabelledPiece]:
        """Yields the pieces of all parts in order."""
        for part in self.parts:
            yield from part.pieces()

    def _part(self, X: Any, y: Any) -> Part:  # noqa: N803  # the contract's name
        with_labels = y is None and _may_be_pairs(X)
        if self._supervised and y is None and not with_labels:
            raise DataInvalidError(
                "labels are missing: give y, or an iterable of (batch, labels) as the data set", {"what": "y"}
            )
        if not self._supervised and y is not None:
            raise DataInvalidError("this kind learns without labels: leave y out (None)", {"what": "y"})
        if not self._supervised and not is_pairs(X):
            with_labels = False
        beside = {} if y is None else {LABELS: labels.of(y, per_position=self._per_position)}
        return Part(self._cut(X), beside, with_labels, self._supervised, self._per_position)

    def _append(self, train: Part, test: tuple[Any, ...]) -> None:
        if len(test) != _PAIR:
            raise DataInvalidError(f"test is (X_test, y_test), and this tuple has {len(test)} items", {"what": "test"})
        part = self._part(*test)
        held_out: Mapping[str, Any] = {TEST: True}
        train.beside[TEST], train.fill = np.empty(0, np.bool_), {TEST: False}
        part.beside[TEST], part.fill = np.empty(0, np.bool_), held_out
        if train.group is not None:
            raise ValueInvalidError("a kind that learns without labels takes test as a mask or numbers of rows")
        if GROUPS in train.beside:
            part.group = int(train.beside[GROUPS].max(initial=-1)) + 1
        if WEIGHTS in train.beside:
            part.beside[WEIGHTS] = np.empty(0)
            part.fill = {**held_out, WEIGHTS: 1.0}
        self.parts.append(part)


def is_pairs(X: Any) -> bool:  # noqa: N803  # the contract's name
    """Says whether a data set is a list of `(batch, labels)`."""
    return isinstance(X, list | tuple) and bool(X) and all(isinstance(i, tuple) and len(i) == _PAIR for i in X)


def _may_be_pairs(X: Any) -> bool:  # noqa: N803
    if isinstance(X, list | tuple):
        return is_pairs(X)
    return isinstance(X, AsyncIterable) or (isinstance(X, Iterable) and is_batches(X))
