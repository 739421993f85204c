"""Models as files hold them: external data, defaults of inputs, nodes in any order, and names of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

_HEAD = '<ir_version: 9, opset_import: ["" : 17, "f" : 1]>'
_X = np.array([[1.0, -2.0, 3.0]], np.float32)
# layouts of external data: file and offset of each weight
_LAYOUTS: dict[str, dict[str, tuple[str, int]]] = {
    "one file": {"w": ("weights.bin", 0), "v": ("weights.bin", 16), "inner": ("weights.bin", 32)},
    "many files": {"w": ("w", 0), "v": ("v", 0), "inner": ("inner", 0)},
    "offsets": {"w": ("weights.bin", 4096), "v": ("weights.bin", 64), "inner": ("weights.bin", 8192)},
    "a sub-folder": {"w": ("data/deep/w.bin", 0), "v": ("./data/v.bin", 8), "inner": ("data/inner.bin", 4)},
    "shared bytes": {"w": ("weights.bin", 0), "v": ("weights.bin", 0), "inner": ("weights.bin", 0)},
    "partly inline": {"w": ("weights.bin", 0)},
}


def _write(folder: Path, layout: dict[str, tuple[str, int]], *, lengths: bool) -> dict[str, np.ndarray]:
    """Writes a model of three weights, one of them in a branch; returns what they hold."""
    text = """g (float[n, 3] x, bool c) => (float[n, 3] y)
        <float[3] w = {1, 2, 3}, float[3] v = {4, 5, 6}> {
        a = Mul (x, w)  b = Add (a, v)
        y = If (c) <then_branch = t () => (p) <float[3] inner = {7, 8, 9}> { q = Sub (b, inner)  p = Neg (q) },
                    else_branch = e () => (r) { r = Neg (b) }> }"""
    proto = parser.parse_model(_HEAD + text)
    branch = next(item.g for item in proto.graph.node[-1].attribute if item.name == "then_branch")
    held = {}
    files: dict[str, bytearray] = {}
    for tensor in (*proto.graph.initializer, *branch.initializer):
        array = numpy_helper.to_array(tensor)
        if tensor.name not in layout:
            held[tensor.name] = array
            continue
        location, offset = layout[tensor.name]
        content = files.setdefault(location, bytearray())
        content.extend(bytes(max(0, offset + array.nbytes - len(content))))
        if not any(content[offset : offset + array.nbytes]):
            content[offset : offset + array.nbytes] = array.tobytes()
        held[tensor.name] = np.frombuffer(bytes(content[offset : offset + array.nbytes]), np.float32)
        tensor.ClearField("float_data")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": location, "offset": str(offset), "length": str(array.nbytes)}
        for key, value in entries.items():
            if lengths or key != "length":
                tensor.external_data.add(key=key, value=value)
    for location, content in files.items():
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(content)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return held


@pytest.mark.parametrize(
    ("layout", "lengths"),
    # without a length a tensor has the rest of its file
    [*((layout, True) for layout in _LAYOUTS), ("many files", False), ("partly inline", False)],
)
def test_external_data_is_listed_and_captured(scope: Any, tmp_path: Path, layout: str, lengths: bool) -> None:
    """By path, wherever the weights lie beside the model: as hook points, and in what is computed with them."""
    held = _write(tmp_path, _LAYOUTS[layout], lengths=lengths)
    model = scope.load(tmp_path / "model.onnx")
    points = {point.address: point for point in model.hook_points("kind:weight")}
    inner = "If_0::then_branch::inner"
    assert {address: point.shape for address, point in points.items()} == {"w": (3,), "v": (3,), inner: (3,)}
    acts = model.capture({"x": _X, "c": np.array(True)}, at=["w", "v", inner, "*"], exact=True)
    for name, address in (("w", "w"), ("v", "v"), ("inner", inner)):
        np.testing.assert_array_equal(acts[address], held[name])
    np.testing.assert_array_equal(acts["b"], _X * held["w"] + held["v"])
    np.testing.assert_array_equal(acts["If_0::then_branch::q"], acts["b"] - held["inner"])
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(acts.outputs["y"], session.run(None, {"x": _X, "c": np.array(True)})[0])


def test_external_data_in_a_constant_is_found(scope: Any, tmp_path: Path) -> None:
    """A tensor in an attribute may lie outside too."""
    tensor = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "k.bin"), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "k.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    nodes = [helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("Mul", ["x", "k"], ["y"])]
    specs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", specs[:1], specs[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    acts = scope.load(path).capture(_X, at=["k", "y"])
    assert acts["k"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(acts["y"], _X * [1, 2, 3])


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_weights_of_four_bits_inside_of_nodes(scope: Any, dtype: Any) -> None:
    """A branch's own weight, and one that a function gets: onnxruntime has no Identity for them."""
    text = """g (float[3] x, bool c) => (y) <float s = {0.5}> {
        d = If (c) <then_branch = t () => (p) { r = DequantizeLinear (w, s)  p = Add (r, x) },
                    else_branch = e () => (q) { q = Neg (x) }>
        y = f.F (d, v, s) }
        <domain: "f", opset_import: ["" : 21]> F (x, w, s) => (y) { r = DequantizeLinear (w, s)  y = Add (r, x) }"""
    proto = parser.parse_model(_HEAD.replace("9", "10", 1).replace("17", "21") + text)
    branch = next(item.g for item in proto.graph.node[0].attribute if item.name == "then_branch")
    weight = np.array([1, 2, 3]).astype(dtype)
    branch.initializer.append(numpy_helper.from_array(weight, "w"))
    proto.graph.initializer.append(numpy_helper.from_array(weight, "v"))
    model = scope.load(proto.SerializeToString())
    for taken in (True, False):
        for exact in (True, False):
            at = ["If_0::then_branch::w", "F_0::F::w"]
            acts = model.capture({"x": _X[0], "c": np.array(taken)}, at=at, exact=exact)
            assert acts["F_0::F::w"].dtype == dtype
            np.testing.assert_array_equal(acts["F_0::F::w"], weight)
            inside = acts["If_0::then_branch::w"]
            assert (inside is not None) == taken
            assert inside is None or np.array_equal(inside, weight)


_DEFAULT = """g (float[3] x, float[3] w, float[3] v) => (float[3] y)
    <float[3] w = {1, 2, 3}, float[3] v = {4, 5, 6}> { a = Mul (x, w)  y = Add (a, v) }"""


def test_initializers_that_are_inputs_are_defaults(scope: Any) -> None:
    """An input that a caller may leave out: its value is the caller's, else the initializer's."""
    model = scope.load(parser.parse_model(_HEAD + _DEFAULT).SerializeToString())
    assert [spec.name for spec in model.inputs] == ["x"]
    points = {point.address: point.kind for point in model.hook_points(["x", "w", "v", "a"])}
    assert points == {"x": "input", "w": "input", "v": "input", "a": "activation"}
    x, other = _X[0], np.array([7, 8, 9], np.float32)
    for given in ({}, {"w": other}, {"w": other, "v": -other}):
        w, v = given.get("w", np.array([1, 2, 3])), given.get("v", np.array([4, 5, 6]))
        acts = model.capture({"x": x, **given}, at=["w", "v", "a", "y"])
        np.testing.assert_array_equal(acts["w"], w)
        np.testing.assert_array_equal(acts["v"], v)
        np.testing.assert_array_equal(acts["a"], x * w)
        np.testing.assert_array_equal(acts.outputs["y"], x * w + v)
        np.testing.assert_array_equal(model.run({"x": x, **given}).outputs["y"], x * w + v)


def test_old_files_list_weights_as_inputs(scope: Any) -> None:
    """Before version 4 of the format all initializers had to be inputs: they are weights."""
    model = scope.load(parser.parse_model(_HEAD.replace("9", "3", 1) + _DEFAULT).SerializeToString())
    points = {point.address: point.kind for point in model.hook_points(["x", "w", "v"])}
    assert points == {"x": "input", "w": "weight", "v": "weight"}
    acts = model.capture(_X[0], at=["w", "a"])
    assert acts["w"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(acts["a"], _X[0] * [1, 2, 3])


def test_nodes_in_any_order_are_listed_in_that_of_computation(scope: Any) -> None:
    """What is in a node comes before what the node gives; what it reads comes before both."""
    text = """g (float[1, 3] x, bool c) => (float[1, 3] y) {
            y = Neg (d)
            d = If (c) <then_branch = t () => (p) { q = Neg (b)  p = Exp (q) },
                        else_branch = e () => (r) { r = Identity (b) }>
            b = Neg (a)
            a = Abs (x) }"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    addresses = [point.address for point in model.hook_points()]
    assert addresses == ["a", "b", "If_0::then_branch::q", "If_0::then_branch::p", "If_0::else_branch::r", "d", "y"]
    acts = model.capture({"x": _X, "c": np.array(True)}, at="*", exact=True)
    np.testing.assert_array_equal(acts["If_0::then_branch::q"], abs(_X))
    np.testing.assert_array_equal(acts["y"], -acts["If_0::then_branch::p"])
    depths = [point.depth for point in model.hook_points(["a", "b", "d", "y"])]
    assert depths == sorted(depths)


_ODD = [
    "semi;colon",
    "at@sign",
    'quo"te',
    "a blank",
    " leading",
    "trailing ",
    "back\\slash",
    "slash/es//",
    "a::b",
    "::",
    "Case",
    "case",
    "CASE",
    "per%cent",
    "{brace}",
    "[bracket]",
    "comma,",
    "ünïcode-名前",
    "tab\tin",
    "line\nbreak",
    "*",
    "a?",
    "op:Neg",
    "re:.*",
    "!x",
    "kind:weight",
    "depth:0..1",
    "0",
    "Neg_0::output::Y",
    "n" * 500,
]


@pytest.fixture(scope="module")
def oddly_named() -> bytes:
    """A chain of additions: the value at place i is x + i + 1."""
    nodes = [
        helper.make_node("Add", [before, "one"], [name], name=f"node {name}")
        for before, name in zip(["x", *_ODD], _ODD, strict=False)
    ]
    graph = helper.make_graph(
        nodes,
        "odd names",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(_ODD[-1], TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def test_names_of_any_kind_are_addresses(scope: Any, oddly_named: bytes) -> None:
    """Verbatim: listed, captured each on its own and all at once, also where a name looks like a selector."""
    model = scope.load(oddly_named)
    x = np.zeros(2, np.float32)
    listed = [point.address for point in model.hook_points(_ODD)]
    assert listed == _ODD
    acts = model.capture(x, at=_ODD, exact=True)
    assert list(acts) == _ODD
    for count, name in enumerate(_ODD, 1):
        assert acts[name].tolist() == [count, count], name
    for name in ("*", "op:Neg", "re:.*", "!x", "case", 'quo"te', " leading", "line\nbreak"):
        assert list(model.capture(x, at=name, outputs=False)) == [name]
    assert list(model.capture(x, at="*", outputs=False)) == ["*"]
    assert acts.outputs[_ODD[-1]].tolist() == [len(_ODD)] * 2


def test_inputs_and_outputs_of_any_name(scope: Any) -> None:
    """What a caller gives and gets by name is found by it."""
    results = [f"out {name}" for name in _ODD]
    specs = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (*_ODD, *results)}
    nodes = [helper.make_node("Neg", [name], [result]) for name, result in zip(_ODD, results, strict=True)]
    graph = helper.make_graph(nodes, "g", [specs[name] for name in _ODD], [specs[name] for name in results])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = scope.load(proto.SerializeToString())
    assert [spec.name for spec in model.inputs] == _ODD
    feeds = {name: np.array([count], np.float32) for count, name in enumerate(_ODD)}
    acts = model.capture(feeds, at=_ODD)
    assert list(acts.outputs) == results
    for count, (name, result) in enumerate(zip(_ODD, results, strict=True)):
        assert acts[name] == count
        assert acts.outputs[result] == -count


def test_patterns_match_names_of_any_kind(scope: Any, oddly_named: bytes) -> None:
    """No other character is special, and a pattern tells capitals apart."""
    model = scope.load(oddly_named)

    def chosen(selector: Any) -> list[str]:
        return [point.address for point in model.hook_points(selector)]

    assert chosen("semi;*") == ["semi;colon"]
    assert chosen("[bracket*") == ["[bracket]"]
    assert chosen("*ase") == ["Case", "case"]
    assert chosen("re:(?i)case") == ["Case", "case", "CASE"]
    assert chosen("op:Add") == _ODD
    assert chosen(["op:Add", "!*e*"]) == [name for name in _ODD if "e" not in name]


def test_one_name_in_many_scopes_is_many_hook_points(scope: Any) -> None:
    """Branches side by side, a loop and two calls have an `a` each; each address holds its own."""
    function = '<domain: "f", opset_import: ["" : 17]>'
    text = f"""g (float[3] x, bool c, int64 n) => (y) {{
        u = If (c) <then_branch = t () => (o) {{ a = Neg (x)  o = Abs (a) }},
                    else_branch = e () => (o) {{ a = Exp (x)  o = Abs (a) }}>
        v = Loop (n, c, u) <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] o)
            {{ co = Identity (ci)  a = Add (s, s)  o = Identity (a) }}>
        w = f.F (v)  a = f.F (w)  y = Neg (a) }}
        {function} F (x) => (y) {{ a = Sub (x, x)  y = Add (a, x) }}"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    x = _X[0]
    acts = model.capture({"x": x, "c": np.array(True), "n": np.array(2)}, at=["a", "*::a"], exact=True)
    want = {
        "a": 4 * abs(x),
        "If_0::then_branch::a": -x,
        "If_0::else_branch::a": None,
        "Loop_0::body::a": np.array([2 * abs(x), 4 * abs(x)]),
        "F_0::F::a": 0 * x,
        "F_1::F::a": 0 * x,
    }
    assert list(acts) == list(want)
    for address, value in want.items():
        assert acts[address] is None if value is None else np.array_equal(acts[address], value), address


def test_a_value_that_is_called_like_an_address_keeps_it(scope: Any) -> None:
    """The main graph's names come first; the value inside takes the next number."""
    text = """g (float[3] x, bool c) => (y) {
        y = If (c) <then_branch = t () => (p) { q = Neg (x)  p = Abs (q) }, else_branch = e () => (r) { r = Exp (x) }>
        z = Sin (x) }"""
    proto = parser.parse_model(_HEAD + text)
    proto.graph.node[1].output[0] = "If_0::then_branch::q"
    model = scope.load(proto.SerializeToString())
    acts = model.capture({"x": _X[0], "c": np.array(True)}, at=["If_0::then_branch::q", "If_0::then_branch::q_1"])
    np.testing.assert_allclose(acts["If_0::then_branch::q"], np.sin(_X[0]), rtol=1e-6)
    np.testing.assert_array_equal(acts["If_0::then_branch::q_1"], -_X[0])


@pytest.mark.parametrize("exact", [False, True])
def test_sparse_initializers_come_dense(scope: Any, exact: bool) -> None:
    """A sparse weight is captured like any other, beside a node that reads it."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    places = helper.make_tensor("places", TensorProto.INT64, [2], [0, 3])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
    )
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 2]))
    model = scope.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    acts = model.capture(np.ones((2, 2), np.float32), at=["w", "n"], exact=exact)
    np.testing.assert_array_equal(acts["w"], [[1, 0], [0, 2]])
    np.testing.assert_array_equal(acts["n"], -acts["w"])
    np.testing.assert_array_equal(acts.outputs["y"], 1 + acts["n"])
