"""Which outputs that a node leaves out onnxruntime makes when asked, what they are called and what goes with them."""

from __future__ import annotations

import pytest
from onnx import helper

from onnxscope_server.catalog import formal_outputs

MICROSOFT = "com.microsoft"


def unused(op_type: str, outputs: list[str], opset: int, *, inputs: int = 3, domain: str = "", **attributes):
    """The outputs that a node leaves out."""
    names = [f"x{index}" for index in range(inputs)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **attributes)
    return formal_outputs.unused(node, opset)


@pytest.mark.parametrize(
    ("op_type", "outputs", "opset", "attributes", "want"),
    [
        ("LSTM", ["", "h"], 17, {}, [(0, "Y"), (2, "Y_c")]),
        ("LSTM", ["y", "h", "c"], 17, {}, []),
        ("LSTM", ["y"], 1, {}, [(1, "Y_h"), (2, "Y_c")]),
        ("GRU", ["", "h"], 14, {}, [(0, "Y")]),
        ("RNN", ["y", ""], 14, {}, [(1, "Y_h")]),
        ("Attention", ["y"], 23, {}, [(1, "present_key"), (2, "present_value"), (3, "qk_matmul_output")]),
        ("Attention", ["y", "k", "v"], 23, {}, [(3, "qk_matmul_output")]),
        ("Dropout", ["y"], 13, {}, [(1, "mask")]),
        ("Dropout", ["y", "m"], 13, {}, []),
        ("Dropout", ["y"], 11, {}, []),
        ("BatchNormalization", ["y"], 15, {"training_mode": 1}, []),
        ("BatchNormalization", ["y"], 15, {"training_mode": 0}, []),
        ("BatchNormalization", ["y", "m", "v"], 15, {"training_mode": 1}, []),
        ("BatchNormalization", ["y"], 7, {}, []),
        ("TopK", ["values", ""], 11, {}, []),
        ("MaxPool", ["y"], 12, {"kernel_shape": [2]}, [(1, "Indices")]),
        ("MaxPool", ["y", ""], 8, {"kernel_shape": [2]}, [(1, "Indices")]),
        ("MaxPool", ["y"], 1, {"kernel_shape": [2]}, []),
        ("LayerNormalization", ["y"], 17, {}, [(1, "Mean"), (2, "InvStdDev")]),
        ("Unique", ["y"], 11, {}, [(1, "indices"), (2, "inverse_indices"), (3, "counts")]),
        ("SoftmaxCrossEntropyLoss", ["y"], 13, {}, [(1, "log_prob")]),
        ("If", ["a"], 17, {}, []),
        ("Relu", ["y"], 17, {}, []),
        ("Unheard", ["y"], 17, {}, []),
    ],
)
def test_what_an_operator_offers(op_type, outputs, opset, attributes, want):
    """In the operator's order, both spellings of an output that is not there; by the schema of the model's opset."""
    found = unused(op_type, outputs, opset, **attributes)
    assert [(one.index, one.name) for one in found] == want
    assert not any(one.typed_by_input for one in found)


def test_both_spellings_of_onnx_are_one_domain():
    """An LSTM of ai.onnx is an LSTM."""
    assert [one.name for one in unused("LSTM", ["", "h"], 17, domain="ai.onnx")] == ["Y", "Y_c"]
    assert unused("LSTM", ["", "h"], 17, domain="somebody.else") == ()


def test_a_cache_is_filled_as_a_whole():
    """Onnxruntime refuses key or value alone; scores stand for themselves."""
    key, value, scores = unused("Attention", ["y"], 23)
    assert (key.companions, value.companions, scores.companions) == ((2,), (1,), ())
    (value,) = unused("GroupQueryAttention", ["y", "k"], 1, domain=MICROSOFT)
    assert (value.name, value.companions) == ("present_value", (1,))
    assert not any(one.companions for one in unused("LSTM", [""], 17))


def test_attention_beside_lengths_of_rows_has_no_cache():
    """Onnxruntime refuses a cache there; an input of the empty name is none."""
    node = helper.make_node("Attention", ["q", "k", "v", "", "", "", "lengths"], ["y"])
    assert [one.name for one in formal_outputs.unused(node, 24)] == ["qk_matmul_output"]
    node.input[6] = ""
    assert [one.name for one in formal_outputs.unused(node, 24)] == ["present_key", "present_value", "qk_matmul_output"]


def test_operators_of_onnxruntime_have_their_own_names():
    """The one whose type onnxruntime does not infer has that of its first input."""
    found = unused("MultiHeadAttention", ["y"], 1, domain=MICROSOFT)
    assert [(one.name, one.typed_by_input) for one in found] == [
        ("present_key", False),
        ("present_value", False),
        ("qk", True),
    ]
    found = unused("SkipSimplifiedLayerNormalization", ["y", "", "", ""], 1, domain=MICROSOFT)
    assert [(one.index, one.name) for one in found] == [(2, "inv_std_var"), (3, "input_skip_bias_sum")]
    assert unused("EmbedLayerNormalization", ["y", ""], 1, domain=MICROSOFT)[0].name == "embedding_sum"
    assert unused("SkipLayerNormalization", ["y"], 1) == ()


def test_scores_are_offered_where_they_are_computed():
    """GroupQueryAttention has them only where its attribute says how."""
    for qk_output, want in ((0, False), (1, True), (2, True)):
        found = unused("GroupQueryAttention", ["y", "k", "v"], 1, domain=MICROSOFT, qk_output=qk_output)
        assert [one.name for one in found] == (["output_qk"] if want else [])
