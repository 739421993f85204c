"""What hook points in bodies held, from what the graph's outputs hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxscope_server.domain import (
    Each,
    Output,
    Ragged,
    Reading,
    SequenceType,
    Shaped,
    Taken,
    TensorType,
    Value,
    ValueType,
)
from onnxscope_server.run.values import DTYPES


def outputs_read(reading: Reading) -> Iterator[str]:
    """Yields the names of the graph outputs that a reading needs."""
    match reading:
        case Output(name):
            yield name
        case Each(item):
            yield from outputs_read(item)
        case Taken(one, other, _) | Ragged(one, other, _) | Shaped(one, other, _):
            yield from outputs_read(one)
            yield from outputs_read(other)


def read(reading: Reading, outputs: Mapping[str, Value], type_: ValueType | None) -> Value:
    """Puts together what a hook point held.

    Args:
        reading: how.
        outputs: of the run, by name.
        type_: what is known of the result's type.

    Returns:
        The value; of iterations an array with their axis first where all are of one shape, a list otherwise; None for
        a branch that was not taken.
    """
    return _joined(reading, _raw(reading, outputs), type_)


def _raw(reading: Reading, outputs: Mapping[str, Value]) -> Any:
    """Returns lists, or arrays, nested as the iterations are."""
    match reading:
        case Output(name):
            return outputs[name]
        case Each(item):
            return _raw(item, outputs)
        case Taken(flag, value, outer):
            return _paired(outer, _if_taken, _raw(flag, outputs), _raw(value, outputs))
        case Ragged(values, counts, outer):
            return _paired(outer, _split, _raw(values, outputs), _raw(counts, outputs))
        case Shaped(elements, shape, outer):
            return _paired(outer, _shaped, _raw(elements, outputs), _raw(shape, outputs))


def _paired(levels: int, function: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    if not levels:
        return function(one, other)
    pairs = zip(_items(one), _items(other), strict=True)
    return [_paired(levels - 1, function, *pair) for pair in pairs]


def _if_taken(flag: Any, value: Any) -> Any:
    return value if bool(flag) else None


def _shaped(elements: Any, shape: Any) -> Any:
    # a branch that was not taken has neither; `Taken` leaves it out
    return elements.reshape(shape) if elements.size == np.prod(shape) else elements


def _split(values: Any, counts: Any) -> list[Any]:
    ends = list(itertools.accumulate(int(count) for count in _items(counts)))
    return [values[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


def _items(values: Any) -> Sequence[Any]:
    # not iteration, which makes scalars of a vector's elements
    return [values[index, ...] for index in range(len(values))] if isinstance(values, np.ndarray) else values


def _joined(reading: Reading, raw: Any, type_: ValueType | None) -> Value:
    if raw is None or not isinstance(reading, Each | Taken):
        kept: Value = raw
        return kept
    if isinstance(reading, Taken):
        return _joined(reading.value, raw, type_)
    if isinstance(raw, np.ndarray):
        return raw
    items = [_joined(reading.item, item, _of_one(type_)) for item in raw]
    if not items:
        return _none_at_all(type_)
    if all(isinstance(item, np.ndarray) for item in items):
        kinds = {(item.shape, item.dtype) for item in items if isinstance(item, np.ndarray)}
        if len(kinds) == 1:
            return np.stack(items)  # type: ignore[arg-type]  # all of them are arrays
    return items


def _of_one(type_: ValueType | None) -> ValueType | None:
    if isinstance(type_, TensorType):
        return TensorType(type_.data_type, type_.shape[1:] if type_.shape else None)
    return type_.element if isinstance(type_, SequenceType) else None


def _none_at_all(type_: ValueType | None) -> Value:
    if not isinstance(type_, TensorType):
        return []
    sizes = [size if isinstance(size, int) else 0 for size in type_.shape or (0,)]
    return np.zeros((0, *sizes[1:]), DTYPES[type_.data_type])
