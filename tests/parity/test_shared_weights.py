"""Sharing weights between sessions changes nothing that a caller sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscope

PLANS: list[dict[str, Any]] = [
    {"at": "relu0"},
    {"at": "conv1"},
    {"at": "*"},
    {"at": "op:MatMul", "exact": True},
    {"at": "op:Conv", "outputs": "instrumented"},
    {"at": "kind:weight", "outputs": False},
    {"at": "wide", "reduce": "mean"},
]
X = np.random.default_rng(1).normal(size=(1, 128, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> bytes:
    """Convolutions, normalised, and products: x [1, 128, 6, 6] -> y [1, 128, 1536]; 14 MiB of weights."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(0, 0.1, (512, 128, 3, 3)),
        "w1": rng.normal(0, 0.1, (128, 512, 3, 3)),
        **{name: rng.normal(1, 0.1, 512) for name in ("scale0", "shift0", "mean0", "variance0")},
        **{name: rng.normal(1, 0.1, 128) for name in ("scale1", "shift1", "mean1", "variance1")},
        "up": rng.normal(0, 0.1, (36, 1536)),
        "square": rng.normal(0, 0.1, (1536, 1536)),
    }
    nodes = []
    for layer, value in enumerate(("x", "relu0")):
        norm = [f"{name}{layer}" for name in ("scale", "shift", "mean", "variance")]
        nodes += [
            helper.make_node("Conv", [value, f"w{layer}"], [f"conv{layer}"], pads=[1] * 4),
            helper.make_node("BatchNormalization", [f"conv{layer}", *norm], [f"norm{layer}"]),
            helper.make_node("Relu", [f"norm{layer}"], [f"relu{layer}"]),
        ]
    nodes += [
        helper.make_node("Reshape", ["relu1", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "square"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1, 128, 36]), "flat"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 128, 1536])],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = proto.SerializeToString()
    return data


def brought(model: onnxscope.Model, plan: dict[str, Any]) -> tuple[Any, ...]:
    """The bits of all that a capture brings, and its verdict on fidelity."""
    acts = model.capture(X, **plan)
    bits = {name: np.asarray(value).tobytes() for name, value in (*acts.items(), *acts.outputs.items())}
    return bits, acts.fidelity


def test_captures_are_the_same(model: bytes) -> None:
    """Bits and verdicts, of every plan, when its sessions are made and when they are made again."""
    with onnxscope.local(shared_weights_bytes=0) as scope:
        own = scope.load(model)
        expected = [brought(own, plan) for plan in PLANS]
    assert {verdict.fusion_blocked for _, verdict in expected} == {False, True}
    with onnxscope.local(max_sessions=2) as scope:
        shared = scope.load(model)
        for _ in range(2):
            assert [brought(shared, plan) for plan in PLANS] == expected


def test_weights_go_with_their_model(model: bytes, tmp_path: Path) -> None:
    """They are written when a model is loaded, and deleted when it is unloaded or the server ends."""
    folder = tmp_path / "shared"
    with onnxscope.local(data=tmp_path) as scope:
        loaded = scope.load(model, name="model")
        assert [item.name for item in folder.iterdir()] == [loaded.digest]
        loaded.capture(X, at="relu0")
        scope.unload("model")
        assert list(folder.iterdir()) == []
        scope.load(model, name="model")
    assert not folder.exists()


def test_a_restart_packs_again(model: bytes, tmp_path: Path) -> None:
    """A model that the server kept shares its weights from its first capture on."""
    with onnxscope.local(data=tmp_path) as scope:
        expected = brought(scope.load(model, name="model"), PLANS[0])
    with onnxscope.local(data=tmp_path) as scope:
        assert brought(scope.load("model"), PLANS[0]) == expected
        assert len(list((tmp_path / "shared").iterdir())) == 1
