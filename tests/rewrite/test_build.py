"""Building segments: what is exposed, what is cut, and what stays as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope_server.domain import Output, OutputMode, Reduction, ReductionKind
from onnxscope_server.rewrite.build import build, unmodified

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[N,3] x, float[N,3] unread) => (float[N,3] y, float[N,3] z)
<float[3] w = {1, 2, 3}, float[3] v = {4, 5, 6}>
{
    h = Add(x, w)
    r = Relu(h)
    y = Mul(r, v)
    z = Neg(unread)
}
"""
X = np.array([[-5, 1, 2]], np.float32)


def test_a_value_behind_nothing_else_is_all_that_runs(model_of, plan_of, run):
    """Without outputs the graph holds the captured value's ancestors: nodes, weights and inputs."""
    segment = build(model_of(CHAIN), plan_of("h"))
    graph = onnx.load_from_string(segment.graph).graph
    assert [node.op_type for node in graph.node] == ["Add"]
    assert [tensor.name for tensor in graph.initializer] == ["w"]
    assert segment.inputs == ("x",)
    assert segment.outputs == ()
    assert segment.node_count == 1
    np.testing.assert_array_equal(run(segment, {"x": X})[segment.captures["h"]], [[-4, 3, 5]])


@pytest.mark.parametrize("mode", [OutputMode.UNMODIFIED, OutputMode.INSTRUMENTED])
def test_outputs_come_first_in_order_under_their_names(model_of, plan_of, mode):
    """Captures stand behind the model's outputs."""
    segment = build(model_of(CHAIN), plan_of("r", "h", outputs=mode))
    names = [item.name for item in onnx.load_from_string(segment.graph).graph.output]
    assert names == ["y", "z", "r", "h"]
    assert segment.outputs == ("y", "z")
    assert list(segment.captures) == ["r", "h"]


def test_inputs_weights_and_outputs_can_be_captured(model_of, plan_of, run):
    """An input is copied, an initializer handed out, an output found under its own name."""
    model = model_of(CHAIN)
    segment = build(model, plan_of("x", "w", "y", "unread", outputs=OutputMode.UNMODIFIED))
    values = run(segment, {"x": X, "unread": X + 1})
    assert segment.captures["y"] == Output("y")
    for address, expected in {"x": X, "w": [1, 2, 3], "unread": X + 1}.items():
        np.testing.assert_array_equal(values[segment.captures[address]], expected)


def test_a_captured_input_is_not_the_callers_memory(model_of, plan_of):
    """The optimiser leaves the Identity between an input and its activation."""
    import onnxruntime as ort

    segment = build(model_of(CHAIN), plan_of("x"))
    session = ort.InferenceSession(segment.graph, providers=["CPUExecutionProvider"])
    given = ort.OrtValue.ortvalue_from_numpy(X)
    (got,) = session.run_with_ort_values(None, {"x": given})
    assert got.data_ptr() != given.data_ptr()


def test_a_captured_output_survives_without_outputs(model_of, plan_of, run):
    """`NONE` cuts outputs away, but not those that are captured."""
    segment = build(model_of(CHAIN), plan_of("y"))
    assert segment.outputs == ()
    assert list(run(segment, {"x": X})) == ["y"]


def test_weights_that_no_identity_takes_can_be_captured(model_of, plan_of):
    """A 4-bit initializer becomes an output without passing through an operator."""
    weight = helper.make_tensor("q", TensorProto.INT4, [2], [1, -2])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
    segment = build(model_of(proto), plan_of("q"))
    assert not onnx.load_from_string(segment.graph).graph.node
    import onnxruntime as ort

    session = ort.InferenceSession(segment.graph, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].type == "tensor(int4)"


@pytest.mark.parametrize("listed", [("y", "y"), ("y", "x"), ("w", "y"), ("x", "x")])
def test_odd_outputs_stay_what_onnxruntime_makes_of_them(model_of, plan_of, run, listed):
    """Outputs listed twice, and outputs that are inputs or initializers, are left alone."""
    proto = onnx.parser.parse_model(CHAIN)
    del proto.graph.output[:]
    shapes = {"x": ["N", 3], "y": ["N", 3], "w": [3]}
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in listed)
    model, feeds = model_of(proto), {"x": X, "unread": X}
    segment = build(model, plan_of("h", *dict.fromkeys(listed), outputs=OutputMode.UNMODIFIED))
    assert segment.outputs == listed
    plain, values = run(unmodified(model), feeds), run(segment, feeds)
    for name in listed:
        np.testing.assert_array_equal(values[name], plain[name])
        np.testing.assert_array_equal(values[segment.captures[name]], plain[name])


def test_values_that_bodies_take_from_outside_are_kept(model_of, plan_of, run):
    """A branch in a branch reads a value of the main graph: its producer stays."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[2] x) => (float[2] y, float[2] z) {
            deep = Exp(x)
            unread = Sin(x)
            y = If (c) <
                then_branch = t () => (float[2] a) {
                    a = If (c) <
                        then_branch = tt () => (float[2] aa) { aa = Neg(deep) },
                        else_branch = te () => (float[2] ab) { ab = Abs(x) }>
                },
                else_branch = e () => (float[2] b) { b = Identity(x) }>
            z = Mul(unread, y)
        }
    """)
    segment = build(model, plan_of("y"))
    kept = [node.op_type for node in onnx.load_from_string(segment.graph).graph.node]
    assert kept == ["Exp", "If"]
    feeds = {"c": np.array(True), "x": np.array([0, 1], np.float32)}
    np.testing.assert_array_equal(run(segment, feeds)["y"], run(unmodified(model), feeds)["y"])


def test_loop_and_scan_bodies_are_followed(model_of, plan_of, run):
    """What a Loop and a Scan take from outside stays."""
    body = """
        body (int64 i, bool go, float[2] s) => (bool go_on, float[2] t) {
            go_on = Identity(go)
            t = Add(s, step)
        }
    """
    scan = "sc (float[2] a, float[2] b) => (float[2] c, float[2] d) { c = Add(a, bias) d = Mul(c, b) }"
    model = model_of(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, float[K,2] xs) => (float[2] y, float[K,2] ys) <int64 n = {{3}}> {{
            step = Relu(x)
            bias = Neg(x)
            lost = Exp(x)
            z = Loop (n, , x) <body = {body}>
            last, ys = Scan <num_scan_inputs = 1, body = {scan}> (z, xs)
            y = Add(last, lost)
        }}
    """)
    segment = build(model, plan_of("ys"))
    kept = {node.op_type for node in onnx.load_from_string(segment.graph).graph.node}
    assert kept == {"Relu", "Neg", "Loop", "Scan"}
    feeds = {"x": np.array([1, 2], np.float32), "xs": np.ones((4, 2), np.float32)}
    np.testing.assert_array_equal(run(segment, feeds)["ys"], run(unmodified(model), feeds)["ys"])


def test_a_node_with_one_needed_output_stays_whole(model_of, plan_of, run):
    """Split keeps both outputs where one is asked for; empty optional inputs stay empty."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[2] y) <float hi = {1}> {
            low = Clip(x, , hi)
            a, b = Split(low)
            y = Add(a, b)
        }
    """)
    segment = build(model, plan_of("b"))
    nodes = onnx.load_from_string(segment.graph).graph.node
    assert [list(node.output) for node in nodes] == [["low"], ["a", "b"]]
    assert list(nodes[0].input) == ["x", "", "hi"]
    values = run(segment, {"x": np.array([0, 1, 2, 3], np.float32)})
    np.testing.assert_array_equal(values["b"], [1, 1])


def test_unused_functions_go_and_used_ones_stay(model_of, plan_of, run):
    """A function that only another function calls is used."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        g (float[2] x) => (float[2] y) { h = my.outer(x) y = my.last(h) }
        <opset_import: ["" : 17, "my" : 1], domain: "my">
        outer (a) => (b) { b = my.inner(a) }
        <opset_import: ["" : 17], domain: "my">
        inner (a) => (b) { b = Neg(a) }
        <opset_import: ["" : 17], domain: "my">
        last (a) => (b) { b = Exp(a) }
    """)
    segment = build(model, plan_of("h"))
    names = {item.name for item in onnx.load_from_string(segment.graph).functions}
    assert names == {"outer", "inner"}
    np.testing.assert_array_equal(run(segment, {"x": np.array([1, 2], np.float32)})["h"], [-1, -2])


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_that_are_inputs_leave_both_lists(model_of, plan_of, run, ir_version):
    """Old models list weights as inputs; a cut weight is in neither list, a kept one in both."""
    proto = onnx.parser.parse_model(CHAIN)
    proto.ir_version = ir_version
    for name in ("w", "v"):
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]))
    segment = build(model_of(proto), plan_of("h"))
    graph = onnx.load_from_string(segment.graph).graph
    assert [item.name for item in graph.input] == ["x", "w"]
    assert segment.inputs == (("x",) if ir_version == 3 else ("x", "w"))
    np.testing.assert_array_equal(run(segment, {"x": X})["h"], [[-4, 3, 5]])


def test_nodes_out_of_order_are_exposed(model_of, plan_of, run):
    """A node list that is not sorted gives the same values."""
    proto = onnx.parser.parse_model(CHAIN)
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    segment = build(model_of(proto), plan_of("r", "x"))
    np.testing.assert_array_equal(run(segment, {"x": X})["r"], [[0, 3, 5]])


def test_a_model_without_onnxs_own_operators_can_be_watched(model_of, plan_of, run):
    """The import that an Identity needs is added."""
    model = model_of("""
        <ir_version: 8, opset_import: ["ai.onnx.ml" : 3]>
        g (float[N,2] x) => (float[N,2] y) { y = ai.onnx.ml.Scaler <offset=[1.0], scale=[2.0]> (x) }
    """)
    segment = build(model, plan_of("x", outputs=OutputMode.UNMODIFIED))
    feeds = {"x": np.ones((1, 2), np.float32)}
    np.testing.assert_array_equal(run(segment, feeds)[segment.captures["x"]], feeds["x"])


def test_sequences_are_captured_as_they_are(model_of, plan_of, run):
    """A value that is no array and whose type the file does not state becomes an output."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) { s = SequenceConstruct(x, x) y = ConcatFromSequence <axis=0> (s) }
    """)
    values = run(build(model, plan_of("s")), {"x": np.array([1, 2], np.float32)})
    assert [item.tolist() for item in values["s"]] == [[1, 2], [1, 2]]


def test_new_names_avoid_those_in_bodies(model_of, plan_of, run):
    """A name that only a body has is taken too."""
    model = model_of(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <
                then_branch = t () => (float[2] "x::exposed") { "x::exposed" = Neg(x) },
                else_branch = e () => (float[2] b) { b = Identity(x) }>
        }
    """.replace('"x::exposed"', "taken")
    )
    proto = onnx.load_from_string(model.graph_bytes)
    branch = next(item.g for item in proto.graph.node[0].attribute if item.name == "then_branch")
    branch.output[0].name = branch.node[0].output[0] = "x::exposed"
    segment = build(model_of(proto), plan_of("x", outputs=OutputMode.UNMODIFIED))
    assert segment.captures["x"] == Output("x::exposed_1")
    feeds = {"c": np.array(True), "x": np.array([1, 2], np.float32)}
    assert {name: value.tolist() for name, value in run(segment, feeds).items()} == {
        "y": [-1, -2],
        "x::exposed_1": [1, 2],
    }


def test_external_data_is_neither_read_nor_copied(model_of, plan_of, run, tmp_path):
    """The rewritten graph refers to the weights where they lie."""
    proto = onnx.parser.parse_model(CHAIN)
    weight = np.arange(3, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(weight.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "weights.bin", "offset": "0", "length": "12"}.items():
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer[0].CopyFrom(tensor)
    model = model_of(proto, tmp_path)
    segment = build(model, plan_of("h", "w"))
    (kept,) = onnx.load_from_string(segment.graph).graph.initializer
    assert kept.data_location == TensorProto.EXTERNAL
    assert segment.data_folder == tmp_path
    values = run(segment, {"x": X})
    np.testing.assert_array_equal(values["w"], weight)
    np.testing.assert_array_equal(values["h"], X + weight)


def test_sparse_weights_survive(model_of, plan_of, run):
    """A sparse initializer that is needed stays; one that is not goes."""
    proto = onnx.parser.parse_model(CHAIN)
    del proto.graph.initializer[:]
    for name in ("w", "v"):
        values = numpy_helper.from_array(np.array([7], np.float32), name)
        indices = numpy_helper.from_array(np.array([1], np.int64))
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    segment = build(model_of(proto), plan_of("h"))
    graph = onnx.load_from_string(segment.graph).graph
    assert [item.values.name for item in graph.sparse_initializer] == ["w"]
    np.testing.assert_array_equal(run(segment, {"x": X})["h"], [[-5, 8, 2]])


def test_the_unmodified_segment_is_the_models_own_bytes(model_of):
    """Nothing is parsed and written again."""
    model = model_of(CHAIN)
    segment = unmodified(model)
    assert segment.graph is model.graph_bytes
    assert segment.inputs == ("x", "unread")
    assert segment.outputs == ("y", "z")
    assert segment.node_count == 4


def test_building_leaves_the_model_alone(model_of, plan_of):
    """The catalog's model says the same before and after."""
    model = model_of(CHAIN)
    before = bytes(model.graph_bytes)
    mean = Reduction(ReductionKind.NORM)
    build(model, plan_of("x", ("h", mean), outputs=OutputMode.NONE))
    assert model.graph_bytes == before
    assert len(model.graph().graph) == model.node_count
