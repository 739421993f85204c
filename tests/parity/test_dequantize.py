"""Quantised values: their own dtype, scale and zero point beside them, and real numbers on request."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.parity.quantised import X, checked, made

import onnxscope

_DTYPES: dict[int, Any] = {
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
    TensorProto.UINT4: ml_dtypes.uint4,
    TensorProto.INT4: ml_dtypes.int4,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
}


@pytest.mark.parametrize(
    ("inputs", "attributes", "dtype"),
    [
        (["x", "one"], {}, np.uint8),
        (["x", "one", "zero"], {}, np.int8),
        (["x", "one"], {"output_dtype": TensorProto.INT4}, ml_dtypes.int4),
    ],
    ids=["scale", "zero point", "output_dtype"],
)
@pytest.mark.parametrize("x", [X, X[0], X[0, 0]], ids=["matrix", "vector", "scalar"])
def test_one_scale_in_a_vector_is_one_for_all(scope: Any, x: Any, inputs: Any, attributes: Any, dtype: Any) -> None:
    """A scale [1] serves any rank, also one that has no axis 1."""
    nodes = [helper.make_node("QuantizeLinear", inputs, ["y"], **attributes)]
    shape = (1,) if np.ndim(x) > 1 else ()
    model = scope.load(made(nodes, "y", x=x, one=np.full(shape, 0.5, np.float32), zero=np.full(shape, 1, np.int8)))
    stored, _ = checked(model, x, "y")
    assert stored["y"].dtype == dtype


@pytest.mark.parametrize("data_type", _DTYPES, ids=TensorProto.DataType.Name)
def test_every_stored_type_comes_in_its_own_dtype_and_as_real_numbers(scope: Any, data_type: int) -> None:
    """Eight, sixteen and four bits and float8: what is stored stays as it is unless real numbers are asked for."""
    dtype = _DTYPES[data_type]
    offset = 0 if "float8" in np.dtype(dtype).name else 3
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = scope.load(made(nodes, "y", s=np.float32(0.25), z=np.array(offset, dtype)))
    stored, real = checked(model, X, ["q", "y"])
    assert stored["q"].dtype == dtype
    assert real["q"].dtype == np.float32
    np.testing.assert_array_equal(real["q"], stored["y"])
    quantization = stored.quantization["q"]
    assert quantization.scale == np.float32(0.25)
    assert quantization.zero_point == np.array(offset, dtype)
    assert "y" not in stored.quantization


@pytest.mark.parametrize("opset", [13, 19, 21])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scales_along_an_axis(scope: Any, axis: int, opset: int) -> None:
    """One scale and one zero point for each entry of the axis."""
    count = X.shape[axis]
    scale = (np.arange(count, dtype=np.float32) + 1) / 64
    offset = np.arange(count, dtype=np.int8) - 2
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=axis)]
    stored, _ = checked(scope.load(made(nodes, "y", opset, s=scale, z=offset)), X, "y")
    quantization = stored.quantization["y"]
    np.testing.assert_array_equal(quantization.scale, scale)
    np.testing.assert_array_equal(quantization.zero_point, offset)
    assert quantization.axis == axis


@pytest.mark.parametrize("block_size", [2, 4])
def test_scales_of_blocks(scope: Any, block_size: int) -> None:
    """A scale for each block of entries along an axis; the last block may be shorter."""
    scale = np.linspace(0.1, 0.9, 4 * -(-6 // block_size), dtype=np.float32).reshape(4, -1)
    offset = np.arange(scale.size, dtype=np.uint8).reshape(scale.shape)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=1, block_size=block_size)]
    stored, _ = checked(scope.load(made(nodes, "y", s=scale, z=offset)), X, "y")
    assert stored.quantization["y"].block_size == block_size
    np.testing.assert_array_equal(stored.quantization["y"].scale, scale)


def test_the_oldest_operators_know_no_axis(scope: Any) -> None:
    """At opset 10 there is one scale for all, and no zero point means zero."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["y"])]
    stored, _ = checked(scope.load(made(nodes, "y", 10, s=np.float32(0.1))), X, "y")
    assert stored["y"].dtype == np.uint8
    assert stored.quantization["y"].zero_point is None


def test_real_numbers_have_the_dtype_of_their_scale(scope: Any) -> None:
    """A float16 scale gives float16."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    half = X.astype(np.float16)
    model = scope.load(made(nodes, "y", x=half, s=np.float16(0.125), z=np.int8(1)))
    _, real = checked(model, half, "y")
    assert real["y"].dtype == np.float16


def test_weights_come_with_the_scale_of_who_reads_them(scope: Any, rng: np.random.Generator) -> None:
    """A stored weight is quantised as the DequantizeLinear behind it says, along its axis."""
    weight = rng.integers(-8, 8, (6, 2)).astype(np.int8)
    scale, offset = np.array([0.5, 0.25], np.float32), np.array([1, -1], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"], axis=1),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    stored, real = checked(scope.load(made(nodes, "y", w=weight, s=scale, z=offset)), X, ["w", "real"])
    np.testing.assert_array_equal(stored["w"], weight)
    np.testing.assert_array_equal(real["w"], stored["real"])


def test_scales_that_are_found_at_run_time(scope: Any) -> None:
    """DynamicQuantizeLinear computes scale and zero point; they arrive as they were in this run."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "offset"]),
        helper.make_node("MatMulInteger", ["q", "w", "offset", "wz"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=1),
    ]
    model = scope.load(made(nodes, "y", w=np.eye(6, 2, dtype=np.int8), wz=np.int8(0)))
    for x in (X, X * 3 + 1):
        stored, real = checked(model, x, ["q", "sum", "scale", "offset"])
        assert list(stored.quantization) == ["q"]
        assert stored.quantization["q"].scale == stored["scale"]
        assert stored.quantization["q"].zero_point == stored["offset"]
        np.testing.assert_allclose(real["q"], x, atol=stored["scale"] * 0.51)
        assert real["sum"].dtype == np.int32


@pytest.mark.parametrize(
    ("reduction", "want"),
    [
        (onnxscope.reduce.mean(axis=1), lambda a: a.mean(1)),
        (onnxscope.reduce.topk(2), lambda a: -np.sort(-a, -1)[..., :2]),
        ("norm", lambda a: np.sqrt((a * a).sum(-1))),
        (onnxscope.reduce.index(1, -1), lambda a: a[:, -1]),
    ],
    ids=["mean", "topk", "norm", "index"],
)
def test_real_numbers_are_reduced(scope: Any, reduction: Any, want: Any) -> None:
    """With both, the reduction is of the real numbers."""
    scale = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=1)]
    model = scope.load(made(nodes, "y", s=scale, z=np.full(6, 2, np.int8)))
    whole = model.capture(X, at="y", dequantize=True)["y"]
    found = model.capture(X, at="y", dequantize=True, reduce=reduction)["y"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want(whole), rtol=1e-6)


def test_streams_bring_scales_with_every_batch(scope: Any) -> None:
    """Scale and zero point are those of the batch."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = scope.load(made(nodes, "y", x=X[:2]))
    found = list(model.stream(X, at=["q", "y", "s"], dequantize=True, batch_size=2))
    assert len(found) == 2
    for acts in found:
        np.testing.assert_array_equal(acts["q"], acts["y"])
        assert acts.quantization["q"].scale == acts["s"]
    assert found[0]["s"] != found[1]["s"]


def test_one_by_one_brings_activations_only(scope: Any) -> None:
    """Scales that were not asked for are not among what capture_iter yields."""
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])]
    model = scope.load(made(nodes, "q"))
    found = list(model.capture_iter(X, at="q", dequantize=True))
    assert [(address, value.dtype) for address, value in found] == [("q", np.float32)]


def test_the_plan_counts_real_numbers(scope: Any) -> None:
    """Four bytes for each where one is stored, and the dtype says so."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    model = scope.load(made(nodes, "y", s=np.float32(1), z=np.int8(0)))
    stored = model.plan(X, at="y", outputs=False)
    real = model.plan(X, at="y", outputs=False, dequantize=True)
    assert (stored[0].dtype, stored.known_byte_count) == ("int8", 24)
    assert (real[0].dtype, real.known_byte_count) == ("float32", 96)
