"""Fingerprints: equal cones for equal computations, and which operators differ."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.cut_everywhere import cut_everywhere

from onnxscope_server.domain import OutputMode
from onnxscope_server.rewrite.build import build, build_segments, unmodified
from onnxscope_server.rewrite.fingerprint import changed, cones, cones_of_file

GELU = """
<ir_version: 8, opset_import: ["" : 17]>
gelu (float[N,4] x) => (float[N,4] y, float[N,4] z)
<float root = {1.41421356}, float one = {1}, float half = {0.5}>
{
    a = Exp(x)
    divided = Div(a, root)
    erf = Erf(divided)
    plus = Add(erf, one)
    product = Mul(a, plus)
    y = Mul(product, half)
    z = Relu(x)
}
"""


def optimised_cones(segment, folder, run, feeds):
    """Optimises a segment, runs it once, and returns cones and outputs."""
    path = folder / "optimised.onnx"
    folder.mkdir(exist_ok=True)
    values = run(segment, feeds, optimised=path)
    return cones_of_file(path), values


def conv_model():
    """Conv, BatchNormalization and Relu, which onnxruntime makes one node."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)),
        "scale": rng.random(8) + 0.5,
        "bias": rng.random(8),
        "mean": rng.random(8),
        "var": rng.random(8) + 0.5,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["y"]),
        ],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("address", "operators"),
    [("erf", ("com.microsoft:Gelu",)), ("a", ()), ("y", ()), ("x", ()), ("z", ()), ("one", ())],
)
def test_exposing_the_inside_of_a_gelu_is_seen(model_of, plan_of, run, tmp_path, address, operators):
    """Where the fusion is blocked the cone differs and names what is missing; elsewhere it is equal."""
    model = model_of(GELU)
    feeds = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)}
    plain, before = optimised_cones(unmodified(model), tmp_path / "plain", run, feeds)
    segment = build(model, plan_of(address, outputs=OutputMode.UNMODIFIED))
    watched, after = optimised_cones(segment, tmp_path / "watched", run, feeds)
    assert changed(plain, watched, ["y", "z"]) == operators
    assert plain["z"].digest == watched["z"].digest
    if not operators:
        np.testing.assert_array_equal(before["y"], after["y"])


@pytest.mark.parametrize(("address", "is_changed"), [("c", True), ("r", False)])
def test_fused_convolutions_are_told_apart_by_weights_and_attributes(
    model_of, plan_of, run, tmp_path, address, is_changed
):
    """A Conv that lost its Relu or its normalised weights is another node, although it is a Conv."""
    model = model_of(conv_model())
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    plain, before = optimised_cones(unmodified(model), tmp_path / "plain", run, feeds)
    segment = build(model, plan_of(address, outputs=OutputMode.UNMODIFIED))
    watched, after = optimised_cones(segment, tmp_path / "watched", run, feeds)
    assert bool(changed(plain, watched, ["y"])) == is_changed
    if not is_changed:
        np.testing.assert_array_equal(before["y"], after["y"])


def parsed_cones(text):
    """Cones of a graph in ONNX's text form."""
    return cones(onnx.parser.parse_model(text).SerializeToString())


TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
    h = Add(x, w)
    o = Neg(x)
    y = If (c) <
        then_branch = t () => (float[2] a) { a = Mul(h, w) },
        else_branch = e () => (float[2] b) { b = LeakyRelu <alpha = 0.5> (o) }>
}
"""


def test_names_count_for_nothing():
    """Renaming values, weights and bodies changes no digest."""
    renamed = re.sub(r"\b([howab])\b", r"new_\1", TEXT)
    assert parsed_cones(TEXT)["y"].digest == parsed_cones(renamed)["y"].digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{1, 2}", "{1, 3}"),
        ("alpha = 0.5", "alpha = 0.25"),
        ("a = Mul(h, w)", "a = Mul(w, h)"),
        ("a = Mul(h, w)", "a = Mul(o, w)"),
        ("h = Add(x, w)", "h = Sub(x, w)"),
        ("LeakyRelu <alpha = 0.5> (o)", "LeakyRelu <alpha = 0.5> (h)"),
    ],
)
def test_everything_else_counts(old, new):
    """Weights, attributes, operators, wiring, and what bodies do and take from outside; each is reported."""
    one, other = parsed_cones(TEXT), parsed_cones(TEXT.replace(old, new))
    assert one["y"].digest != other["y"].digest
    assert changed(one, other, ["y"])


def test_equal_cones_are_not_reported():
    """Nothing changed means nothing to report, also for an output listed twice."""
    assert changed(parsed_cones(TEXT), parsed_cones(TEXT), ["y", "y"]) == ()


def test_weights_beside_the_graph_are_read_and_others_known_by_place(tmp_path):
    """Content counts where onnxruntime wrote a file anew; a reference elsewhere is taken for what it points to."""
    proto = onnx.parser.parse_model(TEXT)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights", "offset": "0", "length": "8"}.items():
        tensor.external_data.add(key=key, value=value)
    data = proto.SerializeToString()
    (tmp_path / "weights").write_bytes(bytes(8))
    zeros = cones(data, tmp_path)["y"].digest
    (tmp_path / "weights").write_bytes(bytes([1] * 8))
    assert cones(data, tmp_path)["y"].digest != zeros
    elsewhere = cones(data, tmp_path / "nowhere")["y"].digest
    assert elsewhere == cones(data)["y"].digest
    assert elsewhere != zeros


def test_onnxruntime_writes_untouched_weights_as_references(tmp_path):
    """The optimised graph of a model with external data is small: nothing need be written or hashed."""
    weight = np.ones((64, 64), np.float32)
    (tmp_path / "weights.bin").write_bytes(weight.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 64], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "weights.bin", "offset": "0", "length": str(weight.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, w) y = Relu(h) }
    """)
    proto.graph.initializer.append(tensor)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert (tmp_path / "optimised.onnx").stat().st_size < weight.nbytes / 4


def test_deep_graphs_need_no_recursion():
    """Ten thousand nodes in a row, and an output at each hundredth, take a moment."""
    count = 10_000
    nodes = [helper.make_node("Relu", [f"v{index}"], [f"v{index + 1}"]) for index in range(count)]
    outputs = [onnx.ValueInfoProto(name=f"v{index}") for index in range(100, count, 1000)]
    graph = helper.make_graph(nodes, "g", [onnx.ValueInfoProto(name="v0")], outputs)
    start = time.perf_counter()
    found = cones(helper.make_model(graph).SerializeToString())
    assert time.perf_counter() - start < 10
    assert len({cone.digest for cone in found.values()}) == len(outputs)


def test_of_many_outputs_only_some_are_asked():
    """The others cost nothing: a graph with everything exposed has as many outputs as nodes."""
    nodes = [helper.make_node("Neg", [f"v{at}"], [f"v{at + 1}"]) for at in range(3)]
    outputs = [helper.make_tensor_value_info(f"v{at}", TensorProto.FLOAT, [2]) for at in (1, 2, 3)]
    graph = helper.make_graph(nodes, "chain", [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [2])], outputs)
    serialised = helper.make_model(graph).SerializeToString()
    assert cones(serialised, outputs=["v3"]) == {"v3": cones(serialised)["v3"]}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Gemm (x, w)", "Gemm <alpha = 1.0, beta = 1.0, transA = 0, transB = 0> (x, w)", True),
        ("Gemm (x, w)", "Gemm <alpha = 2.0> (x, w)", False),
        ("Softmax (x)", "Softmax <axis = -1> (x)", True),
        ("Softmax (x)", "Softmax <axis = 1> (x)", False),
        ("com.microsoft.FusedGemm (x, w)", "com.microsoft.FusedGemm <activation = 'Relu'> (x, w)", False),
    ],
)
def test_a_default_is_the_same_written_out_or_not(one, other, equal):
    """Onnxruntime writes them out in graphs that it changes, and not in those in which it changes nothing."""
    head = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[2, 2] x, float[2, 2] w) => (y)'
    first, second = (
        cones(onnx.parser.parse_model(f"{head} {{ y = {node} }}".replace("'", '"')).SerializeToString())["y"]
        for node in (one, other)
    )
    assert (first.digest == second.digest) is equal
    assert (first.operators == second.operators) is equal


def test_a_default_is_that_of_the_opset():
    """Softmax went along axis 1 before opset 13."""
    head = '<ir_version: 7, opset_import: ["" : 12]> g (float[2, 2, 2] x) => (y)'
    plain, first, last = (
        cones(onnx.parser.parse_model(f"{head} {{ y = Softmax {axis} (x) }}").SerializeToString())["y"].digest
        for axis in ("", "<axis = 1>", "<axis = -1>")
    )
    assert plain == first != last


def test_a_copy_counts_for_nothing():
    """An Identity that makes the output is optimised away, unless others read what it copies."""
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)'
    plain, copied, other = (
        cones(onnx.parser.parse_model(f"{head} {{ {nodes} }}").SerializeToString())["y"].digest
        for nodes in ("y = Sin (x)", "a = Sin (x)  b = Identity (a)  y = Identity (b)", "a = Identity (x)  y = Cos (a)")
    )
    assert plain == copied != other


def test_a_segment_in_which_nothing_changes_does_what_the_whole_does(model_of, plan_of, run, tmp_path):
    """Cutting is not taken for a change of the outputs."""
    model = model_of(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 2] x) => (float[2, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}> { a = Gemm (x, w)  i = Identity (a)  b = Sin (i)  y = Gemm (b, w) }"""
    )
    with cut_everywhere():
        segments = build_segments(model, plan_of("a", "b", outputs=OutputMode.UNMODIFIED))
    assert len(segments) == 3
    values = {"x": np.eye(2, dtype=np.float32)}
    known = {}
    for index, segment in enumerate(segments):
        path = tmp_path / str(index) / "optimised.onnx"
        path.parent.mkdir()
        values |= run(replace(segment, inputs=(*segment.inputs, *segment.carried)), values, optimised=path)
        known |= cones_of_file(path, None, known)
    plain, _ = optimised_cones(unmodified(model), tmp_path / "plain", run, {"x": values["x"]})
    assert known["y"].digest == plain["y"].digest
