"""Unused output slots: filled, they hold what onnx.reference says, and leave the other outputs as they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxscope_server.catalog.description import Kind
from onnxscope_server.catalog.slots import Slot
from onnxscope_server.domain import OutputMode
from onnxscope_server.rewrite.build import build

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3, 4)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)


def _weights(gates: int, directions: int = 2) -> dict[str, np.ndarray]:
    shapes = {"w": (directions, gates * 3, 4), "r": (directions, gates * 3, 3), "b": (directions, gates * 6)}
    weights = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return weights | {"lengths": np.array([5, 2, 4], np.int32)}


def _model(node: onnx.NodeProto, x: np.ndarray, weights: dict[str, np.ndarray], opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _recurrent(
    op_type: str, gates: int, outputs: list[str]
) -> tuple[onnx.NodeProto, np.ndarray, dict[str, np.ndarray]]:
    attributes = {"hidden_size": 3, "direction": "bidirectional"}
    node = helper.make_node(op_type, ["x", "w", "r", "b", "lengths"], outputs, name="n", **attributes)
    return node, X, _weights(gates)


CASES = {
    "lstm": _recurrent("LSTM", 4, ["", "h"]),
    "gru": _recurrent("GRU", 3, ["", "h"]),
    "rnn": _recurrent("RNN", 1, ["", "h"]),
    "norm": (
        helper.make_node("LayerNormalization", ["x", "s"], ["y"], name="n"),
        X,
        {"s": RNG.standard_normal(4).astype(np.float32)},
    ),
    "dropout": (helper.make_node("Dropout", ["x"], ["y"], name="n"), X, {}),
    "unique": (helper.make_node("Unique", ["x"], ["y"], name="n"), X.round(), {}),
    "loss": (
        helper.make_node("SoftmaxCrossEntropyLoss", ["x", "labels"], ["y"], name="n"),
        X[0],
        {"labels": np.array([1, 3, 0], np.int64)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_slots_hold_what_the_reference_says(model_of, plan_of, run, case):
    """Every slot of an operator, alone and all together; what the node computes anyway stays the same to the bit."""
    node, x, weights = CASES[case]
    proto = _model(node, x, weights)
    model = model_of(proto)
    used = [name for name in node.output if name]
    before = run(proto.SerializeToString(), {"x": x})
    addresses = [point.address for point in model.hook_points if point.kind is Kind.UNUSED]
    slots, places = model.contents.slots, model.contents.places(expand=False)
    assert addresses
    for asked in [*([address] for address in addresses), addresses]:
        found = run(build(model, plan_of(*asked, outputs=OutputMode.INSTRUMENTED)), {"x": x})
        for name in used:
            np.testing.assert_array_equal(found[name], before[name])
        for address in asked:
            if node.op_type not in {"LSTM", "GRU", "RNN"}:  # the reference has them in one direction only
                np.testing.assert_allclose(found[address], _reference(proto, slots[places[address]], x), atol=1e-5)


def test_indices_of_a_pool_point_at_its_values(model_of, plan_of, run):
    """MaxPool's indices count through the whole input (the reference miscounts them)."""
    model = model_of(_model(helper.make_node("MaxPool", ["x"], ["y"], name="n", kernel_shape=[2, 2]), IMAGE, {}))
    found = run(build(model, plan_of("y", "n::output::Indices")), {"x": IMAGE})
    np.testing.assert_array_equal(IMAGE.ravel()[found["n::output::Indices"]], found["y"])


@pytest.mark.parametrize("case", ["lstm", "gru", "rnn"])
def test_sequences_and_last_states_agree(model_of, plan_of, run, case):
    """Each row's last state is the sequence's at its last step, forward, and at its first, backward; padding is 0."""
    node, x, weights = CASES[case]
    model = model_of(_model(node, x, weights))
    found = run(build(model, plan_of("h", "n::output::Y")), {"x": x})
    y, h = found["n::output::Y"], found["h"]
    for row, length in enumerate(weights["lengths"]):
        np.testing.assert_array_equal(y[length - 1, 0, row], h[0, row])
        np.testing.assert_array_equal(y[0, 1, row], h[1, row])
        assert not y[length:, :, row].any()


def test_slots_that_go_together_are_filled_together(model_of, plan_of, run):
    """Only what was asked for becomes an output."""
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], name="n", q_num_heads=2, kv_num_heads=2)
    proto = _model(node, X, {}, opset=23)
    found = run(build(model_of(proto), plan_of("n::output::present_key")), {"x": X})
    assert list(found) == ["n::output::present_key"]
    np.testing.assert_array_equal(found["n::output::present_key"], X.reshape(5, 3, 2, 2).transpose(0, 2, 1, 3))


def test_a_type_that_onnxruntime_does_not_infer_is_stated(model_of, plan_of, run):
    """The scores of com.microsoft's attention have the element type of the query."""
    node = helper.make_node("MultiHeadAttention", ["x"] * 3, ["y"], name="n", domain="com.microsoft", num_heads=1)
    found = run(build(model_of(_model(node, X, {})), plan_of("n::output::qk")), {"x": X})
    scores = X @ X.transpose(0, 2, 1) / 2
    np.testing.assert_allclose(found["n::output::qk"][:, 0], scores, atol=1e-5)


def _reference(proto: onnx.ModelProto, slot: Slot, x: np.ndarray) -> np.ndarray:
    whole = onnx.ModelProto.FromString(proto.SerializeToString())
    node = whole.graph.node[0]
    node.output.extend([""] * (slot.index + 1 - len(node.output)))
    node.output[slot.index] = "slot"
    del whole.graph.output[:]
    whole.graph.output.append(onnx.ValueInfoProto(name="slot"))
    return ReferenceEvaluator(whole).run(None, {"x": x})[0]
