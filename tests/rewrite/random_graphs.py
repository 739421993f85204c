"""Random graphs of nodes in any order, with branches, dead ends and values to expose."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

SHAPE = [2, 3]
BINARY = ("Add", "Mul", "Sub", "Max")
UNARY = ("Relu", "Neg", "Identity", "Abs")


def info(name):
    """A float32 value of the one shape that all values have."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)


def branch(draw, name, values, depth):
    """A branch that takes values from outside, perhaps through a branch of its own."""
    left, right = (draw(st.sampled_from(values)) for _ in range(2))
    nodes = [helper.make_node(draw(st.sampled_from(BINARY)), [left, right], [f"{name}_a"])]
    if depth and draw(st.booleans()):
        inner = [*values, f"{name}_a"]
        nodes.append(conditional(draw, f"{name}_b", inner, depth - 1))
    else:
        nodes.append(helper.make_node("Neg", [f"{name}_a"], [f"{name}_b"]))
    return helper.make_graph(nodes, name, [], [info(f"{name}_b")])


def conditional(draw, name, values, depth):
    """An If that gives one value."""
    return helper.make_node(
        "If",
        ["condition"],
        [name],
        then_branch=branch(draw, f"{name}_then", values, depth),
        else_branch=branch(draw, f"{name}_else", values, depth),
    )


@st.composite
def models(draw):
    """A model of up to ten nodes in any order, with dead ends and Ifs, and some of its values to expose."""
    values, nodes = ["x", "y", "w"], []
    for index in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(["unary", "binary", "split", "if"]))
        left, right = (draw(st.sampled_from(values)) for _ in range(2))
        made = [f"v{index}"]
        if kind == "unary":
            nodes.append(helper.make_node(draw(st.sampled_from(UNARY)), [left], made))
        elif kind == "binary":
            nodes.append(helper.make_node(draw(st.sampled_from(BINARY)), [left, right], made))
        elif kind == "split":
            made = [f"v{index}_left", f"v{index}_right"]
            nodes.append(helper.make_node("Concat", [left, right], [f"v{index}_both"], axis=1))
            nodes.append(helper.make_node("Split", [f"v{index}_both"], made, axis=1))
        else:
            nodes.append(conditional(draw, made[0], values, depth=1))
        values += made
    made = [name for node in nodes for name in node.output]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    weight = numpy_helper.from_array(np.array([[1, -2, 3], [-4, 5, -6]], np.float32), "w")
    graph = helper.make_graph(
        draw(st.permutations(nodes)) if draw(st.booleans()) else nodes,
        "random",
        [info("x"), info("y"), helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    everything = ["x", "y", "w", "condition", *made]
    addresses = draw(st.lists(st.sampled_from(everything), min_size=1, max_size=6, unique=True))
    ordered = helper.make_model(
        helper.make_graph(nodes, "all", graph.input, [], graph.initializer),
        opset_imports=proto.opset_import,
    )
    ordered.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    return proto, ordered, outputs, addresses
