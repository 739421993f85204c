"""Quantised values inside loops, branches and functions, whose scales come from outside or differ each time."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper, parser
from tests.parity.quantised import X, as_real, checked

import onnxscope

_HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "f" : 1]>'
_FUNCTION = '<domain: "f", opset_import: ["" : 21]>'
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
        feeds = {"x": X[:2, :3], "n": np.array(trips)}
        stored = model.capture(feeds, at="*::q")["Loop_0::body::q"]
        acts = model.capture(feeds, at="*::q", dequantize=True)
        real = acts["Loop_0::body::q"]
        assert stored.shape == real.shape == (trips, 2, 3)
        assert stored.dtype == np.uint8
        assert real.dtype == np.float32
        np.testing.assert_array_equal(real, as_real(stored, np.float32(0.125), np.uint8(7)))
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
        stored, real = checked(model, {"x": x, "n": np.array(trips)}, "Loop_0::body::q")
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
    feeds = {"s0": X[0, :2], "xs": X[:, :2]}
    address = "Scan_0::body::q"
    stored = model.capture(feeds, at=address)
    real = model.capture(feeds, at=address, dequantize=True)
    quantization = real.quantization[address]
    assert quantization.scale.shape == quantization.zero_point.shape == (4,)
    want = [as_real(*each) for each in zip(stored[address], quantization.scale, quantization.zero_point, strict=True)]
    np.testing.assert_array_equal(real[address], want)


def test_values_in_a_branch_that_is_not_taken(scope: Any) -> None:
    """None, and so are their scale and zero point."""
    model = scope.load(parser.parse_model(_HEAD + _BRANCH).SerializeToString())
    taken, other = "If_0::then_branch::q", "If_0::else_branch::r"
    feeds = {"x": X[:2, :3], "c": np.array(True)}
    stored = model.capture(feeds, at=[taken, other])
    acts = model.capture(feeds, at=[taken, other], dequantize=True)
    np.testing.assert_array_equal(acts[taken], as_real(stored[taken], np.float32(0.5), np.uint8(9)))
    assert acts[other] is None
    assert acts.quantization[taken].scale == np.float32(0.5)
    assert acts.quantization[other].scale is None
    assert acts.quantization[other].zero_point is None


def test_values_in_functions_with_scales_from_the_call(scope: Any) -> None:
    """A function that is called with other scales holds values of other scales."""
    model = scope.load(parser.parse_model(_HEAD + _CALLS).SerializeToString())
    stored, _ = checked(model, X[:2, :3], ["F_0::F::q", "F_1::F::q"])
    assert stored["F_0::F::q"].dtype == np.uint8
    assert [one.scale for one in stored.quantization.values()] == [0.125, 0.5]
    assert [one.zero_point for one in stored.quantization.values()] == [7, 9]


def test_a_zero_point_that_a_call_leaves_out(scope: Any) -> None:
    """An input that a function has and its call does not give is no zero point."""
    text = f"""g (float[2, 3] x) => (y) <float s = {{0.5}}> {{ y = f.F (x, s) }}
        {_FUNCTION} F (x, s, z) => (y) {{ q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }}"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    stored, real = checked(model, X[2:, :3], ["F_0::F::q", "y"])
    assert stored.quantization["F_0::F::q"].zero_point is None
    np.testing.assert_array_equal(real["F_0::F::q"], stored["y"])


def test_reduced_in_every_iteration(scope: Any) -> None:
    """In a loop the real numbers of each iteration are reduced on their own."""
    model = scope.load(parser.parse_model(_HEAD + _LOOP).SerializeToString())
    feeds = {"x": X[:2, :3], "n": np.array(3)}
    whole = model.capture(feeds, at="*::q", dequantize=True)["Loop_0::body::q"]
    found = model.capture(feeds, at="*::q", dequantize=True, reduce=onnxscope.reduce.mean(axis=1))["Loop_0::body::q"]
    np.testing.assert_allclose(found, whole.mean(-1), rtol=1e-6)
