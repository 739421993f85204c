"""onnxruntime's own operators, as its documentation (ContribOperators.md) defines them.

Each builder writes one operator and returns whether it could: forms of an operator that it does not know (a cache of
past keys, say) have no parts. The names of the parts are those of `to=`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx
from onnx import helper

from onnxscope_server.catalog.definitions import microsoft_attention
from onnxscope_server.catalog.definitions.definition import Definition
from onnxscope_server.catalog.definitions.form import Form
from onnxscope_server.catalog.definitions.writer import Writer
from onnxscope_server.domain import TensorType, ValueType

DOMAIN = "com.microsoft"
_OLDEST = 11  # Erf, Range and the bounds of Clip are as they are today
_CUBIC = 0.044715
_Builder = Callable[[Writer, Form], bool]


def definition(node: onnx.NodeProto, opset: int, types: Mapping[str, ValueType]) -> Definition | None:
    """Returns the definition of one of onnxruntime's operators.

    Args:
        node: of the operator.
        opset: version of ONNX's own operators that the model imports.
        types: what is known of the types of the node's inputs, by name.

    Returns:
        The definition; None where there is none for this operator, or for this form of it.
    """
    found = _BUILDERS.get(node.op_type)
    if found is None or opset < _OLDEST:
        return None
    inputs, builder = found
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    given = {formal: types.get(name) for formal, name in zip(inputs, node.input, strict=False) if name}
    form = Form(attributes, given)
    known = given.get(inputs[0])
    writer = Writer(opset, known.data_type if isinstance(known, TensorType) else None, inputs[0])
    if not builder(writer, form):
        return None
    return Definition(inputs, tuple(writer.nodes), writer.parts)


def _gelu(writer: Writer, _form: Form) -> bool:
    _gaussian(writer, "X")
    return True


def _bias_gelu(writer: Writer, _form: Form) -> bool:
    _gaussian(writer, writer.part("sum", "Add", "X", "bias"))
    return True


def _gaussian(writer: Writer, x: str) -> None:
    scaled = writer.part("scaled", "Mul", x, writer.number(math.sqrt(0.5)))
    plus = writer.add("Add", writer.part("erf", "Erf", scaled), writer.number(1.0))
    writer.part("cdf", "Mul", plus, writer.number(0.5))


def _fast_gelu(writer: Writer, form: Form) -> bool:
    x = writer.part("sum", "Add", "X", "bias") if form.has("bias") else "X"
    cube = writer.add("Mul", writer.add("Mul", x, x), writer.add("Mul", x, writer.number(_CUBIC)))
    inner = writer.part("scaled", "Mul", writer.add("Add", x, cube), writer.number(math.sqrt(2 / math.pi)))
    plus = writer.add("Add", writer.part("tanh", "Tanh", inner), writer.number(1.0))
    writer.part("cdf", "Mul", plus, writer.number(0.5))
    return True


def _quick_gelu(writer: Writer, form: Form) -> bool:
    scaled = writer.part("scaled", "Mul", "X", writer.number(form.number("alpha", 1.702)))
    writer.part("gate", "Sigmoid", scaled)
    return True


def _skip_layer_normalization(writer: Writer, form: Form) -> bool:
    total = _skipped(writer, form)
    mean = writer.with_axes("ReduceMean", total, -1, to=writer.named("mean"), keepdims=1)
    centered = writer.part("centered", "Sub", total, mean)
    squares = writer.add("Mul", centered, centered)
    variance = writer.with_axes("ReduceMean", squares, -1, to=writer.named("variance"), keepdims=1)
    normalized = _normalized(writer, centered, variance, form.number("epsilon", 1e-12))
    if form.has("beta"):
        writer.part("scaled", "Mul", normalized, "gamma")
    return True


def _skip_simplified(writer: Writer, form: Form) -> bool:
    total = _skipped(writer, form)
    square = writer.with_axes(
        "ReduceMean", writer.add("Mul", total, total), -1, to=writer.named("mean_square"), keepdims=1
    )
    _normalized(writer, total, square, form.number("epsilon", 1e-12))
    return True


def _skipped(writer: Writer, form: Form) -> str:
    if not form.has("bias"):
        return writer.part("sum", "Add", "input", "skip")
    return writer.part("sum", "Add", writer.add("Add", "input", "skip"), "bias")


def _normalized(writer: Writer, value: str, square: str, epsilon: float) -> str:
    deviation = writer.add("Sqrt", writer.add("Add", square, writer.number(epsilon)))
    inverse = writer.part("inv_std_dev", "Reciprocal", deviation)
    return writer.part("normalized", "Mul", value, inverse)


_BUILDERS: dict[str, tuple[tuple[str, ...], _Builder]] = {
    "Gelu": (("X",), _gelu),
    "BiasGelu": (("X", "bias"), _bias_gelu),
    "FastGelu": (("X", "bias"), _fast_gelu),
    "QuickGelu": (("X",), _quick_gelu),
    "SkipLayerNormalization": (("input", "skip", "gamma", "beta", "bias"), _skip_layer_normalization),
    "SkipSimplifiedLayerNormalization": (("input", "skip", "gamma", "bias"), _skip_simplified),
    "Attention": (microsoft_attention.PACKED_INPUTS, microsoft_attention.packed),
    "MultiHeadAttention": (microsoft_attention.INPUTS, microsoft_attention.separate),
}
