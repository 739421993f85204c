"""Operators that compute on quantised values: the scales of their inputs, weights and results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.parity.quantised import X, checked, made


def _matmul() -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"]),
    ], {
        "w": rng.integers(0, 255, (6, 3)).astype(np.uint8),
        "ws": np.array([0.01, 0.02, 0.03], np.float32),
        "wz": np.array([120, 121, 122], np.uint8),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }


def _convolution() -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["flat"]),
        helper.make_node("Reshape", ["flat", "image"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"]),
    ], {
        "image": np.array([1, 2, 3, 4]),
        "w": rng.integers(-127, 127, (2, 2, 3, 3)).astype(np.int8),
        "ws": np.array([0.01, 0.02], np.float32),
        "wz": np.array([0, 0], np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }


@pytest.mark.parametrize("opset", [10, 13, 21])
@pytest.mark.parametrize("parts", [_matmul, _convolution])
def test_operators_on_quantised_values(scope: Any, parts: Any, opset: int) -> None:
    """Inputs, weights per channel and outputs, also where ONNX's own DequantizeLinear knows no axis yet."""
    nodes, initializers = parts()
    model = scope.load(made(nodes, "y", opset, xs=np.float32(0.02), xz=np.uint8(100), **initializers))
    stored, _ = checked(model, X, ["q", "w", "y"], exact=True)
    assert list(stored.quantization) == ["q", "w", "y"]
    for address, scale, offset in (("q", 0.02, 100), ("y", 0.05, 128)):
        assert stored.quantization[address].scale == np.float32(scale)
        assert stored.quantization[address].zero_point == offset
    np.testing.assert_array_equal(stored.quantization["w"].scale, initializers["ws"])
    np.testing.assert_array_equal(stored.quantization["w"].zero_point, initializers["wz"])


@pytest.mark.parametrize("transposed", [0, 1])
def test_weights_of_a_gemm_that_lie_the_other_way(scope: Any, rng: np.random.Generator, transposed: int) -> None:
    """Columns have the scales; of a transposed weight these are the rows."""
    inputs = ["q", "xs", "xz", "w", "ws", "wz", "", "ys", "yz"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QGemm", inputs, ["y"], domain="com.microsoft", transB=transposed),
    ]
    weight, scale = rng.integers(-9, 9, (6, 6)).astype(np.int8), np.arange(1, 7, dtype=np.float32) / 8
    scalars = {"xs": np.float32(0.05), "xz": np.uint8(100), "ys": np.float32(1), "yz": np.uint8(128)}
    model = scope.load(made(nodes, "y", 17, w=weight, ws=scale, wz=np.zeros(6, np.int8), **scalars))
    _, real = checked(model, X, ["q", "w", "y"], exact=True)
    np.testing.assert_array_equal(real["w"], weight * (scale[:, None] if transposed else scale))
    product = real["q"] @ (real["w"].T if transposed else real["w"])
    np.testing.assert_allclose(real["y"], product, atol=0.51)


@pytest.mark.parametrize("opset", [9, 10, 21])
def test_onnxruntimes_own_quantised_operators(scope: Any, opset: int) -> None:
    """QLinearAdd and QLinearSigmoid of com.microsoft say the scales of their results."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], domain="com.microsoft"),
        helper.make_node("QLinearAdd", ["q", "s", "z", "q", "s", "z", "s2", "z2"], ["a"], domain="com.microsoft"),
        helper.make_node("QLinearSigmoid", ["a", "s2", "z2", "s3", "z3"], ["y"], domain="com.microsoft"),
    ]
    scales = {"s": np.float32(0.02), "s2": np.float32(0.04), "s3": np.float32(1 / 256)}
    model = scope.load(made(nodes, "y", opset, **scales, z=np.uint8(100), z2=np.uint8(101), z3=np.uint8(0)))
    stored, real = checked(model, X, ["q", "a", "y"], exact=True)
    assert [one.zero_point.item() for one in stored.quantization.values()] == [100, 101, 0]
    np.testing.assert_allclose(real["y"], 1 / (1 + np.exp(-2 * X)), atol=0.02)
