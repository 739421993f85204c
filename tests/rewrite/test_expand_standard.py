"""Parts of operators that ONNX defines as functions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope_server.catalog.description import Kind
from onnxscope_server.domain import DataType, OutputMode, TensorType
from onnxscope_server.rewrite.build import build

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 6)).astype(np.float32)


def _model(node: onnx.NodeProto, opset: int, x: np.ndarray = X, **weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), ["b", *x.shape[1:]])],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _captured(model_of, plan_of, run, proto: onnx.ModelProto, x: np.ndarray = X) -> dict[str, np.ndarray]:
    """Captures all parts of one node and its outputs, which stay the same to the bit."""
    model = model_of(proto)
    before = run(proto.SerializeToString(), {"x": x})
    parts = [point.address for point in model.points(expand=True) if "::expand::" in point.address]
    found = run(build(model, plan_of(*parts, outputs=OutputMode.INSTRUMENTED, expand=True)), {"x": x})
    for name, value in before.items():
        np.testing.assert_array_equal(found[name], value)
    return {name.removeprefix("n::expand::"): value for name, value in found.items()}


@pytest.mark.parametrize("opset", [17, 18, 21, 24])
def test_layer_normalization(model_of, plan_of, run, opset):
    """Mean, variance and normalised values, in every version that spells the reductions differently."""
    scale = RNG.standard_normal(6).astype(np.float32)
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], name="n")
    parts = _captured(model_of, plan_of, run, _model(node, opset, s=scale))
    flat = X.reshape(-1, 6)
    np.testing.assert_allclose(parts["Mean2D"], flat.mean(-1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(parts["Var"], flat.var(-1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose((parts["Normalized"] * scale).reshape(X.shape), parts["y"], atol=1e-5)


@pytest.mark.parametrize("opset", [13, 18, 22])
def test_softmax(model_of, plan_of, run, opset):
    """Exponentials and their sum make up the probabilities."""
    node = helper.make_node("Softmax", ["x"], ["y"], name="n", axis=1)
    parts = _captured(model_of, plan_of, run, _model(node, opset))
    np.testing.assert_allclose(parts["X_Exp"] / parts["X_ReduceSum"], parts["y"], atol=1e-6)


@pytest.mark.parametrize("opset", [23, 24, 25])
def test_attention_shows_its_probabilities(model_of, plan_of, run, opset):
    """Some part is [row, head, position, position], sums to one, and picks what the operator gives."""
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], name="n", q_num_heads=2, kv_num_heads=2)
    parts = _captured(model_of, plan_of, run, _model(node, opset))
    values = X.reshape(2, 4, 2, 3).transpose(0, 2, 1, 3)
    found = [
        name
        for name, value in parts.items()
        if value.shape == (2, 2, 4, 4)
        and np.allclose((value @ values).transpose(0, 2, 1, 3).reshape(X.shape), parts["y"], atol=1e-5)
    ]
    assert found
    np.testing.assert_allclose(parts[found[0]].sum(-1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("op_type", "opset", "inputs", "weights"),
    [
        ("Gelu", 20, ["x"], {}),
        ("RMSNormalization", 23, ["x", "s"], {"s": np.ones(6, np.float32)}),
        ("GroupNormalization", 21, ["x", "s", "s"], {"s": np.ones(4, np.float32)}),
        ("MeanVarianceNormalization", 13, ["x"], {}),
        ("MeanVarianceNormalization", 18, ["x"], {}),
        ("LogSoftmax", 13, ["x"], {}),
        ("HardSwish", 14, ["x"], {}),
        ("ReduceL2", 18, ["x"], {}),
        ("Celu", 18, ["x"], {}),
    ],
)
def test_other_functions(model_of, plan_of, run, op_type, opset, inputs, weights):
    """Every function of ONNX is taken apart the same way: parts are found and run beside the node."""
    attributes = {"num_groups": 2} if op_type == "GroupNormalization" else {}
    x = X[..., None] if op_type == "MeanVarianceNormalization" else X
    node = helper.make_node(op_type, inputs, ["y"], name="n", **attributes)
    assert len(_captured(model_of, plan_of, run, _model(node, opset, x, **weights), x)) > 1


def test_a_loss_shows_its_probabilities(model_of, plan_of, run):
    """SoftmaxCrossEntropyLoss takes labels too; its body calls functions, which stay whole."""
    node = helper.make_node("SoftmaxCrossEntropyLoss", ["x", "labels"], ["y"], name="n")
    x = X[:, :, 0]
    parts = _captured(model_of, plan_of, run, _model(node, 13, x, labels=np.array([1, 3], np.int64)), x)
    expected = np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))
    assert any(
        value.size == expected.size and np.allclose(value.reshape(expected.shape), expected, atol=1e-5)
        for value in parts.values()
    )


def test_only_what_is_asked_for_is_computed(parts_of, model_of, plan_of):
    """Of the 27 values of a LayerNormalization the mean needs a few; the node itself is cut where nobody needs it."""
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], name="n")
    model = model_of(_model(node, 17, s=np.ones(6, np.float32)))
    whole = build(model, plan_of(*parts_of(model), expand=True)).node_count
    assert build(model, plan_of("n::expand::Mean2D", expand=True)).node_count < whole / 2


def test_types_and_kinds(model_of):
    """What depends on an input is an activation; numbers of the body are constants. Types are inferred."""
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], name="n")
    found = {
        point.address.removeprefix("n::expand::"): point
        for point in model_of(_model(node, 17, s=np.ones(6, np.float32))).points(expand=True)
    }
    assert found["Var"].kind is Kind.ACTIVATION
    assert isinstance(found["Var"].type, TensorType)
    assert found["Var"].type.data_type is DataType.FLOAT32
    assert found["Epsilon"].kind is Kind.CONSTANT
    assert found["Var"].op_type == "Sub"
    assert list(found).index("Var") < list(found).index("y")


@pytest.mark.parametrize(
    ("op_type", "opset", "attributes"),
    [
        ("Bernoulli", 15, {}),
        ("Softmax", 11, {}),
        ("Abs", 17, {}),
    ],
)
def test_what_has_no_parts(parts_of, model_of, op_type, opset, attributes):
    """Random draws would be others; versions that ONNX gives no function for, and plain operators, are left whole."""
    node = helper.make_node(op_type, ["x"], ["y"], name="n", **attributes)
    assert not parts_of(model_of(_model(node, opset)))


def test_parts_do_not_take_names_that_are_there(model_of):
    """A value that has a part's address keeps it."""
    proto = _model(helper.make_node("Softmax", ["x"], ["n::expand::X_Exp"], name="n"), 13)
    addresses = [point.address for point in model_of(proto).points(expand=True)]
    assert addresses[-2:] == ["n::expand::X_ReduceSum", "n::expand::X_Exp"]
    assert "n::expand::X_Exp_1" in addresses


def test_bodies_of_parts_are_renamed_too(model_of, plan_of, run):
    """Range is a function with a Loop inside."""
    node = helper.make_node("Range", ["zero", "x", "one"], ["y"], name="n")
    proto = _model(node, 17, np.array(5.0, np.float32), zero=np.float32(0), one=np.float32(1))
    proto.graph.input[0].type.tensor_type.shape.Clear()
    x = np.array(5.0, np.float32)
    parts = _captured(model_of, plan_of, run, proto, x)
    assert len(parts) > 1


def test_a_constant_node_has_constant_parts(model_of):
    """What reads no input depends on none, inside neither."""
    weight = numpy_helper.from_array(X, "w")
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["w"], ["c"], name="n"), helper.make_node("Add", ["x", "c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [onnx.ValueInfoProto(name="y")],
        [weight],
    )
    model = model_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    kinds = {point.kind for point in model.points(expand=True) if "::expand::" in point.address}
    assert kinds == {Kind.CONSTANT}
