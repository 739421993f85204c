"""Operators that move elements to other places by their position alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxscope_server.domain import RowAxis
from onnxscope_server.rewrite.rows.facts import Count, Facts, Size, product
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule, rowed
from onnxscope_server.settings import MOST_BATCH_ROWS

_INT64 = 7


def reshaped(node: Node, x: Facts, target: Sequence[Size]) -> Facts:
    """Finds the rows of a value with rows that is given another shape.

    Before them must be as many entries as before: then each row's elements stay together, in order.

        [2, rows, 3, 4] -> [2, rows, 12]      [rows, 3, 4] -> [rows * 3, 4]      [rows, 12] -> [-1, 4] = [rows * 3, 4]

    Args:
        node: for errors.
        x: what is reshaped.
        target: the shape; one entry may be -1.

    Raises:
        MixedRowsError: the rows don't stay along an axis.
    """
    shape, rows = x.shape or (), node.on(x)
    sizes = list(target)
    counted = [axis for axis, size in enumerate(sizes) if isinstance(size, Count)]
    elements = _in_a_row(shape)
    if -1 in sizes:
        left_open = sizes.index(-1)
        others = _in_a_row([size for size in sizes if size != -1])
        if elements is not None and others and elements % others == 0:
            sizes[left_open] = elements // others if counted else Count(elements // others)
        elif counted:
            sizes[left_open] = None
        else:
            raise node.mixes("reshapes rows, and whether each stays together is not known before it runs")
        counted = counted or [left_open]
    if len(counted) != 1:
        raise node.mixes("reshapes rows into a shape that does not grow with them")
    (axis,) = counted
    before, after = product(shape[: rows.axis]), product(sizes[:axis])
    if before is None or before != after or sizes[axis] == Count(0):
        raise node.mixes("reshapes rows so that they lie along no axis")
    if None not in (elements, _in_a_row(sizes)) and elements != _in_a_row(sizes):
        # onnxruntime's optimiser has been seen to make such a shape fit
        raise node.mixes("reshapes rows into a shape of another size")
    return rowed(x, sizes, axis)


def _in_a_row(shape: Sequence[Size]) -> int | None:
    """Returns the number of elements that a value of this shape has for each row."""
    return product(size.per_row if isinstance(size, Count) else size for size in shape)


def _reshape(node: Node) -> list[Placed]:
    x = node.ranked(0)
    target = node.numbers(1, "shape") or []
    if not node.attribute("allowzero", 0):
        shape = x.shape or ()
        target = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(target)]
    return [reshaped(node, x, target)]


def _flatten(node: Node) -> list[Placed]:
    x = node.ranked(0)
    shape, rows = x.shape or (), node.on(x)
    axis = node.attribute("axis", 1)
    axis += len(shape) if axis < 0 else 0

    def merged(start: int, stop: int) -> Size:
        total = _in_a_row(shape[start:stop])
        if not start <= rows.axis < stop:
            return total
        if total is None:
            raise node.mixes("merges rows with axes whose sizes are not known before it runs")
        return Count(total)

    return [reshaped(node, x, [merged(0, axis), merged(axis, len(shape))])]


def _squeeze(node: Node) -> list[Placed]:
    x = node.ranked(0)
    axes = node.whole_numbers(1, "axes")
    if axes is None:
        raise node.mixes("drops all axes of size 1, the rows' too where there is a single one")
    rank = x.rank or 0
    gone = {axis % rank for axis in axes}
    place = node.on(x)
    if place.axis in gone:
        raise node.mixes("drops the axis of the rows")
    return [node.on(x, place.axis - sum(axis < place.axis for axis in gone))]


def _unsqueeze(node: Node) -> list[Placed]:
    x = node.ranked(0)
    axes = node.whole_numbers(1, "axes") or []
    rank = (x.rank or 0) + len(axes)
    new = {axis % rank for axis in axes}
    kept = [axis for axis in range(rank) if axis not in new]
    return [node.on(x, kept[node.on(x).axis])]


def _transpose(node: Node) -> list[Placed]:
    x = node.ranked(0)
    order = node.attribute("perm") or list(reversed(range(x.rank or 0)))
    if len(order) != x.rank:
        # no operator at all; onnxruntime's optimiser makes one with more axes of several such in a row
        raise node.mixes("has an order of axes that is not of the rank of its input")
    return [node.on(x, list(order).index(node.on(x).axis))]


def _expand(node: Node) -> list[Placed]:
    x = node.ranked(0)
    target = node.numbers(1) or []
    rank = max(len(target), x.rank or 0)
    shape: list[Size] = [*[1] * (rank - (x.rank or 0)), *(x.shape or ())]
    wanted: list[Size] = [*[1] * (rank - len(target)), *target]
    result: list[Size] = []
    for have, want in zip(shape, wanted, strict=True):
        if want is None or (isinstance(have, Count) and want not in (1, have)):
            raise node.mixes("stretches rows, or stretches by what is not known before it runs")
        if isinstance(want, Count) and not isinstance(have, Count) and have != 1:
            raise node.mixes("stretches a value that may have an entry for each row")
        result.append(have if want == 1 else want)
    return [_counted(node, x, result)]


def _tile(node: Node) -> list[Placed]:
    x = node.ranked(0)
    repeats = node.numbers(1) or []
    if x.axis is not None and repeats[x.axis] != 1:
        raise node.mixes("repeats the rows one behind the other")
    result: list[Size] = []
    for have, times in zip(x.shape or (), repeats, strict=True):
        if times is None or (isinstance(times, Count) and not isinstance(have, int)):
            raise node.mixes("repeats by what is not known before it runs")
        if isinstance(have, int) and isinstance(times, Count):
            result.append(Count(have * times.per_row))
        elif isinstance(have, int) and isinstance(times, int):
            result.append(have * times)
        else:
            result.append(have if times == 1 else None)
    return [_counted(node, x, result)]


def _filled(node: Node) -> list[Placed]:
    """ConstantOfShape: every element is the same, so rows are where the shape counts them."""
    shape = node.numbers(0) or []
    if None in shape:
        raise node.mixes("makes a value whose shape is not known before it runs")
    return [_counted(node, Facts(None, ()), shape)]


def _counted(node: Node, x: Facts, shape: Sequence[Size]) -> Facts:
    axes = [axis for axis, size in enumerate(shape) if isinstance(size, Count)]
    if len(axes) != 1 or shape[axes[0]] == Count(0):
        raise node.mixes("makes a value that does not grow with the rows along one axis")
    return rowed(x, shape, axes[0])


def _shape(node: Node) -> list[Placed]:
    x = node.given(0)
    if x.is_fixed and (x.shape is None or None in x.shape):
        return [Facts(_INT64, (None,))]
    sizes = (node.ranked(0).shape or ())[slice(node.attribute("start", 0), node.attribute("end"))]
    return [Facts(_INT64, (len(sizes),), content=_numbers(sizes))]


def _size(node: Node) -> list[Placed]:
    x = node.given(0)
    if x.is_fixed and (x.shape is None or None in x.shape):
        return [Facts(_INT64, ())]
    each = _in_a_row(node.ranked(0).shape or ())
    total: Size = Count(each) if each and x.has_rows else each
    return [Facts(_INT64, (), content=_numbers([total]).reshape(()))]


def _numbers(sizes: Sequence[Size]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64 | np.object_]]:
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, np.int64)
    return np.array(sizes, object)


def _concat(node: Node) -> list[Placed]:
    first, *others = [node.ranked(index) for index in range(len(node.inputs))]
    axis = node.attribute("axis", 1) % (first.rank or 1)
    if any(not item.has_rows or item.rows != first.rows for item in (first, *others)):
        raise node.mixes("puts values with rows beside others that have none, or have them elsewhere")
    if axis == first.axis:
        raise node.mixes("puts the rows of one value behind those of another")
    return [node.on(first)]


def _split(node: Node) -> list[Placed]:
    x = node.ranked(0)
    node.all_fixed(1)
    if node.attribute("axis", 0) % (x.rank or 1) == x.axis:
        raise node.mixes("splits along the rows")
    return [node.on(x)] * len(node.proto.output)


def _slice(node: Node) -> list[Placed]:
    x = node.ranked(0)
    place, rank = node.on(x), x.rank or 1
    starts, ends, steps = _known(node, 1, "starts"), _known(node, 2, "ends"), _known(node, 4, "")
    count = next((len(numbers) for numbers in (starts, ends) if numbers is not None), rank)
    for at, axis in enumerate(node.whole_numbers(3, "axes") or range(count)):
        start, end = (None if numbers is None else numbers[at] for numbers in (starts, ends))
        step = None if steps is None and node.at(4) is not None else (steps or [1] * count)[at]
        if axis % rank == place.axis:
            if (start, step) != (0, 1) or not _is_end(place, end):
                raise node.mixes("takes some of the rows")
        elif any(numbers is not None and not isinstance(numbers[at], int) for numbers in (starts, ends, steps)):
            raise node.mixes("depends on the number of rows in what it takes")
    return [place]


def _known(node: Node, index: int, attribute: str) -> list[Size] | None:
    """Returns the numbers of an input or attribute; None where they are unknown but the same whatever the rows are."""
    found = node.at(index)
    if found is not None and found.content is None:
        node.fixed(index)
        return None
    return node.numbers(index, attribute)


def _is_end(rows: RowAxis, end: Size) -> bool:
    if isinstance(end, Count):
        return end.per_row >= rows.per_row
    return isinstance(end, int) and end >= rows.per_row * MOST_BATCH_ROWS


def _pad(node: Node) -> list[Placed]:
    x = node.ranked(0)
    node.fixed(2)
    pads = node.whole_numbers(1, "pads") or []
    axes = node.whole_numbers(3)
    places = [axis % (x.rank or 1) for axis in axes] if axes is not None else list(range(x.rank or 0))
    if x.axis in places:
        at = places.index(x.axis)
        if pads[at] or pads[at + len(places)]:
            raise node.mixes("adds or takes away rows")
    return [node.on(x)]


def _between_channels_and_space(node: Node) -> list[Placed]:
    x = node.ranked(0)
    if x.axis != 0:
        raise node.mixes("moves elements along the rows")
    return [node.on(x)]


def _trilu(node: Node) -> list[Placed]:
    x = node.ranked(0)
    node.fixed(1)
    if node.on(x).axis >= (x.rank or 0) - 2:
        raise node.mixes("cuts a triangle that stretches along the rows")
    return [node.on(x)]


RULES: Mapping[tuple[str, str], Rule] = {
    ("", "Reshape"): _reshape,
    ("", "Flatten"): _flatten,
    ("", "Squeeze"): _squeeze,
    ("", "Unsqueeze"): _unsqueeze,
    ("", "Transpose"): _transpose,
    ("", "Expand"): _expand,
    ("", "Tile"): _tile,
    ("", "ConstantOfShape"): _filled,
    ("", "Shape"): _shape,
    ("", "Size"): _size,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Slice"): _slice,
    ("", "Pad"): _pad,
    ("", "DepthToSpace"): _between_channels_and_space,
    ("", "SpaceToDepth"): _between_channels_and_space,
    ("", "Trilu"): _trilu,
}
