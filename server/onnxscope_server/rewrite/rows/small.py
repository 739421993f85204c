"""Computes with small tensors, above all with shapes, while the number of rows is left open.

Elements are numbers, `Count` for what grows with the rows, or None for what is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx

from onnxscope_server.domain import Array
from onnxscope_server.rewrite.rows.facts import Count
from onnxscope_server.rewrite.rows.node import Node

LARGEST = 1024
Function: TypeAlias = Callable[[Node, list[Array]], Array | None]


def computed(node: Node) -> list[Array] | None:
    """Computes what a node makes of inputs whose elements are known.

    Returns:
        The outputs' elements; None where that is not to be known.
    """
    contents = [item.content for item in node.inputs if item is not None]
    if len(contents) < len(node.inputs) or any(item is None for item in contents):
        return None
    known = [item for item in contents if item is not None]
    try:
        if node.op_type == "Split":
            return _split(node, known)
        function = _FUNCTIONS.get(node.op_type)
        result = function(node, known) if function is not None else None
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, KeyError):
        # what is wrong with it is for the run to tell
        return None
    if result is None:
        return None
    found = _boxed(result)
    return [found] if found.size <= LARGEST else None


def _boxed(result: Any) -> Array:
    """Returns an array also where numpy gave the single element of one."""
    if isinstance(result, np.ndarray | np.generic):
        return np.asarray(result)
    box = np.empty((), object)
    box[()] = result
    return _narrowed(box)


def _elementwise(plain: Callable[..., Any], counting: Callable[..., Any] | None = None) -> Function:
    """Makes a function of the one for arrays of numbers, and of the one for elements that may be open."""

    def function(_: Node, inputs: list[Array]) -> Array | None:
        if all(item.dtype != object for item in inputs):
            return np.asarray(plain(*inputs))
        return _opened(counting or (lambda *_: None), *inputs)

    return function


def _opened(function: Callable[..., Any], *inputs: Array) -> Array:
    result: Any = np.frompyfunc(function, len(inputs), 1)(*(item.astype(object) for item in inputs))
    return _narrowed(result) if isinstance(result, np.ndarray) else _boxed(result)


def _narrowed(array: Array) -> Array:
    """Gives an array of objects that are all integers or all truths their own type again."""
    elements = array.reshape(-1).tolist()
    if elements and all(isinstance(element, bool) for element in elements):
        return array.astype(np.bool_)
    if elements and all(isinstance(element, int) and not isinstance(element, bool) for element in elements):
        return array.astype(np.int64)
    return array


def _add(one: Any, other: Any) -> Any:
    if isinstance(one, Count) and isinstance(other, Count):
        return Count(one.per_row + other.per_row)
    if isinstance(one, Count) or isinstance(other, Count):
        return one if other == 0 else other if one == 0 else None
    return None if one is None or other is None else one + other


def _subtract(one: Any, other: Any) -> Any:
    if isinstance(one, Count) and other == 0:
        return one
    return one - other if _are_numbers(one, other) else None


def _multiply(one: Any, other: Any) -> Any:
    if isinstance(other, Count):
        one, other = other, one
    if isinstance(one, Count):
        grown = one.per_row * other if _are_numbers(other) else None
        return Count(int(grown)) if grown is not None and grown >= 1 and int(grown) == grown else None
    return one * other if _are_numbers(one, other) else None


def _divide(one: Any, other: Any) -> Any:
    if isinstance(one, Count) and isinstance(other, Count):
        one, other = one.per_row, other.per_row
        return one // other if one % other == 0 else None
    if isinstance(one, Count):
        if not _are_numbers(other) or other <= 0 or one.per_row % other:
            return None
        return Count(int(one.per_row // other))
    if not _are_numbers(one, other):
        return None
    return _truncated(one, other) if isinstance(one, int) and isinstance(other, int) else one / other


def _truncated(one: int, other: int) -> int:
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


def _divided(one: Array, other: Array) -> Array:
    if one.dtype.kind in "iu":
        quotients: Array = np.floor_divide(np.abs(one), np.abs(other)) * (np.sign(one) * np.sign(other))
        return quotients
    return np.divide(one, other)


def _equal(one: Any, other: Any) -> Any:
    for left, right in ((one, other), (other, one)):
        # there is at least one row
        if isinstance(left, Count) and _are_numbers(right):
            return False if right < left.per_row else None
    if isinstance(one, Count) and isinstance(other, Count):
        return one == other
    return one == other if _are_numbers(one, other) else None


def _greater(one: Any, other: Any) -> Any:
    if isinstance(one, Count) and isinstance(other, Count):
        return one.per_row > other.per_row
    if isinstance(one, Count) and _are_numbers(other):
        return True if other < one.per_row else None
    if isinstance(other, Count) and _are_numbers(one):
        return False if one <= other.per_row else None
    return one > other if _are_numbers(one, other) else None


def _where(condition: Any, one: Any, other: Any) -> Any:
    if condition is None:
        return one if one is not None and one == other and type(one) is type(other) else None
    return one if condition else other


def _not(one: Any) -> Any:
    return None if one is None else not one


def _are_numbers(*elements: Any) -> bool:
    return all(isinstance(element, int | float) for element in elements)


def _cast(node: Node, inputs: list[Array]) -> Array | None:
    array = inputs[0]
    to = onnx.helper.tensor_dtype_to_np_dtype(node.attribute("to"))
    if array.dtype != object:
        return array.astype(to) if array.dtype.kind in "biuf" and to.kind in "biuf" else None
    return array if to.kind in "iuf" else None


def _rounded(plain: Callable[..., Any]) -> Function:
    return _elementwise(plain, lambda element: element if isinstance(element, int | Count) else None)


def _axes(node: Node, inputs: list[Array]) -> list[int] | None:
    given = inputs[1].tolist() if len(inputs) > 1 else node.attribute("axes")
    return None if given is None else [int(axis) for axis in np.asarray(given).reshape(-1)]


def _squeeze(node: Node, inputs: list[Array]) -> Array:
    axes = _axes(node, inputs)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _unsqueeze(node: Node, inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], tuple(_axes(node, inputs) or ()))


def _concat(node: Node, inputs: list[Array]) -> Array:
    if any(item.dtype == object for item in inputs):
        inputs = [item.astype(object) for item in inputs]
    return np.concatenate(inputs, node.attribute("axis"))


def _gather(node: Node, inputs: list[Array]) -> Array | None:
    data, indices = inputs
    return None if indices.dtype == object else np.take(data, indices, node.attribute("axis", 0))


def _slice(node: Node, inputs: list[Array]) -> Array | None:
    data, *bounds = inputs
    if bounds:
        numbers = [item.tolist() for item in bounds]
        if any(item.dtype == object for item in bounds):
            return None
    else:
        numbers = [node.attribute("starts"), node.attribute("ends")]
        numbers += [node.attribute("axes")] if node.attribute("axes") else []
    starts, ends = numbers[:2]
    axes = numbers[2] if len(numbers) > 2 else range(len(starts))  # noqa: PLR2004  # starts, ends, axes, steps
    steps = numbers[3] if len(numbers) > 3 else [1] * len(starts)  # noqa: PLR2004
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -data.shape[axis] else end
        data = data[(slice(None),) * (axis % data.ndim) + (slice(start, stop, step),)]
    return data


def _split(node: Node, inputs: list[Array]) -> list[Array] | None:
    axis = node.attribute("axis", 0)
    sizes = inputs[1].tolist() if len(inputs) > 1 else node.attribute("split")
    count = len(node.proto.output)
    if sizes is None:
        return np.array_split(inputs[0], count, axis) if inputs[0].shape[axis] % count == 0 else None
    return list(np.split(inputs[0], np.cumsum(sizes)[:-1], axis))


def _reshape(node: Node, inputs: list[Array]) -> Array | None:
    data, shape = inputs
    if shape.dtype == object:
        return None
    sizes = shape.tolist()
    if not node.attribute("allowzero", 0):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


def _reduced(function: Callable[[Any, Any], Any]) -> Function:
    def reduce(node: Node, inputs: list[Array]) -> Array | None:
        axes = _axes(node, inputs)
        data = inputs[0]
        if data.ndim != 1 or (axes not in (None, [0], [-1])) or node.attribute("noop_with_empty_axes", 0):
            return None
        result, *rest = data.tolist()
        for element in rest:
            result = function(result, element)
        dtype = object if not _are_numbers(result) else data.dtype if data.dtype != object else np.int64
        return np.array([result] if node.attribute("keepdims", 1) else result, dtype)

    return reduce


def _range(_: Node, inputs: list[Array]) -> Array | None:
    start, stop, step = (item.reshape(-1).tolist()[0] for item in inputs)
    if not _are_numbers(start, stop, step):
        return None
    if max(math.ceil((stop - start) / step), 0) > LARGEST:
        return None
    found: Array = np.arange(start, stop, step, dtype=inputs[0].dtype)
    return found


def _filled(node: Node, inputs: list[Array]) -> Array | None:
    shape = inputs[0]
    if shape.dtype == object or math.prod(shape.tolist()) > LARGEST:
        return None
    value = node.attribute("value")
    fill = np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)
    return np.full(shape.tolist(), fill.reshape(-1)[0], fill.dtype)


def _expanded(_: Node, inputs: list[Array]) -> Array | None:
    data, shape = inputs
    if shape.dtype == object:
        return None
    target = np.broadcast_shapes(data.shape, tuple(shape.tolist()))
    return np.broadcast_to(data, target) if math.prod(target) <= LARGEST else None


def _non_zero(_: Node, inputs: list[Array]) -> Array | None:
    return None if inputs[0].dtype == object else np.array(np.nonzero(inputs[0]), np.int64)


_FUNCTIONS: dict[str, Function] = {
    "Identity": lambda _, inputs: inputs[0],
    "Cast": _cast,
    "Add": _elementwise(np.add, _add),
    "Sub": _elementwise(np.subtract, _subtract),
    "Mul": _elementwise(np.multiply, _multiply),
    "Div": _elementwise(_divided, _divide),
    "Pow": _elementwise(np.power),
    "Sqrt": _elementwise(np.sqrt),
    "Neg": _elementwise(np.negative),
    "Floor": _rounded(np.floor),
    "Ceil": _rounded(np.ceil),
    "Min": _elementwise(lambda *items: np.minimum.reduce(np.broadcast_arrays(*items))),
    "Max": _elementwise(lambda *items: np.maximum.reduce(np.broadcast_arrays(*items))),
    "Equal": _elementwise(np.equal, _equal),
    "Greater": _elementwise(np.greater, _greater),
    "Less": _elementwise(np.less, lambda one, other: _greater(other, one)),
    "Not": _elementwise(np.logical_not, _not),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Where": _elementwise(np.where, _where),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": lambda node, inputs: np.transpose(inputs[0], node.attribute("perm")),
    "ReduceProd": _reduced(_multiply),
    "ReduceSum": _reduced(_add),
    "ReduceMax": _reduced(lambda one, other: max(one, other) if _are_numbers(one, other) else None),
    "ReduceMin": _reduced(lambda one, other: min(one, other) if _are_numbers(one, other) else None),
    "Range": _range,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "NonZero": _non_zero,
}
