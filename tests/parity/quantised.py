"""Quantised values, captured as they are and as real numbers, for the tests of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

X = (np.arange(24, dtype=np.float32).reshape(4, 6) - 11) / 7


def as_real(stored: np.ndarray, scale: Any, zero_point: Any, axis: int = 0, block_size: int = 0) -> np.ndarray:
    """What numpy says: (q - zero point) * scale, per tensor, per axis or per block."""
    scale = np.asarray(scale)
    zero_point = np.zeros(scale.shape) if zero_point is None else np.asarray(zero_point)
    if block_size:
        size = stored.shape[axis]
        scale, zero_point = (np.repeat(one, block_size, axis).take(range(size), axis) for one in (scale, zero_point))
    elif scale.ndim:
        shape = [1] * stored.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    shifted = stored.astype(np.float32) - zero_point.astype(np.float32)
    return (shifted * scale.astype(np.float32)).astype(scale.dtype)


def made(nodes: list[onnx.NodeProto], output: str, opset: int = 21, x: Any = X, **initializers: Any) -> bytes:
    """A model x -> output of nodes and weights."""
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def checked(model: Any, x: Any, at: Any, **options: Any) -> tuple[Any, Any]:
    """Captures values as they are and as real numbers, and compares both with numpy and each other."""
    stored = model.capture(x, at=at, **options)
    real = model.capture(x, at=at, dequantize=True, **options)
    assert list(stored) == list(real)
    assert stored.quantization.keys() == real.quantization.keys()
    for address, one in real.quantization.items():
        other = stored.quantization[address]
        np.testing.assert_array_equal(one.scale, other.scale)
        assert (one.zero_point is None) == (other.zero_point is None)
        if one.zero_point is not None:
            np.testing.assert_array_equal(one.zero_point, other.zero_point)
            assert one.zero_point.dtype == stored[address].dtype
        want = as_real(stored[address], one.scale, one.zero_point, one.axis, one.block_size)
        assert real[address].dtype == one.scale.dtype
        np.testing.assert_array_equal(real[address], want)
    for address in stored:
        if address not in stored.quantization:
            np.testing.assert_array_equal(stored[address], real[address])
            assert stored[address].dtype == real[address].dtype
    for name, output in stored.outputs.items():
        np.testing.assert_array_equal(output, real.outputs[name])
    return stored, real
