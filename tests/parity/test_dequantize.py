"""Quantised values: their own dtype, scale and zero point beside them, and real numbers on request."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import onnxscope

_HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "f" : 1]>'
_FUNCTION = '<domain: "f", opset_import: ["" : 21]>'
_X = (np.arange(24, dtype=np.float32).reshape(4, 6) - 11) / 7
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


def _real(stored: np.ndarray, scale: Any, zero_point: Any, axis: int = 0, block_size: int = 0) -> np.ndarray:
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


def _model(nodes: list[onnx.NodeProto], output: str, opset: int = 21, x: Any = _X, **initializers: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def _checked(model: Any, x: Any, at: Any, **options: Any) -> tuple[Any, Any]:
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
        want = _real(stored[address], one.scale, one.zero_point, one.axis, one.block_size)
        assert real[address].dtype == one.scale.dtype
        np.testing.assert_array_equal(real[address], want)
    for address in stored:
        if address not in stored.quantization:
            np.testing.assert_array_equal(stored[address], real[address])
            assert stored[address].dtype == real[address].dtype
    for name, output in stored.outputs.items():
        np.testing.assert_array_equal(output, real.outputs[name])
    return stored, real


@pytest.mark.parametrize(
    ("inputs", "attributes", "dtype"),
    [
        (["x", "one"], {}, np.uint8),
        (["x", "one", "zero"], {}, np.int8),
        (["x", "one"], {"output_dtype": TensorProto.INT4}, ml_dtypes.int4),
    ],
    ids=["scale", "zero point", "output_dtype"],
)
@pytest.mark.parametrize("x", [_X, _X[0], _X[0, 0]], ids=["matrix", "vector", "scalar"])
def test_one_scale_in_a_vector_is_one_for_all(scope: Any, x: Any, inputs: Any, attributes: Any, dtype: Any) -> None:
    """A scale [1] serves any rank, also one that has no axis 1."""
    nodes = [helper.make_node("QuantizeLinear", inputs, ["y"], **attributes)]
    shape = (1,) if np.ndim(x) > 1 else ()
    model = scope.load(_model(nodes, "y", x=x, one=np.full(shape, 0.5, np.float32), zero=np.full(shape, 1, np.int8)))
    stored, _ = _checked(model, x, "y")
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
    model = scope.load(_model(nodes, "y", s=np.float32(0.25), z=np.array(offset, dtype)))
    stored, real = _checked(model, _X, ["q", "y"])
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
    count = _X.shape[axis]
    scale = (np.arange(count, dtype=np.float32) + 1) / 64
    offset = np.arange(count, dtype=np.int8) - 2
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=axis)]
    stored, _ = _checked(scope.load(_model(nodes, "y", opset, s=scale, z=offset)), _X, "y")
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
    stored, _ = _checked(scope.load(_model(nodes, "y", s=scale, z=offset)), _X, "y")
    assert stored.quantization["y"].block_size == block_size
    np.testing.assert_array_equal(stored.quantization["y"].scale, scale)


def test_the_oldest_operators_know_no_axis(scope: Any) -> None:
    """At opset 10 there is one scale for all, and no zero point means zero."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["y"])]
    stored, _ = _checked(scope.load(_model(nodes, "y", 10, s=np.float32(0.1))), _X, "y")
    assert stored["y"].dtype == np.uint8
    assert stored.quantization["y"].zero_point is None


def test_real_numbers_have_the_dtype_of_their_scale(scope: Any) -> None:
    """A float16 scale gives float16."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    half = _X.astype(np.float16)
    model = scope.load(_model(nodes, "y", x=half, s=np.float16(0.125), z=np.int8(1)))
    _, real = _checked(model, half, "y")
    assert real["y"].dtype == np.float16


def test_weights_come_with_the_scale_of_who_reads_them(scope: Any, rng: np.random.Generator) -> None:
    """A stored weight is quantised as the DequantizeLinear behind it says, along its axis."""
    weight = rng.integers(-8, 8, (6, 2)).astype(np.int8)
    scale, offset = np.array([0.5, 0.25], np.float32), np.array([1, -1], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"], axis=1),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    stored, real = _checked(scope.load(_model(nodes, "y", w=weight, s=scale, z=offset)), _X, ["w", "real"])
    np.testing.assert_array_equal(stored["w"], weight)
    np.testing.assert_array_equal(real["w"], stored["real"])


def test_scales_that_are_found_at_run_time(scope: Any) -> None:
    """DynamicQuantizeLinear computes scale and zero point; they arrive as they were in this run."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "offset"]),
        helper.make_node("MatMulInteger", ["q", "w", "offset", "wz"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=1),
    ]
    model = scope.load(_model(nodes, "y", w=np.eye(6, 2, dtype=np.int8), wz=np.int8(0)))
    for x in (_X, _X * 3 + 1):
        stored, real = _checked(model, x, ["q", "sum", "scale", "offset"])
        assert list(stored.quantization) == ["q"]
        assert stored.quantization["q"].scale == stored["scale"]
        assert stored.quantization["q"].zero_point == stored["offset"]
        np.testing.assert_allclose(real["q"], x, atol=stored["scale"] * 0.51)
        assert real["sum"].dtype == np.int32


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
    model = scope.load(_model(nodes, "y", opset, xs=np.float32(0.02), xz=np.uint8(100), **initializers))
    stored, _ = _checked(model, _X, ["q", "w", "y"], exact=True)
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
    model = scope.load(_model(nodes, "y", 17, w=weight, ws=scale, wz=np.zeros(6, np.int8), **scalars))
    _, real = _checked(model, _X, ["q", "w", "y"], exact=True)
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
    model = scope.load(_model(nodes, "y", opset, **scales, z=np.uint8(100), z2=np.uint8(101), z3=np.uint8(0)))
    stored, real = _checked(model, _X, ["q", "a", "y"], exact=True)
    assert [one.zero_point.item() for one in stored.quantization.values()] == [100, 101, 0]
    np.testing.assert_allclose(real["y"], 1 / (1 + np.exp(-2 * _X)), atol=0.02)


_LOOP = """g (float[2, 3] x, int64 n) => (y)
    <float s = {0.125}, uint8 z = {7}, bool t = {1}> {
    y = Loop (n, t, x) <body = b (int64 i, bool c, float[2, 3] u) => (bool co, float[2, 3] uo) {
        co = Identity (c)
        q = QuantizeLinear (u, s, z)
        one = Constant <value = float {1.0}> ()
        uo0 = DequantizeLinear (q, s, z)
        uo = Add (uo0, one) }> }"""
_SCAN = """g (float[2] s0, float[4, 2] xs) => (y, ys) { y, ys = Scan <num_scan_inputs = 1,
    body = b (float[2] a, float[2] x) => (float[2] ao, uint8[2] q) {
        ao = Add (a, x)
        q, scale, offset = DynamicQuantizeLinear (ao) }> (s0, xs) }"""
_BRANCH = """g (float[2, 3] x, bool c) => (y) { y = If (c) <
    then_branch = t () => (uint8[2, 3] q) {
        s = Constant <value = float {0.5}> ()  z = Constant <value = uint8 {9}> ()  q = QuantizeLinear (x, s, z) },
    else_branch = e () => (uint8[2,3] r) {
        s = Constant <value = float {0.25}> ()  z = Constant <value = uint8 {5}> () r = QuantizeLinear (x, s, z) }> }"""
_CALLS = f"""g (float[2, 3] x) => (y) <float s = {{0.125}}, uint8 z = {{7}}, float s2 = {{0.5}}, uint8 z2 = {{9}}>
    {{ a = f.F (x, s, z)  y = f.F (a, s2, z2) }}
    {_FUNCTION} F (x, s, z) => (y) {{ q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }}"""


def test_values_in_a_loop(scope: Any) -> None:
    """Each iteration's value with the scale from outside; the iterations come first."""
    model = scope.load(parser.parse_model(_HEAD + _LOOP).SerializeToString())
    for trips in (3, 1, 0):
        feeds = {"x": _X[:2, :3], "n": np.array(trips)}
        stored = model.capture(feeds, at="*::q")["Loop_0::body::q"]
        acts = model.capture(feeds, at="*::q", dequantize=True)
        real = acts["Loop_0::body::q"]
        assert stored.shape == real.shape == (trips, 2, 3)
        assert stored.dtype == np.uint8
        assert real.dtype == np.float32
        np.testing.assert_array_equal(real, _real(stored, np.float32(0.125), np.uint8(7)))
        quantization = acts.quantization["Loop_0::body::q"]
        assert quantization.scale == np.float32(0.125)
        assert quantization.zero_point == 7


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_four_bits_in_a_loop(scope: Any, dtype: Any) -> None:
    """An odd number of four bits an iteration does not overlap with the next (onnxruntime alone ends the process)."""
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    text = f"""g (float[3] x, int64 n) => (y) <float s = {{0.5}}, int32 two = {{2}}, bool t = {{1}}> {{
        z = Cast <to = {number}> (two)
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[3] u) => (bool co, float[3] uo) {{
            co = Identity (c)  q = QuantizeLinear (u, s, z)  uo = DequantizeLinear (q, s, z) }}> }}"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    x = np.array([0.5, -1, 2], np.float32)
    for trips in (3, 0):
        stored, real = _checked(model, {"x": x, "n": np.array(trips)}, "Loop_0::body::q")
        assert stored["Loop_0::body::q"].dtype == dtype
        np.testing.assert_array_equal(real["Loop_0::body::q"], np.broadcast_to(x, (trips, 3)))


def test_a_scale_that_only_a_body_has_says_nothing_of_a_value_outside(scope: Any) -> None:
    """The branch may not run: nothing is claimed of its input, and it comes as it is."""
    text = """g (uint8[2] x, bool c) => (y) { y = If (c) <
        then_branch = t () => (float[2] d) { s = Constant <value = float {0.5}> ()  d = DequantizeLinear (x, s) },
        else_branch = e () => (float[2] r) { r = Cast <to = 1> (x) }> }"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    for dequantize in (False, True):
        acts = model.capture({"x": np.array([1, 2], np.uint8), "c": np.array(True)}, at="x", dequantize=dequantize)
        assert acts["x"].dtype == np.uint8
        assert not acts.quantization


def test_scales_that_differ_from_one_iteration_to_the_next(scope: Any) -> None:
    """Scales that the body computes have the iteration as their first axis too."""
    model = scope.load(parser.parse_model(_HEAD + _SCAN).SerializeToString())
    feeds = {"s0": _X[0, :2], "xs": _X[:, :2]}
    address = "Scan_0::body::q"
    stored = model.capture(feeds, at=address)
    real = model.capture(feeds, at=address, dequantize=True)
    quantization = real.quantization[address]
    assert quantization.scale.shape == quantization.zero_point.shape == (4,)
    want = [_real(*each) for each in zip(stored[address], quantization.scale, quantization.zero_point, strict=True)]
    np.testing.assert_array_equal(real[address], want)


def test_values_in_a_branch_that_is_not_taken(scope: Any) -> None:
    """None, and so are their scale and zero point."""
    model = scope.load(parser.parse_model(_HEAD + _BRANCH).SerializeToString())
    taken, other = "If_0::then_branch::q", "If_0::else_branch::r"
    feeds = {"x": _X[:2, :3], "c": np.array(True)}
    stored = model.capture(feeds, at=[taken, other])
    acts = model.capture(feeds, at=[taken, other], dequantize=True)
    np.testing.assert_array_equal(acts[taken], _real(stored[taken], np.float32(0.5), np.uint8(9)))
    assert acts[other] is None
    assert acts.quantization[taken].scale == np.float32(0.5)
    assert acts.quantization[other].scale is None
    assert acts.quantization[other].zero_point is None


def test_values_in_functions_with_scales_from_the_call(scope: Any) -> None:
    """A function that is called with other scales holds values of other scales."""
    model = scope.load(parser.parse_model(_HEAD + _CALLS).SerializeToString())
    stored, _ = _checked(model, _X[:2, :3], ["F_0::F::q", "F_1::F::q"])
    assert stored["F_0::F::q"].dtype == np.uint8
    assert [one.scale for one in stored.quantization.values()] == [0.125, 0.5]
    assert [one.zero_point for one in stored.quantization.values()] == [7, 9]


def test_a_zero_point_that_a_call_leaves_out(scope: Any) -> None:
    """An input that a function has and its call does not give is no zero point."""
    text = f"""g (float[2, 3] x) => (y) <float s = {{0.5}}> {{ y = f.F (x, s) }}
        {_FUNCTION} F (x, s, z) => (y) {{ q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }}"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    stored, real = _checked(model, _X[2:, :3], ["F_0::F::q", "y"])
    assert stored.quantization["F_0::F::q"].zero_point is None
    np.testing.assert_array_equal(real["F_0::F::q"], stored["y"])


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
    model = scope.load(_model(nodes, "y", s=scale, z=np.full(6, 2, np.int8)))
    whole = model.capture(_X, at="y", dequantize=True)["y"]
    found = model.capture(_X, at="y", dequantize=True, reduce=reduction)["y"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want(whole), rtol=1e-6)


def test_reduced_in_every_iteration(scope: Any) -> None:
    """In a loop the real numbers of each iteration are reduced on their own."""
    model = scope.load(parser.parse_model(_HEAD + _LOOP).SerializeToString())
    feeds = {"x": _X[:2, :3], "n": np.array(3)}
    whole = model.capture(feeds, at="*::q", dequantize=True)["Loop_0::body::q"]
    found = model.capture(feeds, at="*::q", dequantize=True, reduce=onnxscope.reduce.mean(axis=1))["Loop_0::body::q"]
    np.testing.assert_allclose(found, whole.mean(-1), rtol=1e-6)


def test_streams_bring_scales_with_every_batch(scope: Any) -> None:
    """Scale and zero point are those of the batch."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = scope.load(_model(nodes, "y", x=_X[:2]))
    found = list(model.stream(_X, at=["q", "y", "s"], dequantize=True, batch_size=2))
    assert len(found) == 2
    for acts in found:
        np.testing.assert_array_equal(acts["q"], acts["y"])
        assert acts.quantization["q"].scale == acts["s"]
    assert found[0]["s"] != found[1]["s"]


def test_one_by_one_brings_activations_only(scope: Any) -> None:
    """Scales that were not asked for are not among what capture_iter yields."""
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])]
    model = scope.load(_model(nodes, "q"))
    found = list(model.capture_iter(_X, at="q", dequantize=True))
    assert [(address, value.dtype) for address, value in found] == [("q", np.float32)]


def test_the_plan_counts_real_numbers(scope: Any) -> None:
    """Four bytes for each where one is stored, and the dtype says so."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    model = scope.load(_model(nodes, "y", s=np.float32(1), z=np.int8(0)))
    stored = model.plan(_X, at="y", outputs=False)
    real = model.plan(_X, at="y", outputs=False, dequantize=True)
    assert (stored[0].dtype, stored.known_byte_count) == ("int8", 24)
    assert (real[0].dtype, real.known_byte_count) == ("float32", 96)
