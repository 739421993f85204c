"""The reductions: from a value to operators. What each one means stands in capture_service.proto."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import Array, DataType, ReductionKind
from onnxscope_server.rewrite.positions import counted, in_front, where_true
from onnxscope_server.rewrite.subject import IMAGE, MATRIX, SEQUENCE, Subject

_DTYPES = {
    DataType.FLOAT32: np.float32,
    DataType.FLOAT64: np.float64,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
}
_LOWEST = {
    DataType.FLOAT32: -np.inf,
    DataType.FLOAT64: -np.inf,
    DataType.INT32: -(2**31),
    DataType.INT64: -(2**63),
}
_FLATTEN_TAKES_ALL = 9
_NAN_IS_TOLD = 9
_TOP_TAKES_INTEGERS = 11


def _mean(subject: Subject) -> ir.Value:
    fragment, (work, result) = subject.fragment, subject.averaging()
    if subject.mask is None:
        value = subject.cast(subject.value, subject.data_type, work)
        mean = fragment.reduce("ReduceMean", value, subject.position_axes())
        return subject.cast(mean, work, result)
    positions = in_front(subject, work)
    kept = positions.beside(positions.kept(subject.mask))
    zero = fragment.constant(_scalar(0, work))
    total = fragment.reduce("ReduceSum", fragment.add("Where", kept, positions.value, zero), [1])
    count = fragment.reduce("ReduceSum", fragment.cast(kept, work), [1])
    return subject.cast(fragment.add("Div", total, count), work, result)


def _max(subject: Subject) -> ir.Value:
    fragment, work = subject.fragment, subject.comparing()
    if subject.mask is None:
        value = subject.cast(subject.value, subject.data_type, work)
        largest = _largest(subject, value, subject.position_axes(), work)
        return subject.cast(largest, work, subject.data_type)
    positions = in_front(subject, work)
    kept = positions.beside(positions.kept(subject.mask))
    lowest = fragment.constant(_scalar(_LOWEST[work], work))
    values = fragment.add("Where", kept, positions.value, lowest)
    largest = _largest(subject, values, [1], work)
    counts = fragment.reduce("ReduceMax", fragment.cast(kept, DataType.INT32), [1])
    found = fragment.cast(counts, DataType.BOOL)
    nothing = fragment.constant(_scalar(np.nan if subject.is_float else 0, work))
    return subject.cast(fragment.add("Where", found, largest, nothing), work, subject.data_type)


def _largest(subject: Subject, value: ir.Value, axes: list[int], work: DataType) -> ir.Value:
    """Takes the maximum, NaN where a NaN is among the entries: onnxruntime's ReduceMax mostly passes it over."""
    fragment = subject.fragment
    largest = fragment.reduce("ReduceMax", value, axes)
    if not subject.is_float or fragment.opset < _NAN_IS_TOLD:
        return largest
    flags = fragment.cast(fragment.add("IsNaN", value), DataType.INT32)
    found = fragment.cast(fragment.reduce("ReduceMax", flags, axes), DataType.BOOL)
    return fragment.add("Where", found, fragment.constant(_scalar(np.nan, work)), largest)


def _first(subject: Subject) -> ir.Value:
    return _end(subject, 0)


def _last(subject: Subject) -> ir.Value:
    return _end(subject, -1)


def _end(subject: Subject, index: int) -> ir.Value:
    """Takes the first (0) or last (-1) position, with a mask of those that it keeps."""
    if subject.mask is not None:
        return _kept_end(subject, subject.mask, from_the_back=index < 0)
    axes = subject.position_axes()
    return _moved(subject, lambda value: _taken(subject, value, index, axes))


def _taken(subject: Subject, value: ir.Value, index: int, axes: list[int]) -> ir.Value:
    for axis in reversed(axes):
        value = subject.fragment.take(value, index, axis)
    return value


def _kept_end(subject: Subject, mask: ir.Value, *, from_the_back: bool) -> ir.Value:
    fragment = subject.fragment
    work = subject.comparing() if subject.is_float else subject.moving()
    positions = in_front(subject, work)
    count, places = positions.position_count, counted(fragment, positions.position_count)
    one, zero = fragment.integers(1), fragment.integers(0)
    # each place gets a number above 0 that is the larger the nearer it is to the wanted end
    nearness = fragment.add("Add", places, one) if from_the_back else fragment.add("Sub", count, places)
    scores = fragment.add("Where", positions.kept(mask), nearness, zero)
    best = fragment.reduce("ReduceMax", scores, [1])
    found = fragment.cast(best, DataType.BOOL)
    place = fragment.add("Sub", best, one) if from_the_back else fragment.add("Sub", count, best)
    place = fragment.add("Where", found, place, zero)
    picked = positions.picked(place)
    if subject.is_float:
        rest = range(1, positions.rank - 1)
        beside = fragment.unsqueeze(found, rest) if rest else found
        picked = fragment.add("Where", beside, picked, fragment.constant(_scalar(np.nan, work)))
    return subject.cast(picked, work, subject.data_type)


def _flatten(subject: Subject) -> ir.Value:
    if subject.rank == 0:
        raise subject.invalid("it is a scalar. Capture it without a reduction")
    is_float = subject.declared is not None and subject.data_type in (
        DataType.FLOAT32,
        DataType.FLOAT64,
        DataType.FLOAT16,
    )
    if subject.fragment.opset >= _FLATTEN_TAKES_ALL or is_float:
        return subject.fragment.add("Flatten", subject.value, axis=1)
    return subject.fragment.reshape(subject.value, subject.fragment.integers(0, -1))


def _positions(subject: Subject) -> ir.Value:
    positions = in_front(subject, subject.moving())
    rows = positions.merged()
    if subject.mask is not None:
        kept = where_true(subject.fragment, positions.kept(subject.mask))
        rows = subject.fragment.gather(rows, kept, 0)
    return subject.cast(rows, subject.moving(), subject.data_type)


def _spatial_mean(subject: Subject) -> ir.Value:
    if subject.known_rank < SEQUENCE:
        raise subject.invalid(f"with {subject.known_rank} axes it has no spatial ones. Leave the reduction out there")
    work, result = subject.averaging()
    value = subject.cast(subject.value, subject.data_type, work)
    mean = subject.fragment.reduce("ReduceMean", value, range(2, subject.known_rank))
    return subject.cast(mean, work, result)


def _norm(subject: Subject) -> ir.Value:
    axis = subject.axis()
    if axis is None:
        if subject.known_rank < MATRIX:
            raise subject.invalid(f"with {subject.known_rank} axes it has no features. Say axis=")
        axis = 1 if subject.known_rank >= IMAGE else subject.known_rank - 1
    work, result = subject.averaging()
    value = subject.cast(subject.value, subject.data_type, work)
    return subject.cast(subject.fragment.reduce("ReduceL2", value, [axis]), work, result)


def _index(subject: Subject) -> ir.Value:
    axis, index = subject.axis(), subject.reduction.index
    if axis is None or index is None:
        raise subject.invalid("it needs an axis and an index")
    size = subject.size(axis)
    if isinstance(size, int) and not -size <= index < size:
        raise subject.invalid(f"axis {axis} has {size} entries and none numbered {index}")
    return _moved(subject, lambda value: subject.fragment.take(value, index, axis))


def _topk(subject: Subject) -> ir.Value:
    axis, count, work = subject.axis(-1), subject.reduction.k, subject.comparing()
    if count is None or count < 1 or axis is None:
        raise subject.invalid("it needs k, the number of entries to take, at least 1")
    if subject.rank == 0:
        raise subject.invalid("it is a scalar. Capture it without a reduction")
    size = subject.size(axis)
    if isinstance(size, int) and count > size:
        raise subject.invalid(f"axis {axis} has {size} entries, fewer than the {count} asked for")
    opset = subject.fragment.opset
    if opset < _TOP_TAKES_INTEGERS and work not in (DataType.FLOAT32, DataType.FLOAT64):
        raise subject.invalid(f"for integers it needs opset 11 and the model has {opset}")
    value = subject.cast(subject.value, subject.data_type, work)
    return subject.cast(subject.fragment.top(value, count, axis), work, subject.data_type)


def _moved(subject: Subject, move: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Picks entries in a type that can be picked; of unknown types in their own."""
    if subject.declared is None:
        return move(subject.value)
    work = subject.moving()
    picked = move(subject.cast(subject.value, subject.data_type, work))
    return subject.cast(picked, work, subject.data_type)


def _scalar(number: float, data_type: DataType) -> Array:
    return np.array(number, _DTYPES[data_type])


REDUCERS: Mapping[ReductionKind, Callable[[Subject], ir.Value]] = {
    ReductionKind.MEAN: _mean,
    ReductionKind.MAX: _max,
    ReductionKind.FIRST: _first,
    ReductionKind.LAST: _last,
    ReductionKind.FLATTEN: _flatten,
    ReductionKind.POSITIONS: _positions,
    ReductionKind.SPATIAL_MEAN: _spatial_mean,
    ReductionKind.NORM: _norm,
    ReductionKind.INDEX: _index,
    ReductionKind.TOPK: _topk,
}
MASKED = frozenset(
    {
        ReductionKind.MEAN,
        ReductionKind.MAX,
        ReductionKind.FIRST,
        ReductionKind.LAST,
        ReductionKind.POSITIONS,
    }
)
