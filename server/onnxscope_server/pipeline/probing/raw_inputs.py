"""The raw input of a model as examples: what a probe's score is compared with, and what control tasks go by.

Numbers are flattened. Token ids and texts are counted by value in a fixed number of columns; at one position that is a
one in the column of its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxscope_server.domain import Array, Value
from onnxscope_server.probe_domain import Rows as RowsProtocol

HASHED = 1024
_MOST_COLUMNS = 4096
_TOKENS = "iOUS"
_TOKEN_BYTES = 4
_SALT = 389


class RawInputs:
    """Reads the raw input of batch after batch.

    Args:
        axes: the batch axis of each input that has rows; where nothing is known of any, it is the first.
        masks: names of inputs that are masks of reductions.
        seed: of the projection of wide inputs.
    """

    def __init__(self, axes: Mapping[str, int], masks: frozenset[str], seed: int) -> None:
        self._axes = axes
        self._masks = masks
        self._seed = seed
        self._ids_of: str | None = None
        # of rows and of positions
        self._widths: dict[str, int] = {}
        self._projections: dict[str, _Projection] = {}
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        return tuple(self._notes)

    def ids(self, inputs: Mapping[str, Value]) -> Array | None:
        """Returns token ids, or numbers that stand for texts, int64 [row, position]; None where no input holds them.

        Of several inputs the one with the most different values is taken: the others are masks and segments.
        """
        found = {name: value for name, value in self._rows(inputs) if _holds_tokens(value) and value.ndim <= 2}  # noqa: PLR2004
        if self._ids_of is None and found:
            self._ids_of = max(found, key=lambda name: len(np.unique(_numbers(found[name]))))
        value = found.get(self._ids_of or "")
        return None if value is None else _numbers(value).reshape(len(value), -1)

    def of_rows(self, inputs: Mapping[str, Value]) -> Array | None:
        """Returns the raw input of each row, float32 [row, feature]; None where there is nothing to flatten."""
        numbers, counts = [], None
        for index, (name, value) in enumerate(self._rows(inputs)):
            if not _holds_tokens(value):
                numbers.append(value.reshape(len(value), -1).astype(np.float32))
            elif name not in self._masks:
                salted = _numbers(value).reshape(len(value), -1) + index * _SALT
                if salted.size and (int(salted.max()) >= HASHED or int(salted.min()) < 0):
                    self._note(f"for the score on the input, token ids were counted modulo {HASHED}")
                if salted.shape[1] > 1:
                    self._note(
                        "for the score on the input, token ids were counted: where in a row they are is not in it"
                    )
                counts = (0 if counts is None else counts) + _counted(salted)
        flat = self._fitted("rows", np.concatenate(numbers, axis=1)) if numbers else None
        parts = [part for part in (flat, counts) if part is not None]
        return np.concatenate(parts, axis=1) if parts else None

    def of_positions(self, inputs: Mapping[str, Value], width: int) -> Array | None:
        """Returns the raw input of each position, float32 [row, position, feature]; None where it has none of its own.

        Args:
            inputs: of the model.
            width: positions of a row.
        """
        numbers = [
            value.reshape(len(value), width, -1).astype(np.float32)
            for _, value in self._rows(inputs)
            if not _holds_tokens(value) and value.ndim > 1 and value.shape[1] == width
        ]
        if not numbers:
            return None
        merged = np.concatenate(numbers, axis=2)
        rows, _, features = merged.shape
        return self._fitted("positions", merged.reshape(-1, features)).reshape(rows, width, -1)

    def _rows(self, inputs: Mapping[str, Value]) -> Iterator[tuple[str, Array]]:
        for name, value in sorted(inputs.items()):
            axis = self._axes.get(name) if self._axes else 0
            if isinstance(value, np.ndarray) and axis is not None and value.ndim > axis and value.dtype.kind != "c":
                yield name, np.moveaxis(value, axis, 0)

    def _fitted(self, what: str, flat: Array) -> Array:
        """Makes rows, or positions, alike and finite, and narrower where they are very wide."""
        features = flat.shape[1]
        width = self._widths.setdefault(what, features)
        if not np.isfinite(flat).all():
            self._note("the input holds NaN or infinity: for the score on it, NaN counts as 0")
            flat = np.nan_to_num(flat)
        if features != width:
            self._note(f"the input's {what} differ in length: they were cut, or filled with zeros, to {width} numbers")
            flat = flat[:, :width] if features > width else np.pad(flat, ((0, 0), (0, width - features)))
        if width <= _MOST_COLUMNS:
            return flat
        if what not in self._projections:
            self._projections[what] = _Projection.drawn(width, self._seed)
            self._note(
                f"for the score on the input and for control types, its {width} numbers were projected at random to "
                f"{HASHED}"
            )
        return self._projections[what](flat)

    def _note(self, text: str) -> None:
        self._notes[text] = None


@dataclass(frozen=True, slots=True, eq=False)
class OneHot(RowsProtocol):
    """Token ids as rows: a one in the column of each id, made when it is asked for.

    Attributes:
        columns: int64 [example].
        width: number of columns.
    """

    columns: Array
    width: int

    @classmethod
    def of(cls, ids: Array) -> OneHot:
        """Makes it of ids; only columns that some id has are there."""
        found, columns = np.unique(ids % HASHED, return_inverse=True)
        return cls(columns.reshape(-1), max(1, len(found)))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples and of columns."""
        return len(self.columns), self.width

    def take(self, examples: Array) -> Array:
        """As `Rows.take`."""
        made = np.zeros((len(examples), self.width), np.float32)
        made[np.arange(len(examples)), self.columns[examples]] = 1.0
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """Rows of which each stands for several examples.

    Attributes:
        rows: what there is of each row.
        row: int64 [example].
    """

    rows: RowsProtocol
    row: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples and of features."""
        return len(self.row), self.rows.shape[1]

    def take(self, examples: Array) -> Array:
        """As `Rows.take`."""
        return self.rows.take(self.row[examples])

    def blocks(self, examples: Array, size: int) -> Iterator[Array]:
        """As `Rows.blocks`."""
        yield from self.rows.blocks(self.row[examples], size)


@dataclass(frozen=True, slots=True, eq=False)
class _Projection:
    """A sparse random projection: each column is added to, or taken from, one of `HASHED`."""

    order: Array
    starts: Array
    signs: Array

    @classmethod
    def drawn(cls, width: int, seed: int) -> _Projection:
        rng = np.random.default_rng(seed)
        order = rng.permutation(width)
        starts = np.linspace(0, width, HASHED, endpoint=False).astype(np.int64)
        return cls(order, starts, rng.choice(np.array([-1.0, 1.0], np.float32), width))

    def __call__(self, flat: Array) -> Array:
        mixed: Array = np.add.reduceat(flat[:, self.order] * self.signs, self.starts, axis=1)
        return mixed


def _holds_tokens(value: Array) -> bool:
    """Tells whether an array holds ids or texts: what is narrower than int32, or a float, are numbers."""
    return value.dtype.kind in _TOKENS and (value.dtype.kind != "i" or value.dtype.itemsize >= _TOKEN_BYTES)


def _numbers(value: Array) -> Array:
    """Returns ids as int64; of texts a number for each that is the same in every run."""
    if value.dtype.kind == "i":
        return value.astype(np.int64)
    texts, where = np.unique(value.astype(str), return_inverse=True)
    numbers = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) for text in texts.tolist()]
    return np.array(numbers, np.int64)[where].reshape(value.shape)


def _counted(ids: Array) -> Array:
    """Returns how often each id stands in a row, modulo `HASHED`: float32 [row, HASHED]."""
    rows = len(ids)
    places = (ids % HASHED) + np.arange(rows)[:, None] * HASHED
    found = np.bincount(places.reshape(-1), minlength=rows * HASHED).reshape(rows, HASHED)
    return found.astype(np.float32)
