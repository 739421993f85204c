"""Which values are quantised, and where their scales and zero points are."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper, parser

from onnxscope_server.catalog import own_functions, quantization
from onnxscope_server.catalog.quantization import Scaling
from onnxscope_server.catalog.scopes import Place, Step

MICROSOFT = "com.microsoft"
NAMES = [*"abcdefghxyzsw", "xs", "xz", "ws", "wz", "ys", "yz"]


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A graph with inputs for every name."""
    inputs = [onnx.ValueInfoProto(name=name) for name in NAMES]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, []))


def found(*nodes: onnx.NodeProto) -> dict[str, tuple[str, str, int]]:
    """Scale, zero point and axis by value, all of the main graph."""
    listed = quantization.listed(model(*nodes))
    assert all(not place.path for place in listed)
    return {
        place.name: (scaling.scale.name, scaling.zero_point.name if scaling.zero_point else "", scaling.axis)
        for place, scaling in listed.items()
    }


@pytest.mark.parametrize(
    ("op_type", "domain", "inputs", "want"),
    [
        ("QuantizeLinear", "", "x s z", {"o": ("s", "z", 1)}),
        ("QuantizeLinear", "", "x s", {"o": ("s", "", 1)}),
        ("QuantizeLinear", "ai.onnx", "x s z", {"o": ("s", "z", 1)}),
        ("QuantizeLinear", MICROSOFT, "x s z", {"o": ("s", "z", 1)}),
        ("DequantizeLinear", "", "x s z", {"x": ("s", "z", 1)}),
        ("DequantizeLinear", MICROSOFT, "x s", {"x": ("s", "", 1)}),
        (
            "QLinearConv",
            "",
            "x xs xz w ws wz ys yz b",
            {"o": ("ys", "yz", 0), "x": ("xs", "xz", 0), "w": ("ws", "wz", 0)},
        ),
        (
            "QLinearMatMul",
            "",
            "x xs xz w ws wz ys yz",
            {"o": ("ys", "yz", -1), "x": ("xs", "xz", -1), "w": ("ws", "wz", -1)},
        ),
        (
            "QLinearAdd",
            MICROSOFT,
            "x xs xz w ws wz ys yz",
            {"o": ("ys", "yz", 1), "x": ("xs", "xz", 1), "w": ("ws", "wz", 1)},
        ),
        (
            "QGemm",
            MICROSOFT,
            "x xs xz w ws wz b ys yz",
            {"o": ("ys", "yz", -1), "x": ("xs", "xz", -1), "w": ("ws", "wz", -1)},
        ),
        ("QGemm", MICROSOFT, "x xs xz w ws wz b", {"x": ("xs", "xz", -1), "w": ("ws", "wz", -1)}),
        ("QLinearSigmoid", MICROSOFT, "x xs xz ys yz", {"o": ("ys", "yz", 1), "x": ("xs", "xz", 1)}),
        ("QLinearLeakyRelu", MICROSOFT, "x xs xz ys", {"o": ("ys", "", 1), "x": ("xs", "xz", 1)}),
        ("QLinearGlobalAveragePool", MICROSOFT, "x xs  ys yz", {"o": ("ys", "yz", 1), "x": ("xs", "", 1)}),
        ("DynamicQuantizeMatMul", MICROSOFT, "x w ws wz", {"w": ("ws", "wz", -1)}),
        ("MatMulIntegerToFloat", MICROSOFT, "x w xs ws xz wz", {"x": ("xs", "xz", 1), "w": ("ws", "wz", 1)}),
        ("MatMulInteger", "", "x w xz wz", {}),
        ("QLinearConv", "somebody.else", "x xs xz w ws wz ys yz", {}),
        ("Relu", "", "x", {}),
    ],
)
def test_operators_say_where_scales_are(op_type, domain, inputs, want):
    """Inputs and outputs of each operator, with the places of their scales among its inputs."""
    assert found(helper.make_node(op_type, inputs.split(" "), ["o"], domain=domain)) == want


def test_who_makes_a_value_is_believed_before_who_reads_it():
    """A value has one scale: its maker's, else that of its first reader."""
    quantize = helper.make_node("QuantizeLinear", ["x", "a", "b"], ["q"])
    first = helper.make_node("DequantizeLinear", ["q", "c", "d"], ["o"])
    second = helper.make_node("DequantizeLinear", ["w", "e", "f"], ["p"])
    third = helper.make_node("DequantizeLinear", ["w", "g", "h"], ["r"])
    assert found(first, second, third, quantize) == {"q": ("a", "b", 1), "w": ("e", "f", 1)}


def test_axis_and_block_are_taken_from_the_node():
    """They are what a DequantizeLinear needs, as is the domain."""
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["o"], axis=-2, block_size=16)
    own = helper.make_node("DequantizeLinear", ["y", "s"], ["p"], axis=0, domain=MICROSOFT)
    listed = quantization.listed(model(node, own))
    scale = Place((), "s")
    assert listed == {
        Place((), "x"): Scaling(scale, Place((), "z"), -2, 16, ""),
        Place((), "y"): Scaling(scale, None, 0, 0, MICROSOFT),
    }


def test_dynamic_quantisation_makes_its_own_scale():
    """All three are outputs of the node; where one is left out nothing is said."""
    assert found(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "t", "u"])) == {"q": ("t", "u", 0)}
    assert found(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "t", ""])) == {}


def test_weights_are_found_among_initializers():
    """Weight, scale and zero point without inputs of their names."""
    proto = parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 19]>
        g (float[2] x) => (float[2] y) <int8[2] k = {1, 2}, float t = {0.5}, int8 u = {1}>
        { r = DequantizeLinear (k, t, u)  y = Add (x, r) }"""
    )
    assert quantization.listed(proto) == {
        Place((), "k"): Scaling(Place((), "t"), Place((), "u"), 1, 0, ""),
    }


NESTED = """<ir_version: 9, opset_import: ["" : 19, "f" : 1]>
    g (float[2] x, uint8[2] u, bool c) => (y) <float s = {0.5}, uint8 z = {1}> {
        y = If (c) <
            then_branch = t () => (float[2] d) {
                q = QuantizeLinear (x, s, z)
                inner = Constant <value = float {0.25}> ()
                e = DequantizeLinear (u, inner)
                d = DequantizeLinear (q, s, z) },
            else_branch = e () => (float[2] b) {
                s = Constant <value = float {0.125}> ()
                r = QuantizeLinear (x, s, z)
                b = f.F (r, s) }>
    }
    <domain: "f", opset_import: ["" : 19]>
    F (r, s) => (o) { o = DequantizeLinear (r, s) }"""


def test_scales_are_looked_for_outwards():
    """The nearest value of the name, up to the main graph or the function's inputs; never further in."""
    proto = parser.parse_model(NESTED)
    own_functions.give(proto)
    taken, other = (Step("y", f"{which}_branch", "If") for which in ("then", "else"))
    call = Step("b", "F", "")
    listed = quantization.listed(proto)
    assert listed == {
        Place((taken,), "q"): Scaling(Place((), "s"), Place((), "z"), 1, 0, ""),
        Place((other,), "r"): Scaling(Place((other,), "s"), Place((), "z"), 1, 0, ""),
        Place((other, call), "r"): Scaling(Place((other, call), "s"), None, 1, 0, ""),
    }
