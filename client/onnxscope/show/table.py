"""Lists that are tables when shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from onnxscope.show import tables

T = TypeVar("T")


class Table(Sequence[T], Generic[T]):
    """A list that is a table when shown: shortened by `repr`, whole by `print`."""

    _columns: Sequence[str] = ()
    _noun = "rows"

    def __init__(self, items: Iterable[T]) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __str__(self) -> str:
        return tables.text(self._columns, [self._row(item) for item in self._items])

    def __repr__(self) -> str:
        table = tables.text(self._columns, [self._row(item) for item in self._items], max_rows=tables.MAX_ROWS)
        return f"{table}\n{len(self)} {self._noun}"

    def _repr_html_(self) -> str:
        rows = [self._row(item) for item in self._items]
        return tables.as_html(self._columns, rows, caption=f"{len(self)} {self._noun}", max_rows=tables.MAX_ROWS)

    def _row(self, item: T) -> Sequence[str]:
        raise NotImplementedError
