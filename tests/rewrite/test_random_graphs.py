"""Whatever is exposed in whatever graph: outputs stay, activations are right, and only what is needed is left."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxscope_server.domain import OutputMode
from onnxscope_server.rewrite.build import build, unmodified

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


def free_names(graph):
    """Names that a body reads and does not define."""
    own = {name for node in graph.node for name in node.output}
    return {name for node in graph.node for name in names_read(node)} - own


def names_read(node):
    """Names that a node reads, itself and in its branches."""
    read = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            read |= free_names(attribute.g)
    return read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=models(), seed=st.integers(0, 1000), condition=st.booleans())
def test_watching_changes_nothing_and_sees_everything(case, seed, condition, model_of, plan_of, run):
    """Outputs are bit-equal to the plain model's, activations to the reference's, and no node is idle."""
    proto, ordered, outputs, addresses = case
    rng = np.random.default_rng(seed)
    feeds = {name: rng.standard_normal(SHAPE).astype(np.float32) for name in ("x", "y")}
    feeds["condition"] = np.array(condition)
    evaluator = ReferenceEvaluator(ordered)
    expected = dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    expected |= feeds | {"w": numpy_helper.to_array(ordered.graph.initializer[0])}

    model = model_of(proto)
    before = bytes(model.graph_bytes)
    plain = run(unmodified(model), feeds, exact=True)
    for mode in (OutputMode.UNMODIFIED, OutputMode.NONE):
        segment = build(model, plan_of(*addresses, outputs=mode))
        values = run(segment, feeds, exact=True)
        assert segment.outputs == (tuple(outputs) if mode is OutputMode.UNMODIFIED else ())
        for name in segment.outputs:
            assert values[name].tobytes() == plain[name].tobytes()
        for address in addresses:
            np.testing.assert_array_equal(values[segment.captures[address]], expected[address])
        graph = onnx.load_from_string(segment.graph).graph
        wanted = {item.name for item in graph.output}.union(*map(names_read, graph.node))
        assert all(wanted.intersection(node.output) for node in graph.node)
        assert {item.name for item in (*graph.initializer, *graph.input)} <= wanted
        assert segment.node_count == len(graph.node)
    assert model.graph_bytes == before
