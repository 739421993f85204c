"""Where rows are is found by running, and where a run is impossible nothing is claimed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxscope
from onnxscope_server.pipeline.batch_axes import _axes


def test_an_axis_has_rows_only_where_it_alone_counts_them() -> None:
    """Sizes must be those of the two batches, and no other axis may move."""
    first = {"rows": (2, 5), "behind": (5, 2), "pairs": (4, 5), "both": (2, 2), "none": (5,), "rank": (2,)}
    second = {"rows": (3, 5), "behind": (5, 3), "pairs": (6, 5), "both": (3, 3), "none": (5,), "rank": (3, 1)}
    assert _axes(first, second) == {"rows": 0, "behind": 1}


def test_several_inputs_share_the_batch(parsed: Callable[[str], bytes]) -> None:
    """Ids and mask of a text model grow together; sequence axes are not taken for rows."""
    model = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        text (int64[batch, seq] ids, int64[batch, seq] mask) => (float[batch, seq] y)
        { sum = Add(ids, mask)  y = Cast<to = 1>(sum) }"""
    )
    with onnxscope.local() as scope:
        points = scope.load(model).hook_points()
    assert {point.address: point.batch_axis for point in points} == {"sum": 0, "y": 0}


def test_rows_are_found_inside_of_nodes(parsed: Callable[[str], bytes]) -> None:
    """In functions and branches, and in a Loop behind the iterations."""
    model = parsed(
        """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        g (float[B, 3] x, bool c, int64 n) => (float[B, 3] y) {
            t = Constant <value = bool {1}> ()  a = f.F (x)
            b = If (c) <then_branch = t1 () => (r) { q = Neg (a)  r = Exp (q) },
                        else_branch = e () => (s) { s = Exp (a) }>
            y = Loop (n, t, b) <body = lb (int64 i, bool ci, float[B, 3] u) => (bool co, float[B, 3] v) {
                co = Identity (ci)  w = Exp (u)  v = Neg (w) }> }
        <domain: "f", opset_import: ["" : 17]>
        F (X) => (Y) { Z = Transpose <perm = [1, 0]> (X)  Y = Transpose <perm = [1, 0]> (Z) }"""
    )
    with onnxscope.local() as scope:
        axes = {point.address: point.batch_axis for point in scope.load(model).hook_points()}
    assert axes["F_0::F::Z"] == 1
    assert axes["If_0::then_branch::q"] == axes["If_0::else_branch::s"] == 0
    assert axes["Loop_0::body::w"] == 1
    assert axes["Loop_0::body::co"] is None


def test_rows_inside_of_nodes_lose_the_padding(parsed: Callable[[str], bytes]) -> None:
    """Where the batch is prescribed, the rows that were added are taken out behind the iterations too."""
    model = parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4, 3] x, int64 n) => (float[4, 3] y) {
            t = Constant <value = bool {1}> ()
            y = Loop (n, t, x) <body = b (int64 i, bool ci, float[4, 3] u) => (bool co, float[4, 3] v) {
                co = Identity (ci)  v = Neg (u) }> }"""
    )
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    with onnxscope.local() as scope:
        stream = scope.load(model).stream({"x": x, "n": np.array(2)}, at="*::v", batch_size=4)
        assert [acts["Loop_0::body::v"].shape for acts in stream] == [(2, 4, 3), (2, 2, 3)]


def test_a_fixed_batch_is_found_where_the_graph_lets_it_vary(parsed: Callable[[str], bytes]) -> None:
    """A declared batch of one says nothing about the graph: it is freed for the look."""
    model = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        fixed (float[1, 4] x) => (float[4, 1] y) { a = Relu(x)  y = Transpose<perm = [1, 0]>(a) }"""
    )
    with onnxscope.local() as scope:
        points = scope.load(model).hook_points()
    assert {point.address: point.batch_axis for point in points} == {"a": 0, "y": 1}


@pytest.mark.parametrize(
    ("inputs", "axis"),
    [
        ("int64[1, pos] ids, int64[1, pos] mask", 0),
        ("int64[4, pos] ids, int64[4, pos] mask", 0),
        ("int64[4, batch_size] ids, int64[4, batch_size] mask", 1),
        ("int64[4, N] ids, int64[4, N] mask", 1),
        ("int64[4, pos] ids, int64[1, pos] mask", 1),
    ],
)
def test_rows_lie_along_a_fixed_axis_in_front_of_an_open_one(
    parsed: Callable[[str], bytes], inputs: str, axis: int
) -> None:
    """A text model exported with one batch size has open positions; only a batch by name, or no common one, is open."""
    model = parsed(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        text ({inputs}) => (int64[A, B] y) {{ y = Add(ids, mask) }}"""
    )
    with onnxscope.local() as scope:
        (point,) = scope.load(model).hook_points()
    assert point.batch_axis == axis


def test_a_graph_that_insists_on_its_batch_claims_nothing_behind_that() -> None:
    """A Reshape to a constant shape runs with one size only: rows are inferred up to there, and not beyond."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Reshape", ["a", "shape"], ["y"])],
        "insisting",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])],
        [onnx.numpy_helper.from_array(np.array([3, 2]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with onnxscope.local() as scope:
        points = scope.load(model).hook_points()
    assert {point.address: point.batch_axis for point in points} == {"a": 0, "y": None}


@pytest.mark.parametrize("batches", [1, 2])
def test_looking_twice_is_looking_once(chain: bytes, batches: int) -> None:
    """The second listing gives the same axes."""
    with onnxscope.local() as scope:
        model = scope.load(chain)
        seen = [tuple(point.batch_axis for point in model.hook_points()) for _ in range(batches)]
    assert set(seen) == {(0, 0, 0)}
