"""Unused output slots over the whole way: listed on request, captured, and without effect on the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscope

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 2, 4)).astype(np.float32)


def _model(node: onnx.NodeProto, opset: int = 23, **weights: np.ndarray) -> bytes:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["s", "b", 4])],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()


@pytest.fixture
def lstm(scope: Any) -> Any:
    """An unnamed LSTM of which only Y_h is used."""
    w, r = (RNG.standard_normal(shape).astype(np.float32) for shape in ((1, 12, 4), (1, 12, 3)))
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=3)
    return scope.load(_model(node, w=w, r=r))


def test_slots_are_listed_where_asked_for(lstm: Any) -> None:
    """`*` leaves them out, `kind:unused` brings them, an exact address too."""
    assert [point.address for point in lstm.hook_points()] == ["h"]
    found = lstm.hook_points("kind:unused")
    assert [(point.address, point.kind) for point in found] == [
        ("LSTM_0::output::Y", "unused"),
        ("LSTM_0::output::Y_c", "unused"),
    ]
    assert lstm.hook_points("LSTM_0::output::Y")[0].shape == ("s", 1, "b", 3)


def test_capturing_slots_leaves_outputs_alone(lstm: Any) -> None:
    """Outputs are the unmodified model's; a slot is reduced and planned like any other hook point."""
    before = lstm.run(X).outputs["h"]
    acts = lstm.capture(X, at=["LSTM_0::output::Y", "h"])
    np.testing.assert_array_equal(acts.outputs["h"], before)
    np.testing.assert_array_equal(acts["LSTM_0::output::Y"][-1], before)
    last = lstm.capture(X, at="LSTM_0::output::Y", reduce=onnxscope.reduce.index(0, -1))
    np.testing.assert_array_equal(last["LSTM_0::output::Y"], before)
    assert lstm.plan(X, at="LSTM_0::output::Y", outputs=False).known_byte_count == 5 * 2 * 3 * 4


@pytest.mark.parametrize("exact", [True, False])
def test_a_kernel_that_takes_another_way_does_not_move_outputs(scope: Any, exact: bool) -> None:
    """Attention with its scores asked for computes other bits: the unmodified model supplies the outputs."""
    weights = {"mask": RNG.standard_normal((2, 2)).astype(np.float32)}
    node = helper.make_node("Attention", ["x", "x", "x", "mask"], ["y"], name="a", q_num_heads=2, kv_num_heads=2)
    model = scope.load(_model(node, **weights))
    before = model.capture(X, outputs=True, exact=exact).outputs["y"]
    acts = model.capture(X, at="a::output::qk_matmul_output", exact=exact)
    np.testing.assert_array_equal(acts.outputs["y"], before)
    assert acts["a::output::qk_matmul_output"].shape == (5, 2, 2, 2)
    assert acts.fidelity.fusion_blocked
    assert acts.fidelity.changed_operators == ("Attention",)


def test_a_slot_that_no_kernel_makes_is_named_in_the_error(scope: Any) -> None:
    """Where onnxruntime refuses what a schema offers, the error says which slot it was."""
    node = helper.make_node(
        "GroupQueryAttention",
        ["x", "x", "x", "", "", "last", "total"],
        ["y", "k", "v"],
        name="a",
        domain="com.microsoft",
        num_heads=1,
        kv_num_heads=1,
        qk_output=7,
    )
    weights = {"last": np.array([1] * 5, np.int32), "total": np.array(2, np.int32)}
    model = scope.load(_model(node, **weights))
    with pytest.raises((onnxscope.ModelInvalidError, onnxscope.RunFailedError), match="a::output::output_qk"):
        model.capture(X, at="a::output::output_qk")
