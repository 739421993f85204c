"""Which output slots are hook points, and what they are called."""

from __future__ import annotations

import onnx
import onnxruntime.capi.onnxruntime_pybind11_state as ort
import pytest
from onnx import TensorProto, helper

from onnxscope_server.catalog import formal_outputs
from onnxscope_server.catalog.description import Kind
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import DataType, TensorType

X = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["s", "b", 4])]


def model(*nodes: onnx.NodeProto, opset: int = 17, output: str = "h") -> CatalogModel:
    """A model of nodes that read x."""
    graph = helper.make_graph(nodes, "g", X, [onnx.ValueInfoProto(name=output)])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return CatalogModel.from_bytes(helper.make_model(graph, opset_imports=imports).SerializeToString())


def lstm(outputs: list[str], name: str = "") -> onnx.NodeProto:
    """An LSTM with these outputs."""
    return helper.make_node("LSTM", ["x", "w", "r"], outputs, name=name, hidden_size=3)


def unused(source: CatalogModel) -> list[str]:
    """Addresses of the unused slots."""
    return [point.address for point in source.hook_points if point.kind is Kind.UNUSED]


def test_left_out_and_empty_outputs_are_slots_behind_the_used_ones():
    """Both spellings of an output that is not there; order of the operator, after what the node computes."""
    found = model(lstm(["", "h"])).hook_points
    assert [(point.address, point.op_type, point.kind) for point in found] == [
        ("x", "", Kind.INPUT),
        ("h", "LSTM", Kind.OUTPUT),
        ("LSTM_0::output::Y", "LSTM", Kind.UNUSED),
        ("LSTM_0::output::Y_c", "LSTM", Kind.UNUSED),
    ]


def test_names_count_in_the_order_of_the_file():
    """Nodes that the file lists in another order than that of computation keep the numbers of the file."""
    late = helper.make_node("Dropout", ["a"], ["h"])
    early = helper.make_node("Dropout", ["x"], ["a"])
    found = model(late, early)
    assert unused(found) == ["Dropout_1::output::mask", "Dropout_0::output::mask"]


def test_an_address_that_a_value_has_takes_the_next_number():
    """A value's name always wins."""
    taken = helper.make_node("Relu", ["x"], ["Dropout_0::output::mask"])
    found = model(helper.make_node("Dropout", ["Dropout_0::output::mask"], ["h"]), taken)
    assert unused(found) == ["Dropout_0::output::mask_1"]


def test_types_are_inferred():
    """Type and shape of a slot are what they are where it is used."""
    graph = helper.make_graph(
        [lstm(["", "h"])],
        "g",
        [
            *X,
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 12, 4]),
            helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 12, 3]),
        ],
        [onnx.ValueInfoProto(name="h")],
    )
    found = CatalogModel.from_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    types = {point.address: point.type for point in found.hook_points}
    assert types["LSTM_0::output::Y"] == TensorType(DataType.FLOAT32, ("s", 1, "b", 3))


@pytest.mark.parametrize(
    ("op_type", "domain", "opset", "attributes", "names"),
    [
        ("LayerNormalization", "", 17, {}, ["Mean", "InvStdDev"]),
        ("LayerNormalization", "", 13, {}, ["Mean", "InvStdDev"]),
        ("MaxPool", "", 12, {"kernel_shape": [1]}, ["Indices"]),
        ("MaxPool", "", 7, {"kernel_shape": [1]}, []),
        ("Dropout", "", 12, {}, ["mask"]),
        ("Dropout", "", 10, {}, []),
        ("BatchNormalization", "", 9, {}, []),
        ("BatchNormalization", "", 15, {}, []),
        ("Split", "", 13, {}, []),
        ("SkipLayerNormalization", "com.microsoft", 17, {}, ["mean", "inv_std_var", "input_skip_bias_sum"]),
        ("GroupQueryAttention", "com.microsoft", 17, {}, ["present_key", "present_value"]),
        ("GroupQueryAttention", "com.microsoft", 17, {"qk_output": 1}, ["present_key", "present_value", "output_qk"]),
        ("Unheard", "com.microsoft", 17, {}, []),
    ],
)
def test_only_what_onnxruntime_makes_is_offered(op_type, domain, opset, attributes, names):
    """Variadic outputs have no names; what would switch training on, or no kernel makes, is no hook point."""
    node = helper.make_node(op_type, ["x"], ["h"], name="n", domain=domain, **attributes)
    assert unused(model(node, opset=opset)) == [f"n::output::{name}" for name in names]


def test_a_call_of_a_local_function_has_no_slots():
    """A function that is called as an operator of ONNX is not that operator."""
    source = onnx.ModelProto.FromString(model(lstm(["", "h"])).graph_bytes)
    source.functions.add(name="LSTM", domain="", input=["x"], output=["y"])
    source.functions[0].node.append(helper.make_node("Relu", ["x"], ["y"]))
    assert unused(CatalogModel.from_bytes(source.SerializeToString())) == []


def test_the_list_of_contributed_operators_is_onnxruntime_s():
    """Every operator of onnxruntime's own with optional outputs and a kernel for the CPU is listed, by its names."""
    kernels = {(item.domain, item.op_name) for item in ort.get_all_opkernel_def() if "CPU" in item.provider}
    theirs = {}
    for schema in ort.get_all_operator_schema():
        key = (schema.domain, schema.name)
        names = tuple(item.name + ("?" if "Optional" in str(item.option) else "") for item in schema.outputs)
        is_own = schema.domain == "com.microsoft" or key in formal_outputs.CONTRIBUTED
        if is_own and key in kernels and any(name.endswith("?") for name in names):
            theirs.setdefault(key, set()).add(names)
    assert {key: {names} for key, names in formal_outputs.CONTRIBUTED.items()} == {
        key: {min(found, key=len)} if key == ("", "LayerNormalization") else found for key, found in theirs.items()
    }
