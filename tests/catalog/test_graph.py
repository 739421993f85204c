"""The boundary to onnx-ir loses nothing."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.errors import ModelInvalidError

FLOAT = TensorProto.FLOAT


def run(data: bytes, **inputs):
    """Runs a model with onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def model_of(nodes, inputs, outputs, *, opset=17, **parts):
    """Makes a model of nodes."""
    made = helper.make_graph(nodes, "g", inputs, outputs, **parts)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=imports, ir_version=8)


def tensor(name, shape, kind=FLOAT):
    """Declares an array."""
    return helper.make_tensor_value_info(name, kind, shape)


def test_an_ordinary_model_survives_the_round_trip(mlp):
    """Nodes, initializers, inputs and outputs are the same after reading and writing."""
    before = onnx.ModelProto.FromString(mlp)
    for node in before.graph.node:
        node.ClearField("domain")  # the parser sets it to nothing, which means the same
    after = onnx.ModelProto.FromString(graph.write(graph.read(mlp)))
    for field in ("node", "initializer", "input", "output"):
        assert list(getattr(before.graph, field)) == list(getattr(after.graph, field))


def sparse(name):
    """Makes [0, 5, 0, 7], sparsely."""
    values = numpy_helper.from_array(np.array([5.0, 7.0], np.float32), name)
    indices = numpy_helper.from_array(np.array([1, 3], np.int64), name + "_i")
    return helper.make_sparse_tensor(values, indices, [4])


def test_sparse_initializers_are_kept_sparse_and_count():
    """onnx-ir drops sparse initializers; here they come back, and the model computes the same."""
    model = model_of([helper.make_node("Add", ["x", "s"], ["y"])], [tensor("x", [4])], [tensor("y", [4])])
    model.graph.sparse_initializer.append(sparse("s"))
    data = model.SerializeToString()
    written = graph.write(graph.read(data))
    after = onnx.ModelProto.FromString(written).graph
    assert list(after.sparse_initializer) == list(model.graph.sparse_initializer)
    assert not after.initializer
    x = np.ones(4, np.float32)
    np.testing.assert_array_equal(run(written, x=x)[0], run(data, x=x)[0])


def test_a_renamed_sparse_initializer_keeps_its_new_name():
    """A rewrite may rename values, sparse initializers too."""
    model = model_of([helper.make_node("Add", ["x", "s"], ["y"])], [tensor("x", [4])], [tensor("y", [4])])
    model.graph.sparse_initializer.append(sparse("s"))
    read = graph.read(model.SerializeToString())
    read.graph.initializers["s"].name = "t"
    after = onnx.ModelProto.FromString(graph.write(read)).graph
    assert [item.values.name for item in after.sparse_initializer] == ["t"]
    assert after.node[0].input[1] == "t"


def test_attributes_that_onnx_ir_cannot_hold_come_back():
    """Sparse constants, text that is not UTF-8 and map types in attributes survive."""
    constant = helper.make_node("Constant", [], ["s"])
    constant.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(
        sparse("v")
    )
    odd = helper.make_node("Mystery", ["x"], ["z"], domain="odd", words=[b"\xff\xfe", b"ok"])
    odd.attribute.add(name="t", type=onnx.AttributeProto.TYPE_PROTO).tp.CopyFrom(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, [1]))
    )
    model = model_of(
        [constant, odd, helper.make_node("Add", ["x", "s"], ["y"])], [tensor("x", [4])], [tensor("y", [4])]
    )
    after = onnx.ModelProto.FromString(graph.write(graph.read(model.SerializeToString())))
    assert list(after.graph.node) == list(model.graph.node)


@pytest.mark.parametrize("values", [range(1500), [0.5] * 1500, [b"a", b"\xff"] * 750])
def test_long_attributes_come_back_unseen(values):
    """A forest's millions of numbers would take onnx-ir minutes: it holds them as one text, and they come back."""
    model = model_of([helper.make_node("Mystery", ["x"], ["y"], domain="odd", a=values)], [tensor("x", [4])], [])
    read = graph.read(model.SerializeToString())
    assert read.graph[0].attributes["a"].type is ir.AttributeType.STRING
    assert list(onnx.ModelProto.FromString(graph.write(read)).graph.node) == list(model.graph.node)


def test_map_types_of_inputs_and_outputs_are_kept():
    """A model that takes a map and one that gives a sequence of maps load after a round trip."""
    scores = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    takes = model_of(
        [helper.make_node("DictVectorizer", ["m"], ["y"], domain="ai.onnx.ml", int64_vocabulary=[1, 2])],
        [helper.make_value_info("m", scores)],
        [tensor("y", None)],
    )
    written = graph.write(graph.read(takes.SerializeToString()))
    assert list(onnx.ModelProto.FromString(written).graph.input) == list(takes.graph.input)
    assert run(written, m={1: 4.0, 2: 5.0})[0].tolist() == [[4.0, 5.0]]
    gives = model_of(
        [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[7, 9])],
        [tensor("x", [None, 2])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(scores))],
    )
    written = graph.write(graph.read(gives.SerializeToString()))
    assert run(written, x=np.ones((1, 2), np.float32))[0] == [{7: 1.0, 9: 1.0}]


def test_nodes_out_of_order_are_sorted_in_bodies_too():
    """Any order is fine for onnxruntime; rewriting needs that of computation."""
    data = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <then_branch = a () => (float[4] p) { p = Relu(q)  q = Neg(late) },
                        else_branch = b () => (float[4] r) { r = Identity(late) }>
            late = Abs(x)
        }""").SerializeToString()
    assert not graph.in_order(onnx.ModelProto.FromString(data).graph)
    model = graph.read(data)
    assert [node.op_type for node in model.graph] == ["Abs", "If"]
    assert graph.in_order(onnx.ModelProto.FromString(graph.write(model)).graph)


def test_a_node_that_waits_for_itself_is_refused():
    """A cycle is the model's fault and says so."""
    data = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] y) { a = Add(x, b)  b = Neg(a)  y = Relu(a) }""").SerializeToString()
    with pytest.raises(ModelInvalidError, match="contradicts itself"):
        graph.read(data)


def test_comments_in_an_old_encoding_do_no_harm(mlp):
    """Documentation that is not UTF-8 is mended; a name that is not is refused."""
    garbled = mlp + onnx.ModelProto(doc_string="QQQQ", producer_name="RRRR").SerializeToString()
    garbled = garbled.replace(b"QQQQ", b"\xd6\xd0\xce\xc4").replace(b"RRRR", b"\xff\xff\xff\xff")
    assert graph.write(graph.read(garbled))
    assert len(CatalogModel.from_bytes(garbled).hook_points) == 6
    named = mlp.replace(b"Relu", b"Rel\xff")
    with pytest.raises(ModelInvalidError, match="UTF-8"):
        CatalogModel.from_bytes(named)


def test_mutated_models_raise_domain_errors_only(mlp):
    """However bytes are damaged, reading gives a model or a ModelInvalidError."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(mlp)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        with contextlib.suppress(ModelInvalidError):
            assert CatalogModel.from_bytes(bytes(data)).hook_points is not None
            graph.write(graph.read(bytes(data)))


def test_an_output_without_a_type_leaves_the_input_its_own():
    """An input and a weight that are outputs too, with no type said there: the model still loads, and gives both."""
    made = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "passed on",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [onnx.ValueInfoProto(name=name) for name in ("y", "x", "w")],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    model = helper.make_model(made, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    written = graph.write(graph.read(model.SerializeToString()))
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    x = np.array([-1.0, 2.0], np.float32)
    assert [value.tolist() for value in session.run(None, {"x": x})] == [[0.0, 2.0], [-1.0, 2.0], [1.0, 1.0]]
