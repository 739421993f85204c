"""Values in bodies that are called like one around them get other names, and nothing else changes."""

from __future__ import annotations

import onnx
import onnx.parser

from onnxscope_server.catalog import distinct_names
from onnxscope_server.catalog.model import CatalogModel

_CLASHING = """
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y)
{
    y = If (c) <
        then_branch: graph = t () => (float[2] a) {
            z = Neg (x)
            a = If (c) <
                then_branch: graph = tt () => (float[2] z) { z = Abs (x) },
                else_branch: graph = te () => (float[2] b) { b = Abs (z) }
            >
        },
        else_branch: graph = e () => (float[2] y) { y = Abs (x) }
    >
}
"""


def _branches(node: onnx.NodeProto) -> dict[str, onnx.GraphProto]:
    return {attribute.name: attribute.g for attribute in node.attribute}


def test_only_clashing_names_change() -> None:
    """The inner z, under the outer one, and the branch's y get new names; who read the outer z still reads it."""
    proto = onnx.parser.parse_model(_CLASHING)
    old = distinct_names.give(proto)
    assert sorted(old.values()) == ["y", "z"]
    outer = _branches(proto.graph.node[0])
    inner = _branches(outer["then_branch"].node[1])
    new = {name: renamed for renamed, name in old.items()}
    assert [node.output[0] for node in outer["then_branch"].node] == ["z", "a"]
    assert inner["then_branch"].node[0].output[0] == inner["then_branch"].output[0].name == new["z"]
    assert inner["else_branch"].node[0].input[0] == "z"
    assert outer["else_branch"].output[0].name == new["y"]
    assert proto.graph.output[0].name == "y"
    onnx.checker.check_model(proto)


def test_models_without_clashes_stay_as_they_are() -> None:
    """Graphs side by side may share names."""
    proto = onnx.parser.parse_model(_CLASHING)
    distinct_names.give(proto)
    before = proto.SerializeToString()
    assert distinct_names.give(proto) == {}
    assert proto.SerializeToString() == before


def test_types_are_found_under_the_old_names() -> None:
    """ONNX's inference refuses clashing names; here they have their types nevertheless."""
    model = CatalogModel.from_bytes(onnx.parser.parse_model(_CLASHING).SerializeToString())
    assert all(point.type is not None for point in model.hook_points)
    assert {point.address for point in model.hook_points} >= {
        "If_0::then_branch::If_0::then_branch::z",
        "If_0::then_branch::z",
        "If_0::else_branch::y",
    }
