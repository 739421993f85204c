"""Operators that compute each element from the elements at its place, broadcast against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxscope_server.domain import RowAxis
from onnxscope_server.rewrite.rows.facts import Facts
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule

_FLOAT32 = 1


def broadcast(node: Node, operands: Sequence[Facts]) -> RowAxis:
    """Finds the rows of operands that are broadcast against each other.

    Those with rows must have them at the same place, and what is the same for all rows must not stretch along it.

    Returns:
        The rows of the result.

    Raises:
        MixedRowsError: rows meet what is no row.
    """
    rank = 0
    for operand in operands:
        if operand.shape is None:
            raise node.mixes("has an operand whose rank is not known before it runs")
        rank = max(rank, len(operand.shape))
    places = {node.on(item, node.on(item).axis + rank - len(item.shape or ())) for item in operands if item.has_rows}
    if len(places) != 1:
        raise node.mixes("joins values whose rows lie along different axes")
    (place,) = places
    for operand in operands:
        if not operand.has_rows:
            if not operand.is_fixed:
                raise node.mixes("computes with the number of rows")
            if not stays_beside(operand, place.axis - rank):
                raise node.mixes("joins rows with a value that may have an entry for each")
    return place


def stays_beside(operand: Facts, axis: int) -> bool:
    """Tells whether a value is the same along an axis, counted from the back, when it is broadcast."""
    return operand.shape is not None and (len(operand.shape) < -axis or operand.shape[axis] == 1)


def _all(node: Node) -> list[Placed]:
    return [broadcast(node, [item for item in node.inputs if item is not None])]


def _alone(node: Node) -> list[Placed]:
    """Rows and shape are those of the first input; the others are parameters."""
    node.all_fixed(1)
    x = node.ranked(0)
    return [Facts(node.attribute("to"), x.shape, x.axis)]


def _cast_like(node: Node) -> list[Placed]:
    """Of the second input only the type is read."""
    return [node.on(node.given(0)) if node.given(0).has_rows else node.fixed(0)]


def _dropout(node: Node) -> list[Placed]:
    training = node.numbers(2)
    if (training is not None and training != [0]) or (node.version < 7 and not node.attribute("is_test", 0)):  # noqa: PLR2004
        raise node.mixes("draws random numbers: it is in training mode")
    place = node.on(node.given(0))
    return [place, place]


def quantized(node: Node) -> list[Placed]:
    """QuantizeLinear and DequantizeLinear: a scale for all, or one for each entry of another axis."""
    x = node.ranked(0)
    place = node.on(x)
    for index in (1, 2):
        scale = node.fixed(index)
        if scale is None or scale.shape in ((), (1,)):
            continue
        axis = node.attribute("axis", 1) % (x.rank or 1)
        if scale.rank == 1 and axis != place.axis:
            continue
        blocks = scale.rank == x.rank and axis != place.axis
        if not blocks or (scale.shape or ())[place.axis] != 1:
            raise node.mixes("has a scale for each row")
    return [place]


def _one_hot(node: Node) -> list[Placed]:
    """OneHotEncoder: a new axis behind the others."""
    x = node.ranked(0)
    return [Facts(_FLOAT32, (*(x.shape or ()), None), x.axis)]


_UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu
HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid
Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu RegexFullMatch""".split()  # noqa: SIM905  # easier to read
_BROADCAST = """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
Mean Min Mod Mul Or PRelu Pow StringConcat Sub Sum Where Xor""".split()  # noqa: SIM905  # easier to read

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): _alone for name in _UNARY},
    **{("", name): _all for name in _BROADCAST},
    ("", "CastLike"): _cast_like,
    ("", "Dropout"): _dropout,
    ("", "QuantizeLinear"): quantized,
    ("", "DequantizeLinear"): quantized,
    **{("ai.onnx.ml", name): _alone for name in ("Binarizer", "CategoryMapper", "LabelEncoder")},
    ("ai.onnx.ml", "OneHotEncoder"): _one_hot,
}
