"""What a reduction makes of a type; see `ReductionKind` in capture_service.proto for the axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from onnxscope_server.domain import DataType, Dimension, Reduction, ReductionKind, Shape, TensorType, ValueType
from onnxscope_server.errors import ReductionInvalidError
from onnxscope_server.plan.element_types import FLOATS, WITHOUT_MEAN, WITHOUT_ORDER, name_of

_MATRIX, _SEQUENCE, _IMAGE = 2, 3, 4
_AVERAGING = (ReductionKind.MEAN, ReductionKind.SPATIAL_MEAN, ReductionKind.NORM)
_COMPARING = (ReductionKind.MAX, ReductionKind.TOPK)
_MASKED = frozenset(
    {ReductionKind.MEAN, ReductionKind.MAX, ReductionKind.FIRST, ReductionKind.LAST, ReductionKind.POSITIONS}
)
_WITH_AXIS = frozenset(ReductionKind) - {ReductionKind.FLATTEN, ReductionKind.SPATIAL_MEAN}


class _Invalid(Exception):  # noqa: N818 -- it is an answer inside this module, and becomes an error with an address
    """A reduction does not fit; the text says why."""


def reduced(address: str, reduction: Reduction, type_: ValueType | None) -> ValueType | None:
    """Returns the type of a reduced value.

    Args:
        address: of the value, for errors.
        reduction: what is done to it.
        type_: its type as far as it is known.

    Returns:
        The type as far as it is known.

    Raises:
        ReductionInvalidError: the reduction cannot be done to a value of that type, or its parameters contradict it.
    """
    try:
        _check_parameters(reduction)
        return None if type_ is None else _reduced(reduction, type_)
    except _Invalid as why:
        raise ReductionInvalidError(
            f"{reduction.kind.value!r} does not fit {address!r}: {why}.",
            address=address,
            reduction=reduction.kind.value,
        ) from None


def _reduced(reduction: Reduction, type_: ValueType) -> ValueType:
    if not isinstance(type_, TensorType) or type_.sparse:
        raise _Invalid("it is not an array. Capture it without a reduction")
    data_type = _data_type(reduction.kind, type_.data_type)
    if type_.shape is None:
        return TensorType(data_type)
    return TensorType(data_type, _SHAPES[reduction.kind](reduction, type_.shape))


def _check_parameters(reduction: Reduction) -> None:
    kind = reduction.kind
    if _masked(reduction) and kind not in _MASKED:
        raise _Invalid("it takes no mask")
    if reduction.mask_input is not None and reduction.mask_value is not None:
        raise _Invalid("give one mask")
    if reduction.axis is not None and kind not in _WITH_AXIS:
        raise _Invalid("it takes no axis")
    if kind is ReductionKind.INDEX and (reduction.axis is None or reduction.index is None):
        raise _Invalid("it needs an axis and an index")
    if kind is not ReductionKind.INDEX and reduction.index is not None:
        raise _Invalid("it takes no index")
    if kind is ReductionKind.TOPK and (reduction.k is None or reduction.k < 1):
        raise _Invalid("it needs k, the number of entries to take, at least 1")
    if kind is not ReductionKind.TOPK and reduction.k is not None:
        raise _Invalid("it takes no k")


def _masked(reduction: Reduction) -> bool:
    return reduction.mask_input is not None or reduction.mask_value is not None


def _data_type(kind: ReductionKind, data_type: DataType) -> DataType:
    if kind in _AVERAGING:
        if data_type in WITHOUT_MEAN:
            raise _Invalid(f"it holds {name_of(data_type)}, which has no mean")
        return data_type if data_type in FLOATS else DataType.FLOAT32
    if kind in _COMPARING and data_type in WITHOUT_ORDER:
        raise _Invalid(f"onnxruntime compares no {name_of(data_type)}")
    return data_type


def _axis(reduction: Reduction, shape: Shape, default: int | None = None) -> int | None:
    asked = default if reduction.axis is None else reduction.axis
    if asked is None:
        return None
    if not -len(shape) <= asked < len(shape):
        if not shape:
            raise _Invalid("it is a scalar. Capture it without a reduction")
        raise _Invalid(f"it has {len(shape)} axes and none numbered {asked}. Say another axis=")
    return asked % len(shape)


def _position_axes(reduction: Reduction, shape: Shape) -> list[int]:
    axis = _axis(reduction, shape)
    if axis is not None:
        if axis == 0 and (_masked(reduction) or reduction.kind is ReductionKind.POSITIONS):
            raise _Invalid("axis 0 holds the rows, and a mask or 'positions' needs another")
        return [axis]
    if len(shape) < _SEQUENCE:
        raise _Invalid(f"with {len(shape)} axes it has no positions. Leave the reduction out there, or say axis=")
    return [1] if len(shape) == _SEQUENCE else list(range(2, len(shape)))


def _without(shape: Shape, axes: Iterable[int]) -> Shape:
    gone = set(axes)
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def _product(sizes: Iterable[Dimension]) -> Dimension:
    known = list(sizes)
    if len(known) == 1:
        return known[0]
    numbers = [size for size in known if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(known) else None


def _pooled(reduction: Reduction, shape: Shape) -> Shape:
    return _without(shape, _position_axes(reduction, shape))


def _flattened(_reduction: Reduction, shape: Shape) -> Shape:
    if not shape:
        raise _Invalid("it is a scalar. Capture it without a reduction")
    return (shape[0], _product(shape[1:]))


def _positions(reduction: Reduction, shape: Shape) -> Shape:
    axes = _position_axes(reduction, shape)
    count = None if _masked(reduction) else _product(shape[axis] for axis in (0, *axes))
    return (count, *_without(shape, (0, *axes)))


def _spatial(_reduction: Reduction, shape: Shape) -> Shape:
    if len(shape) < _SEQUENCE:
        raise _Invalid(f"with {len(shape)} axes it has no spatial ones. Leave the reduction out there")
    return shape[:2]


def _norm(reduction: Reduction, shape: Shape) -> Shape:
    axis = _axis(reduction, shape)
    if axis is None:
        if len(shape) < _MATRIX:
            raise _Invalid(f"with {len(shape)} axes it has no features. Say axis=")
        axis = 1 if len(shape) >= _IMAGE else len(shape) - 1
    return _without(shape, [axis])


def _indexed(reduction: Reduction, shape: Shape) -> Shape:
    axis, index = _axis(reduction, shape, -1), reduction.index or 0
    size = shape[axis or 0]
    if isinstance(size, int) and not -size <= index < size:
        raise _Invalid(f"axis {axis} has {size} entries and none numbered {index}")
    return _without(shape, [axis or 0])


def _top(reduction: Reduction, shape: Shape) -> Shape:
    axis, count = _axis(reduction, shape, -1) or 0, reduction.k or 1
    size = shape[axis]
    if isinstance(size, int) and count > size:
        raise _Invalid(f"axis {axis} has {size} entries, fewer than the {count} asked for")
    return (*shape[:axis], count, *shape[axis + 1 :])


_SHAPES: dict[ReductionKind, Callable[[Reduction, Shape], Shape]] = {
    ReductionKind.MEAN: _pooled,
    ReductionKind.MAX: _pooled,
    ReductionKind.FIRST: _pooled,
    ReductionKind.LAST: _pooled,
    ReductionKind.FLATTEN: _flattened,
    ReductionKind.POSITIONS: _positions,
    ReductionKind.SPATIAL_MEAN: _spatial,
    ReductionKind.NORM: _norm,
    ReductionKind.INDEX: _indexed,
    ReductionKind.TOPK: _top,
}
