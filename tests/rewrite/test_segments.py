"""A plan in segments is the plan in one segment: what each node needs is where it is, and the bits are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, parser
from tests.rewrite.cut_plans import (
    X,
    bits,
    brought,
    check_partition,
    check_same_bits,
    in_segments,
    model_of,
    nodes_of,
    plan_for,
)

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import OutputMode, Reduction, ReductionKind
from onnxscope_server.rewrite.build import build


def test_quantised_values_and_their_scales_come_as_from_one_segment() -> None:
    """Stored and as real numbers, with scales that are constants, weights and computed."""
    model = model_of(
        """(float[4, 6] x) => (float[4, 6] y) <float s = {0.1}, uint8 z = {7}> {
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  r = Relu (d)
            q2, s2, z2 = DynamicQuantizeLinear (r)  d2 = DequantizeLinear (q2, s2, z2)
            q3 = QuantizeLinear (d2, s, z)  y = DequantizeLinear (q3, s, z) }"""
    )
    feeds = {"x": np.linspace(-1, 2, 24, dtype=np.float32).reshape(4, 6)}
    for dequantize in (False, True):
        for exact in (False, True):
            plan = plan_for(model, "*", exact=exact, dequantize=dequantize)
            assert plan.scalings
            assert check_same_bits(model, plan, feeds) > 2


def test_weights_that_only_some_segments_read_are_in_those() -> None:
    """And what constants alone say is in every segment that needs it, but is read from the first that has it."""
    model = model_of(
        """(float[2, 2] x) => (float[2, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {5, 6, 7, 8}> {
            k = Constant <value_float = 3.0> ()  kk = Neg (k)  a = MatMul (x, w)  b = Mul (a, kk)
            c = MatMul (b, v)  y = Mul (c, kk) }"""
    )
    plan = plan_for(model, "*", "w", "v", "k", "kk")
    segments = in_segments(model, plan)
    assert len(segments) == 4
    assert [name for segment in segments for name in nodes_of(segment) if name == "kk"] == ["kk"] * 3
    assert check_same_bits(model, plan, {"x": np.eye(2, dtype=np.float32)}) == 4


def test_sparse_weights_are_in_the_segments_that_read_them() -> None:
    """As dense ones are."""
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [2], [3.0, 4.0]),
        helper.make_tensor("places", TensorProto.INT64, [2], [0, 3]),
        [4],
    )
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["b"]),
         helper.make_node("Add", ["b", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        sparse_initializer=[sparse],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = CatalogModel.from_bytes(proto.SerializeToString())
    assert check_same_bits(model, plan_for(model, "*"), {"x": np.ones(4, np.float32)}) == 3


def test_chance_is_drawn_once() -> None:
    """A node that draws depends on nothing and is still in one segment only: all who read it get the same numbers."""
    model = model_of(
        """(float[3] x) => (float[3] y) {
            n = RandomNormal <shape = [3]> ()  a = Add (x, n)  b = Neg (a)  c = Sub (b, n)  y = Neg (c) }"""
    )
    plan = plan_for(model, "*", "n")
    segments = in_segments(model, plan)
    assert len(segments) > 1
    assert [name for segment in segments for name in nodes_of(segment)].count("n") == 1
    found = brought(segments, plan, {"x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(found["activation", "a"], 1 + found["activation", "n"])
    np.testing.assert_array_equal(found["activation", "c"], found["activation", "b"] - found["activation", "n"])


def test_chance_in_a_body_and_in_a_function_is_drawn_once() -> None:
    """Wherever the node that draws is."""
    model = CatalogModel.from_bytes(
        parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[3] x, bool t) => (float[3] y) {
                yes = Constant <value = bool {1}> ()
                n = If (yes) <then_branch = a () => (u) { u = RandomNormal <shape = [3]> () },
                              else_branch = b () => (v) { v = RandomNormal <shape = [3]> () }>
                m = f.draw ()
                a = Add (x, n)  b = Add (a, m)  c = Sub (b, n)  y = Sub (c, m) }
            <domain: "f", opset_import: ["" : 17]> draw () => (r) { r = RandomUniform <shape = [3]> () }"""
        ).SerializeToString()
    )
    plan = plan_for(model, "n", "m", "a", "b", "c", "y")
    segments = in_segments(model, plan)
    assert len(segments) > 1
    names = [name for segment in segments for name in nodes_of(segment)]
    assert (names.count("n"), names.count("m")) == (1, 1)


def test_a_mask_goes_where_it_is_used() -> None:
    """To the segments that reduce with it, and it is the same value there."""
    model = model_of("(float[2, 3, 4] x) => (float[2, 3, 4] y) { a = Neg (x)  b = Abs (a)  c = Sqrt (b)  y = Neg (c) }")
    reducing = {"b": Reduction(ReductionKind.MEAN, mask_value="m"), "y": Reduction(ReductionKind.LAST, mask_value="m")}
    plan = plan_for(model, "a", "b", "c", "y", outputs=OutputMode.NONE)
    plan = replace(plan, captures=tuple(replace(one, reduction=reducing.get(one.address)) for one in plan.captures))
    segments, whole = in_segments(model, plan), build(model, plan)
    check_partition(segments, whole)
    assert len(segments) > 2
    assert 0 < sum(bool(segment.masks) for segment in segments) < len(segments)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    one, many = (brought(some, plan, {"x": x}, m=mask) for some in ([whole], segments))
    assert {key: bits(value) for key, value in one.items()} == {key: bits(value) for key, value in many.items()}


def test_functions_that_call_functions_go_where_they_are_called() -> None:
    """A segment has the functions that its nodes call, directly or through others and in bodies, and no more."""
    text = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[3] x, bool t) => (float[3] y) {
            a = f.outer (x)  b = Neg (a)
            c = If (t) <then_branch = p () => (u) { u = f.inner (b) }, else_branch = q () => (v) { v = Neg (b) }>
            y = Neg (c) }
        <domain: "f", opset_import: ["" : 17, "f" : 1]> outer (p) => (r) { s = f.inner (p)  r = Neg (s) }
        <domain: "f", opset_import: ["" : 17]> inner (p) => (r) { r = Abs (p) }"""
    model = CatalogModel.from_bytes(parser.parse_model(text).SerializeToString())
    plan = plan_for(model, "a", "b", "c", "y")
    segments = in_segments(model, plan)
    named = [{item.name for item in onnx.load_from_string(segment.graph).functions} for segment in segments]
    assert named == [{"outer", "inner"}, set(), {"inner"}, set()]
    feeds: dict[str, Any] = {"x": X, "t": np.array(True)}
    assert check_same_bits(model, plan, feeds) == 4
    assert check_same_bits(model, plan_for(model, *model.contents.places(expand=False)), feeds) > 1
