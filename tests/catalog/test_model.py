"""A catalog model: what it says of itself, and that nobody can change it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import onnx
import pytest

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import DataType, MapType, SequenceType, TensorType
from onnxscope_server.errors import ModelInvalidError


def test_each_graph_is_a_fresh_copy(mlp):
    """Rewriting one copy leaves the next as it was."""
    model = CatalogModel.from_bytes(mlp)
    first = model.graph()
    first.graph.outputs.clear()
    next(iter(first.graph)).name = "changed"
    assert len(model.graph().graph.outputs) == 1
    assert next(iter(model.graph().graph)).name != "changed"


def test_hook_points_are_listed_once_for_all_threads(mlp):
    """Many threads get the very same tuple."""
    model = CatalogModel.from_bytes(mlp)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: model.hook_points, range(16)))
    assert all(item is found[0] for item in found)


def test_shapes_are_bound(mlp):
    """With an input's shape given, every size that follows from it is a number."""
    model = CatalogModel.from_bytes(mlp)
    assert model.typed({"x": (7, 4)})["y"] == TensorType(DataType.FLOAT32, (7, 2))
    assert model.typed({})["y"] == TensorType(DataType.FLOAT32, ("batch", 2))


def test_declared_shapes_give_way_to_bound_ones(parsed):
    """A value_info of another batch does not contradict what the caller binds."""
    data = parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 4] x) => (float[n, 4] y) <float[1, 4] a> { a = Relu(x)  y = Neg(a) }""")
    typed = CatalogModel.from_bytes(data).typed({"x": (9, 4)})
    assert typed["a"] == typed["y"] == TensorType(DataType.FLOAT32, (9, 4))


def test_outputs_that_are_stated_wrong_are_inferred(parsed):
    """Exporters fix sizes of outputs whose inputs they leave open; what inference knows better is listed."""
    data = parsed("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[batch, M] x, float[K] k) => (float[1, m] a, float[1, cols] b, float[7, M] c)
        <int64[2] axes = {-1, 1}> {
            a = Relu(x)
            b = Unsqueeze(a, axes)
            c = Compress <axis = 0> (x, bits)
            bits = Cast <to = 9> (k)
        }""")
    model = CatalogModel.from_bytes(data)
    shapes = {point.address: point.type.shape for point in model.hook_points}
    assert shapes["a"] == ("batch", "m")
    assert shapes["b"] == ("batch", 1, "M", 1)
    assert shapes["c"] == (7, "M")
    assert model.typed({"x": (4, 3)})["a"].shape == (4, 3)


def test_values_whose_size_was_opened_later_are_inferred(parsed):
    """Who gives an old model's input a symbol leaves the sizes that followed from the old one in it."""
    data = parsed("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x, int64[1] n) => (float[N, 4] y) <float[1, 4] a, float[4, 1] b, float[8] c> {
            a = Relu(x)
            b = Transpose(a)
            y = Transpose(b)
            c = Expand(four, n)
            four = ReduceSum <keepdims = 0> (x)
        }""")
    types = CatalogModel.from_bytes(data).typed({})
    assert [types[name].shape for name in "abyc"] == [("N", 4), (4, "N"), ("N", 4), (8,)]


def test_shapes_that_are_computed_are_followed(parsed):
    """Sizes that go through Shape and Concat are known too."""
    data = parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 4] x) => (float[m, k] y) <int64[1] two = {2}, int64[1] minus = {-1}, int64[1] zero = {0}> {
            s = Shape(x)  n1 = Gather(s, zero)  t = Concat<axis=0>(n1, two, minus)  y = Reshape(x, t)
        }""")
    assert CatalogModel.from_bytes(data).typed({"x": (5, 4)})["y"] == TensorType(DataType.FLOAT32, (5, 2, 2))


def test_unknown_operators_stop_inference_but_not_the_answer(parsed):
    """Behind an operator that nobody knows the declared types remain, with the symbols filled in."""
    data = parsed("""
        <ir_version: 8, opset_import: ["" : 17, "odd" : 1]>
        g (float[n, 4] x) => (float[n, 6] y) { y = odd.Mystery(x) }""")
    assert CatalogModel.from_bytes(data).typed({"x": (3, 4)})["y"] == TensorType(DataType.FLOAT32, (3, 6))


def test_inference_that_fails_does_not_fail_the_listing(parsed):
    """A MatMul of sizes that don't fit is listed with what is declared."""
    data = parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2, 3] x, float[5, 7] z) => (float[2, 7] y) { y = MatMul(x, z) }""")
    assert CatalogModel.from_bytes(data).hook_points[-1].type == TensorType(DataType.FLOAT32, (2, 7))


def test_types_other_than_tensors_are_told(parsed):
    """A sequence of maps is described as one."""
    data = parsed("""
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        g (float[n, 2] x) => (seq(map(int64, float)) y) {
            y = ai.onnx.ml.ZipMap <classlabels_int64s = [1, 2]> (x)
        }""")
    value = MapType(DataType.INT64, TensorType(DataType.FLOAT32, None))
    declared = CatalogModel.from_bytes(data).outputs[0].type
    assert isinstance(declared, SequenceType)
    assert declared.element in (value, MapType(DataType.INT64, TensorType(DataType.FLOAT32, ())))


def function_bomb(depth: int) -> str:
    """A model of functions that each call the next one twice."""
    calls = "".join(
        f"""
        <domain: "f", opset_import: ["f" : 1]> F{i} (x) => (y) {{ a = f.F{i + 1}(x)  y = f.F{i + 1}(a) }}"""
        for i in range(depth)
    )
    return f"""
        <ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        g (float[2] x) => (float[2] y) {{ y = f.F0(x) }}
        {calls}
        <domain: "f", opset_import: ["" : 17]> F{depth} (x) => (y) {{ y = Neg(x) }}"""


def test_a_bomb_of_functions_is_refused_at_once(parsed):
    """Forty functions that each call the next one twice would be a million million nodes."""
    with pytest.raises(ModelInvalidError, match="1,099,511,627,776 nodes"):
        CatalogModel.from_bytes(parsed(function_bomb(40)))
    assert CatalogModel.from_bytes(parsed(function_bomb(4))).hook_points[-1].type is not None


def test_a_function_that_calls_itself_is_refused(parsed):
    """Recursion has no end in ONNX."""
    text = """
        <ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        g (float[2] x) => (float[2] y) { y = f.A(x) }
        <domain: "f", opset_import: ["f" : 1]> A (x) => (y) { y = f.B(x) }
        <domain: "f", opset_import: ["f" : 1]> B (x) => (y) { y = f.A(x) }"""
    with pytest.raises(ModelInvalidError, match="calls itself"):
        CatalogModel.from_bytes(parsed(text))


CONTRIB = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[batch, 4] x) => (z) {
        a = Relu (x)
        b = com.microsoft.Gelu (a)
        c = Transpose (b)
        z = com.microsoft.Gelu (c)
    }"""


def told_by(asked, **types):
    """Stands for a runtime that knows some types; `asked` gets the outputs of each graph."""

    def tell(data, folder):
        assert folder is None
        asked.append([item.name for item in onnx.load_from_string(data).graph.output])
        return types

    return SimpleNamespace(output_types=tell)


def model_told(data, runtime):
    """Makes a model that may ask a runtime."""
    return CatalogModel(digest="d", byte_count=1, graph_bytes=data, data_folder=None, runtime=runtime)


def test_types_that_onnx_does_not_know_are_asked_of_the_runtime_once(parsed):
    """Inference goes on from its answers, with shapes bound too."""
    asked = []
    tell = told_by(asked, b=TensorType(DataType.FLOAT32, ("batch", 4)), z=TensorType(DataType.FLOAT32, (4, "batch")))
    model = model_told(parsed(CONTRIB), tell)
    types = {point.address: point.type for point in model.hook_points}
    assert [types[name].shape for name in "abcz"] == [("batch", 4), ("batch", 4), (4, "batch"), (4, "batch")]
    bound = model.typed({"x": (7, 4)})
    assert [bound[name].shape for name in "abcz"] == [(7, 4), (7, 4), (4, 7), (4, 7)]
    assert asked == [["z", "b", "c"]]


def test_a_runtime_that_knows_no_better_leaves_types_open(parsed):
    """Neither its failure nor its ignorance fails the listing; a model of known operators is not asked about."""

    def fail(*_):
        raise ModelInvalidError("no such operator", detail="")

    fail = SimpleNamespace(output_types=fail)
    for tell in (fail, told_by([], z=None), None):
        types = model_told(parsed(CONTRIB), tell).typed({})
        assert set(types) == {"x", "a"}
    assert "y" in model_told(
        parsed("""<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) {
        y = Relu (x) }"""),
        fail,
    ).typed({})


def test_a_function_that_the_runtime_has_an_operator_for_is_never_called(parsed):
    """Nothing is listed inside of it: the runtime looks for its own operators first, at the version of the model."""
    data = parsed("""
        <ir_version: 10, opset_import: ["" : 20, "local" : 1]>
        g (float[N] x) => (float[N] z) {
            y = Gelu (x)
            z = local.Gelu (y)
        }
        <domain: "", opset_import: ["" : 20]> Gelu (X) => (Y) { Y = Neg (X) }
        <domain: "local", opset_import: ["" : 20]> Gelu (X) => (Y) { Y = Neg (X) }
    """)
    asked = []
    runtime = SimpleNamespace(has_operator=lambda *key: asked.append(key) or not key[0], output_types=lambda *_: {})
    model = model_told(data, runtime)
    assert [point.address for point in model.hook_points] == ["x", "y", "Gelu_1::Gelu::X", "Gelu_1::Gelu::Y", "z"]
    assert sorted(asked) == [("", "Gelu", 20), ("local", "Gelu", 1)]
    assert [key[0] for key in model.graph().functions] == ["local"]
    assert model.graph_bytes == data


def test_what_onnx_can_infer_is_asked_of_nobody(parsed):
    """Output slots and branches of known operators need no runtime, nor does loading a Loop of whole bytes."""
    data = parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x, bool c, int64 n) => (float[3] z) {
            d = Dropout (x)
            y = If (c) <
                then_branch = t () => (float[3] a) { a = Dropout (d) },
                else_branch = e () => (float[3] b) { b = Neg (d) }
            >
            z = Loop (n, c, y) <body = l (int64 i, bool ci, float[3] s) => (bool co, float[3] so) {
                co = Identity (ci)  so = Neg (s) }>
        }
    """)
    asked = []
    model = model_told(data, told_by(asked))
    model.check()
    assert all(point.type is not None for point in model.hook_points)
    assert asked == []
