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


def test_a_fixed_batch_is_found_where_the_graph_lets_it_vary(parsed: Callable[[str], bytes]) -> None:
    """A declared batch of one says nothing about the graph: it is freed for the look."""
    model = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        fixed (float[1, 4] x) => (float[4, 1] y) { a = Relu(x)  y = Transpose<perm = [1, 0]>(a) }"""
    )
    with onnxscope.local() as scope:
        points = scope.load(model).hook_points()
    assert {point.address: point.batch_axis for point in points} == {"a": 0, "y": 1}


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
