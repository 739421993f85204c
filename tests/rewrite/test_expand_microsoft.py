"""The parts of onnxruntime's own operators: put together, they are what the operator gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxscope_server.rewrite.build import build

RNG = np.random.default_rng(0)
ROWS, POSITIONS, HEADS, UNITS = 2, 3, 2, 4
WIDTH = HEADS * UNITS


def _random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _model(op_type: str, inputs: dict[str, np.ndarray], opset: int = 17, **attributes) -> onnx.ModelProto:
    """A model of one node; an input without a value is left out."""
    names = [name if value is not None else "" for name, value in inputs.items()]
    node = helper.make_node(op_type, names, ["y"], name="n", domain="com.microsoft", **attributes)
    x = next(iter(inputs))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(x, helper.np_dtype_to_tensor_dtype(inputs[x].dtype), inputs[x].shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in list(inputs.items())[1:] if value is not None],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _heads(value: np.ndarray) -> np.ndarray:
    """[row, head, position, unit] as the operators put it out."""
    return value.transpose(0, 2, 1, 3).reshape(value.shape[0], value.shape[2], -1)


X = _random(ROWS, POSITIONS, WIDTH)
GAMMA, BETA, BIAS = (_random(WIDTH) for _ in range(3))
MASK = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
NORM = {"input": X, "skip": _random(*X.shape), "gamma": GAMMA}
PACKED = {"input": X, "weights": _random(WIDTH, 3 * WIDTH), "bias": _random(3 * WIDTH)}
APART = {"query": X, "key": _random(ROWS, 5, WIDTH), "value": _random(ROWS, 5, WIDTH)}
CASES = {
    "gelu": ("Gelu", {"X": X}, {}, lambda p: X * p["cdf"]),
    "bias gelu": ("BiasGelu", {"X": X, "bias": BIAS}, {}, lambda p: p["sum"] * p["cdf"]),
    "fast gelu": ("FastGelu", {"X": X}, {}, lambda p: X * p["cdf"]),
    "fast gelu with bias": ("FastGelu", {"X": X, "bias": BIAS}, {}, lambda p: p["sum"] * p["cdf"]),
    "quick gelu": ("QuickGelu", {"X": X}, {"alpha": 1.5}, lambda p: X * p["gate"]),
    "norm": ("SkipLayerNormalization", NORM, {"epsilon": 1e-5}, lambda p: p["normalized"] * GAMMA),
    "norm with all": (
        "SkipLayerNormalization",
        NORM | {"beta": BETA, "bias": BIAS},
        {},
        lambda p: p["scaled"] + BETA,
    ),
    "simplified norm": ("SkipSimplifiedLayerNormalization", NORM, {}, lambda p: p["normalized"] * GAMMA),
    "simplified norm with bias": (
        "SkipSimplifiedLayerNormalization",
        NORM | {"bias": BIAS},
        {"epsilon": 1e-3},
        lambda p: p["normalized"] * GAMMA,
    ),
    "attention": ("Attention", PACKED, {"num_heads": HEADS}, lambda p: _heads(p["context"])),
    "masked attention": (
        "Attention",
        PACKED | {"mask_index": MASK},
        {"num_heads": HEADS},
        lambda p: _heads(p["probabilities"] @ p["value"]),
    ),
    "attention to the past": (
        "Attention",
        PACKED,
        {"num_heads": HEADS, "unidirectional": 1, "scale": 0.3},
        lambda p: _heads(p["context"]),
    ),
    "attention with a bias of its scores": (
        "Attention",
        PACKED | {"mask_index": None, "past": None, "attention_bias": _random(ROWS, HEADS, POSITIONS, POSITIONS)},
        {"num_heads": HEADS},
        lambda p: _heads(p["context"]),
    ),
    "multi-head attention": ("MultiHeadAttention", APART, {"num_heads": HEADS}, lambda p: _heads(p["context"])),
    "multi-head attention with biases and mask": (
        "MultiHeadAttention",
        APART
        | {"bias": _random(3 * WIDTH), "key_padding_mask": np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], np.int32)},
        {"num_heads": HEADS},
        lambda p: _heads(p["context"]),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("opset", [13, 21])
def test_parts_make_up_the_operator(parts_of, model_of, plan_of, run, case, opset):
    """What the operator gives follows from its parts, to 1e-5."""
    op_type, inputs, attributes, whole = CASES[case]
    model = model_of(_model(op_type, inputs, opset, **attributes))
    feeds = {next(iter(inputs)): X}
    found = run(build(model, plan_of("y", *parts_of(model), expand=True)), feeds)
    parts = {name.removeprefix("n::expand::"): value for name, value in found.items()}
    np.testing.assert_allclose(whole(parts), found["y"], atol=1e-5)
    if "probabilities" in parts:
        np.testing.assert_allclose(parts["probabilities"].sum(-1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("Attention", PACKED | {"mask_index": np.array([2, 3], np.int32)}, {"num_heads": HEADS}),
        ("Attention", PACKED, {"num_heads": HEADS, "do_rotary": 1}),
        ("MultiHeadAttention", {"query": _random(2, 3, HEADS, 3, UNITS)}, {"num_heads": HEADS}),
        ("Inverse", {"X": X}, {}),
    ],
)
def test_forms_that_are_not_written_down_have_no_parts(parts_of, model_of, op_type, inputs, attributes):
    """An operator, or a form of one, that the table does not know is left whole."""
    assert not parts_of(model_of(_model(op_type, inputs, **attributes)))
