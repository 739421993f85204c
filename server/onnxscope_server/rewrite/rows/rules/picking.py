"""Operators that pick, place or order elements by what other elements say."""

from __future__ import annotations

from collections.abc import Mapping

from onnxscope_server.rewrite.rows.facts import Facts
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule


def _gather(node: Node) -> list[Placed]:
    data, indices = node.ranked(0), node.ranked(1)
    axis = node.attribute("axis", 0) % (data.rank or 1)
    if indices.has_rows:
        node.fixed(0)
        return [node.on(indices, axis + node.on(indices).axis)]
    node.fixed(1)
    place = node.on(data)
    if axis == place.axis:
        raise node.mixes("picks some of the rows")
    return [node.on(data, place.axis + (len(indices.shape or ()) - 1 if axis < place.axis else 0))]


def _gather_elements(node: Node) -> list[Placed]:
    data, indices = node.ranked(0), node.ranked(1)
    axis = node.attribute("axis", 0) % (data.rank or 1)
    if not indices.has_rows:
        raise node.mixes("picks elements at places that may differ from row to row")
    if data.has_rows:
        if data.rows != indices.rows or axis == data.axis:
            raise node.mixes("picks elements out of other rows")
    elif node.fixed(0) is None or axis != indices.axis:
        raise node.mixes("picks elements at places that may differ from row to row")
    return [node.on(indices)]


def _gather_nd(node: Node) -> list[Placed]:
    data, indices = node.ranked(0), node.ranked(1)
    batched = node.attribute("batch_dims", 0)
    if not indices.has_rows or node.on(indices).axis == (indices.rank or 0) - 1:
        raise node.mixes("picks elements at places that may differ from row to row")
    if data.has_rows:
        if data.rows != indices.rows or node.on(data).axis >= batched:
            raise node.mixes("picks elements out of other rows")
    elif node.fixed(0) is None or node.on(indices).axis < batched:
        raise node.mixes("picks elements at places that may differ from row to row")
    return [node.on(indices)]


def _scatter_elements(node: Node) -> list[Placed]:
    data, indices, updates = node.ranked(0), node.ranked(1), node.ranked(2)
    axis = node.attribute("axis", 0) % (data.rank or 1)
    if not data.has_rows or not data.rows == indices.rows == updates.rows or axis == data.axis:
        raise node.mixes("puts elements into other rows")
    return [node.on(data)]


def _one_hot(node: Node) -> list[Placed]:
    indices = node.ranked(0)
    node.all_fixed(1)
    axis = node.attribute("axis", -1) % ((indices.rank or 0) + 1)
    place = node.on(indices)
    return [node.on(indices, place.axis + (axis <= place.axis))]


def _ordered(node: Node) -> list[Placed]:
    """TopK: values and indices along one axis."""
    x = node.ranked(0)
    node.all_fixed(1)
    if node.attribute("axis", -1) % (x.rank or 1) == x.axis:
        raise node.mixes("puts rows in order")
    return [node.on(x), node.on(x)]


def _reverse_sequence(node: Node) -> list[Placed]:
    x, lengths = node.ranked(0), node.ranked(1)
    axis = node.on(x).axis
    if (
        node.attribute("batch_axis", 1) != axis
        or node.attribute("time_axis", 0) == axis
        or lengths.rows != node.on(x, 0)
    ):
        raise node.mixes("turns the order of the rows")
    return [node.on(x)]


def _both(data: Facts, other: Facts) -> bool:
    return data.has_rows and data.rows == other.rows


def _grid_sample(node: Node) -> list[Placed]:
    x, grid = node.ranked(0), node.ranked(1)
    if x.axis != 0 or not _both(x, grid):
        raise node.mixes("samples one value at places that another gives, and not row by row")
    return [node.on(x)]


def _affine_grid(node: Node) -> list[Placed]:
    theta = node.ranked(0)
    size = node.numbers(1) or [None]
    if theta.axis != 0 or size[0] != (theta.shape or (None,))[0]:
        raise node.mixes("makes a grid that does not grow with the rows")
    return [node.on(theta)]


RULES: Mapping[tuple[str, str], Rule] = {
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
    ("", "Scatter"): _scatter_elements,
    ("", "ScatterElements"): _scatter_elements,
    ("", "OneHot"): _one_hot,
    ("", "TopK"): _ordered,
    ("", "ReverseSequence"): _reverse_sequence,
    ("", "GridSample"): _grid_sample,
    ("", "AffineGrid"): _affine_grid,
}
