"""Which hook points a model has, what they are, and how deep."""

from __future__ import annotations

from onnxscope_server.catalog.description import Kind
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import DataType, TensorType


def points(data: bytes):
    """The hook points of a model, by address."""
    return {point.address: point for point in CatalogModel.from_bytes(data).hook_points}


def test_every_value_is_listed_in_the_order_of_computation(mlp):
    """Inputs, then initializers, then node outputs."""
    found = CatalogModel.from_bytes(mlp).hook_points
    assert [(point.address, point.op_type, point.kind.value) for point in found] == [
        ("x", "", "input"),
        ("w1", "", "weight"),
        ("w2", "", "weight"),
        ("h", "MatMul", "activation"),
        ("r", "Relu", "activation"),
        ("y", "MatMul", "output"),
    ]


def test_depth_is_the_share_of_the_longest_path(parsed):
    """A shortcut does not make a value deeper or shallower than its longest way."""
    found = points(
        parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] y) {
            k = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()
            a = Relu(x)  b = Neg(a)  c = Abs(b)  s = Add(x, k)  y = Add(c, s)
        }""")
    )
    assert [found[name].depth for name in "xkabcsy"] == [0, 0, 0.25, 0.5, 0.75, 0.25, 1]


def test_constants_are_told_from_activations(parsed):
    """A node that depends on no input is a constant, unless it draws random numbers or is an output."""
    found = points(
        parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y, float[2] fixed, float[2] w)
        <float[2] w = {1, 2}>
        {
            t = Neg(w)
            fixed = Abs(t)
            noise = RandomNormal <shape = [2]> ()
            n = Add(noise, t)
            y = Add(x, n)
        }""")
    )
    assert {name: point.kind for name, point in found.items()} == {
        "x": Kind.INPUT,
        "w": Kind.OUTPUT,
        "t": Kind.CONSTANT,
        "fixed": Kind.OUTPUT,
        "noise": Kind.ACTIVATION,
        "n": Kind.ACTIVATION,
        "y": Kind.OUTPUT,
    }


def test_what_a_body_takes_from_outside_is_a_dependency(parsed):
    """An If whose branch reads an activation is an activation, though the If itself reads a constant."""
    found = points(
        parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y)
        <bool c = {1}>
        {
            a = Relu(x)
            i = If (c) <then_branch = t () => (float[2] p) { p = Neg(a) },
                        else_branch = e () => (float[2] q) { q = Abs(a) }>
            y = Neg(i)
        }""")
    )
    assert found["i"].kind is Kind.ACTIVATION
    assert found["i"].depth == 3 / 4
    assert found["If_0::then_branch::p"].depth == 2 / 4
    assert found["If_0::else_branch::q"].kind is Kind.ACTIVATION


def test_default_inputs_are_inputs_and_old_ones_weights(parsed):
    """An initializer that is also an input may be overridden, but not before version 4 of the format."""
    text = """
        <ir_version: {}, opset_import: ["" : 8]>
        g (float[2] x, float[2] w) => (float[2] y)
        <float[2] w = {{1, 2}}>
        {{ y = Add(x, w) }}"""
    new, old = parsed(text.format(8)), parsed(text.format(3))
    assert points(new)["w"].kind is Kind.INPUT
    assert points(old)["w"].kind is Kind.WEIGHT
    assert [spec.name for spec in CatalogModel.from_bytes(new).optional_inputs] == ["w"]
    assert [spec.name for spec in CatalogModel.from_bytes(new).inputs] == ["x"]
    assert CatalogModel.from_bytes(old).optional_inputs == ()
    assert [spec.name for spec in CatalogModel.from_bytes(old).inputs] == ["x"]


def test_operators_of_other_domains_carry_the_domain(parsed):
    """An operator outside of ONNX's own domain is domain:Type, and its unknown type stays unknown."""
    found = points(
        parsed("""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "odd" : 1]>
        g (float[2] x) => (float[2] y) { a = odd.Mystery(x)  y = com.microsoft.Gelu(a) }""")
    )
    assert found["a"].op_type == "odd:Mystery"
    assert found["a"].type is None
    assert found["y"].op_type == "com.microsoft:Gelu"


def test_types_are_inferred(mlp):
    """Values without a declared type get the inferred one, symbols kept."""
    assert points(mlp)["h"].type == TensorType(DataType.FLOAT32, ("batch", 3))
