"""A catalog model: what it says of itself, and that nobody can change it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
