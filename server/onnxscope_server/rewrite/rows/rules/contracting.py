"""Operators that multiply and add up: matrix products, convolutions, pooling, recurrent layers."""

from __future__ import annotations

from collections.abc import Mapping

from onnxscope_server.domain import RowAxis
from onnxscope_server.rewrite.rows.facts import Facts
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule
from onnxscope_server.rewrite.rows.rules.elementwise import stays_beside


def product_of(node: Node, left: Facts, right: Facts) -> RowAxis:
    """Finds the rows of a matrix product of two values, as numpy multiplies them."""
    if not left.shape or not right.shape:
        raise node.mixes("has an operand whose rank is not known before it runs")
    if left.axis == len(left.shape) - 1 or right.axis == max(len(right.shape) - 2, 0):
        raise node.mixes("adds up over the rows")
    if not all(side.has_rows or side.is_fixed for side in (left, right)):
        raise node.mixes("computes with the number of rows")
    if len(right.shape) == 1:
        return node.on(left)
    rank = max(len(left.shape), len(right.shape))
    sides = [side for side in (left, right) if side.has_rows]
    place, *others = [node.on(side, node.on(side).axis + rank - len(side.shape or ())) for side in sides]
    is_matrix_axis = place.axis >= rank - 2
    if others:
        if is_matrix_axis or others[0] != place:
            raise node.mixes("multiplies rows with each other")
    elif not is_matrix_axis and not stays_beside(right if left.has_rows else left, place.axis - rank):
        raise node.mixes("multiplies rows with a value that may have an entry for each")
    # a vector on the left leaves no axis behind
    return RowAxis(place.axis - (len(left.shape) == 1 and place.axis == rank - 1), place.per_row)


def _matmul(node: Node) -> list[Placed]:
    return [product_of(node, node.given(0), node.given(1))]


def scalars(node: Node, *indices: int) -> None:
    """Insists that inputs are single numbers, the same whatever the rows are."""
    for index in indices:
        given = node.fixed(index)
        if given is not None and any(size != 1 for size in given.shape or (0,)):
            raise node.mixes("has a scale or a zero point for each row")


def _integer_matmul(node: Node) -> list[Placed]:
    scalars(node, 2)
    node.all_fixed(2)
    if not node.given(0).has_rows:
        raise node.mixes("has rows on its right")
    return [product_of(node, node.given(0), node.given(1))]


def _quantized_matmul(node: Node) -> list[Placed]:
    scalars(node, 1, 2, 6, 7)
    for index in (1, 2, 3, 4, 5, 6, 7):
        node.fixed(index)
    return [product_of(node, node.given(0), node.given(3))]


def _gemm(node: Node) -> list[Placed]:
    left, right, beside = node.ranked(0), node.ranked(1), node.at(2)
    if left.has_rows and right.has_rows:
        raise node.mixes("multiplies rows with each other")
    rows, turned, axis = (left, "transA", 0) if left.has_rows else (right, "transB", 1)
    if not rows.has_rows:
        raise node.mixes("adds rows to a product that has none")
    node.fixed(1 if left.has_rows else 0)
    if rows.axis != (1 - axis if node.attribute(turned, 0) else axis):
        raise node.mixes("adds up over the rows")
    if beside is not None and beside.has_rows:
        if node.on(beside, node.on(beside).axis - (beside.rank or 0)) != node.on(rows, axis - 2):
            raise node.mixes("adds rows that lie along another axis")
    elif node.fixed(2) is not None and not stays_beside(node.ranked(2), axis - 2):
        raise node.mixes("adds a value that may have an entry for each row")
    return [node.on(rows, axis)]


def _einsum(node: Node) -> list[Placed]:
    equation = str(node.attribute("equation")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    labels = terms.split(",")
    if not arrow or "." in equation or len(labels) != len(node.inputs):
        raise node.mixes("has an equation that does not name all axes")
    found = set()
    for index, own in enumerate(labels):
        given = node.ranked(index)
        if given.has_rows and len(own) == given.rank:
            found.add((own[node.on(given).axis], node.on(given).per_row))
    if len(found) != 1:
        raise node.mixes("multiplies rows with each other")
    ((label, per_row),) = found
    for index, own in enumerate(labels):
        given = node.ranked(index)
        if own.count(label) != (1 if given.has_rows else 0) or not (given.has_rows or given.is_fixed):
            raise node.mixes("multiplies rows with a value that may have an entry for each")
    if label not in result:
        raise node.mixes("adds up over the rows")
    return [RowAxis(result.index(label), per_row)]


def _in_front(node: Node) -> list[Placed]:
    """Convolutions, pooling and what else treats the entries of axis 0 each on its own; all else are parameters."""
    node.all_fixed(1)
    return [_first_axis(node)]


def _first_axis(node: Node) -> RowAxis:
    x = node.given(0)
    if x.axis != 0:
        raise node.mixes("wants the rows along axis 0, and they lie elsewhere")
    return node.on(x)


def _max_pool(node: Node) -> list[Placed]:
    place = _first_axis(node)
    if any(node.proto.output[1:]):
        raise node.mixes("tells places in the whole batch")
    return [place]


def _deformed(node: Node) -> list[Placed]:
    """DeformConv: offsets and a mask for each row."""
    x = node.given(0)
    for index in (2, 4):
        given = node.at(index)
        if given is not None and given.rows != x.rows:
            raise node.mixes("has offsets that are not one for each row")
    for index in (1, 3):
        node.fixed(index)
    return [_first_axis(node)]


def _recurrent(node: Node) -> list[Placed]:
    """LSTM, GRU and RNN: rows along the batch axis, in the states that begin too."""
    x = node.ranked(0)
    batch_first = bool(node.attribute("layout", 0))
    if node.on(x).axis != (0 if batch_first else 1):
        raise node.mixes("steps along the rows: they lie along its sequence axis")
    for index in (1, 2, 3, 7):
        node.fixed(index)
    for index, axis in ((4, 0), (5, 0 if batch_first else 1), (6, 0 if batch_first else 1)):
        given = node.at(index)
        if given is not None and given.rows != node.on(x, axis):
            raise node.mixes("has lengths or states that are not one for each row")
    axes = (0, 0, 0) if batch_first else (2, 1, 1)
    return [node.on(x, axis) for axis in axes[: len(node.proto.output)]]


def _dynamic(node: Node) -> list[Placed]:
    raise node.mixes("takes one scale from all rows: it quantises dynamically")


_IN_FRONT = """AveragePool Conv ConvInteger ConvTranspose GlobalAveragePool GlobalLpPool GlobalMaxPool
GroupNormalization InstanceNormalization LRN LpPool QLinearConv STFT Col2Im""".split()  # noqa: SIM905  # easier to read

RULES: Mapping[tuple[str, str], Rule] = {
    ("", "MatMul"): _matmul,
    ("", "MatMulInteger"): _integer_matmul,
    ("", "QLinearMatMul"): _quantized_matmul,
    ("", "Gemm"): _gemm,
    ("", "Einsum"): _einsum,
    **{("", name): _in_front for name in _IN_FRONT},
    ("", "MaxPool"): _max_pool,
    ("", "DeformConv"): _deformed,
    **{("", name): _recurrent for name in ("LSTM", "GRU", "RNN")},
    ("", "DynamicQuantizeLinear"): _dynamic,
}
