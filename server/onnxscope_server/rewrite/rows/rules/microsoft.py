"""onnxruntime's own operators, whose shapes ONNX's inference does not know."""

from __future__ import annotations

from collections.abc import Mapping

from onnxscope_server.rewrite.rows.facts import Count, Facts, Size
from onnxscope_server.rewrite.rows.node import Node, Placed, Rule, rowed
from onnxscope_server.rewrite.rows.rules.contracting import product_of, scalars
from onnxscope_server.rewrite.rows.rules.elementwise import broadcast, quantized

_FLOAT32 = 1


def _alike(node: Node) -> list[Placed]:
    """Rows and shape are those of the first input; the others are parameters."""
    node.all_fixed(1)
    return [node.ranked(0)]


def _beside_bias(node: Node) -> list[Placed]:
    """Gelu and its kin, of the sum of a value and a bias."""
    x = node.ranked(0)
    broadcast(node, [item for item in node.inputs if item is not None])
    return [x]


def _quantized_pair(node: Node) -> list[Placed]:
    """QLinearAdd and QLinearMul: two operands, each with its scale and zero point."""
    scalars(node, 1, 2, 4, 5, 6, 7)
    one, other = node.ranked(0), node.ranked(3)
    place = broadcast(node, [one, other])
    larger = max(one, other, key=lambda item: item.rank or 0)
    shape: list[Size] = [None] * (larger.rank or 0)
    shape[place.axis] = Count(place.per_row)
    return [Facts(one.data_type, tuple(shape), place.axis)]


def _quantized(node: Node) -> list[Placed]:
    quantized(node)
    x = node.ranked(0)
    return [Facts(None, x.shape, x.axis)]


def _pooled(node: Node) -> list[Placed]:
    """What treats the entries of axis 0 each on its own."""
    node.all_fixed(1)
    x = node.ranked(0)
    if x.axis != 0:
        raise node.mixes("wants the rows along axis 0, and they lie elsewhere")
    return [rowed(x, [Count(node.on(x).per_row), *[None] * ((x.rank or 1) - 1)], 0)]


def _normalised(node: Node) -> list[Placed]:
    """SkipLayerNormalization: of the sum of two values; the sum is the fourth output."""
    node.all_fixed(2)
    x = node.ranked(0)
    place = broadcast(node, [x, node.ranked(1)])
    if place != x.rows or place.axis == (x.rank or 1) - 1:
        raise node.mixes("normalises over the rows")
    if any(node.proto.output[1:3]):
        raise node.mixes("tells the statistics of rows")
    return [x] * len(node.proto.output)


def _embedded(node: Node) -> list[Placed]:
    """EmbedLayerNormalization: words, segments and a mask, [row, position] each."""
    words, segments, mask = node.ranked(0), node.at(1), node.at(7)
    for index in range(2, 7):
        node.fixed(index)
    table = node.ranked(2)
    if words.axis != 0 or any(item is not None and item.rows != words.rows for item in (segments, mask, node.at(8))):
        raise node.mixes("wants words, segments and a mask for each row")
    shape = [*(words.shape or ()), (table.shape or (None,))[-1]]
    embedded = rowed(Facts(table.data_type, None), shape, 0)
    lengths = rowed(words, [Count(node.on(words).per_row)], 0)
    return [embedded, lengths, embedded]


def _integer_product(node: Node) -> list[Placed]:
    """MatMulIntegerToFloat: two matrices, two scales, two zero points and a bias."""
    scalars(node, 2, 4)
    node.all_fixed(1)
    return [_with_last(node, _FLOAT32, (node.ranked(1).shape or (None,))[-1])]


def _packed_product(node: Node) -> list[Placed]:
    """MatMulNBits: the right side is a matrix in packed form."""
    node.all_fixed(1)
    return [_with_last(node, node.ranked(0).data_type, node.attribute("N"))]


def _with_last(node: Node, data_type: int | None, size: Size) -> Facts:
    x = node.ranked(0)
    matrix = Facts(None, (None, size))
    place = product_of(node, x, matrix)
    return Facts(data_type, (*(x.shape or ())[:-1], size), place.axis)


def _dynamic(node: Node) -> list[Placed]:
    raise node.mixes("takes one scale from all rows: it quantises dynamically")


RULES: Mapping[tuple[str, str], Rule] = {
    **{("com.microsoft", name): _alike for name in ("Gelu", "QuickGelu", "QLinearSigmoid", "QLinearLeakyRelu")},
    **{("com.microsoft", name): _beside_bias for name in ("BiasGelu", "FastGelu")},
    ("com.microsoft", "QuantizeLinear"): _quantized,
    ("com.microsoft", "DequantizeLinear"): _quantized,
    ("com.microsoft", "QLinearAdd"): _quantized_pair,
    ("com.microsoft", "QLinearMul"): _quantized_pair,
    **{("com.microsoft", name): _pooled for name in ("FusedConv", "QLinearAveragePool", "QLinearGlobalAveragePool")},
    ("com.microsoft", "SkipLayerNormalization"): _normalised,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _normalised,
    ("com.microsoft", "EmbedLayerNormalization"): _embedded,
    ("com.microsoft", "MatMulIntegerToFloat"): _integer_product,
    ("com.microsoft", "MatMulNBits"): _packed_product,
    **{("com.microsoft", name): _dynamic for name in ("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention")},
}
