"""Which models compute as much whenever their inputs have the same shapes."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from onnxscope_server.catalog.steady import is_steady

_RELU = helper.make_node("Relu", ["x"], ["y"])


def _model(*nodes: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(nodes, "g", [], []), functions=functions)


def _function(*nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("own", "f", ["x"], ["y"], nodes, [helper.make_opsetid("", 21)])


def test_operators_of_shapes() -> None:
    """Nothing else decides what these compute, in functions neither."""
    call = helper.make_node("f", ["x"], ["y"], domain="own")
    assert is_steady(_model(_RELU))
    assert is_steady(_model(call, functions=(_function(_RELU),)))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Tile", ["x", "n"], ["y"]),
        helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([_RELU], "b", [], [])),
        helper.make_node("Sleep", ["x"], ["y"], domain="somebodys"),
    ],
    ids=["by value", "with a body", "unknown"],
)
def test_others(node: onnx.NodeProto) -> None:
    """Values decide, or nobody knows: in the graph and in the functions that it calls."""
    call = helper.make_node("f", ["x"], ["y"], domain="own")
    assert not is_steady(_model(node))
    assert not is_steady(_model(call, functions=(_function(node),)))
