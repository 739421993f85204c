"""What onnxruntime dies of, and the process with it: mended where that can be, refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnxscope_server.catalog.contents import Contents
from onnxscope_server.catalog.scopes import OWN_DOMAINS, Place, Step, anchor_of, control_flow, scopes
from onnxscope_server.catalog.slots import free_name, value_names
from onnxscope_server.catalog.walk import graphs, nodes
from onnxscope_server.domain import DataType, TensorType, ValueType
from onnxscope_server.errors import ModelInvalidError

_SMALLER_THAN_BYTES = frozenset({DataType.INT4, DataType.UINT4, DataType.INT2, DataType.UINT2, DataType.FLOAT4E2M1})


def mend(proto: onnx.ModelProto) -> bool:
    """Names outputs that onnxruntime 1.32 writes to nowhere when they are left out.

    Those of If, Loop, Scan, SequenceMap and Split, all of which may have any number.

    Args:
        proto: the model; it is changed.

    Returns:
        Whether there were any.
    """
    left_out = [
        (node, index)
        for node in nodes(proto)
        if (node.op_type == "Split" and node.domain in OWN_DOMAINS) or any(True for _ in control_flow(node))
        for index, name in enumerate(node.output)
        if not name
    ]
    taken = value_names(proto) if left_out else set()
    for node, index in left_out:
        node.output[index] = free_name(f"{node.name or anchor_of(node) or node.op_type}::output::{index}", taken)
    return bool(left_out)


def is_suspect(proto: onnx.ModelProto) -> bool:
    """Tells whether `check` may find something: there is a Loop, and something names a type of less than a byte."""
    listed = tuple(nodes(proto))
    if all(node.op_type != "Loop" for node in listed):
        return False
    attributes = [attribute for node in listed for attribute in node.attribute]
    named = {tensor.data_type for graph in graphs(proto) for tensor in graph.initializer}
    named |= {info.type.tensor_type.elem_type for info in proto.graph.input}
    named |= {attribute.t.data_type for attribute in attributes} | {attribute.i for attribute in attributes}
    return not named.isdisjoint(map(int, _SMALLER_THAN_BYTES))


def check(proto: onnx.ModelProto, contents: Contents) -> None:
    """Checks that no Loop stacks values of less than a byte: onnxruntime 1.32 writes past the end of what it allots.

    Args:
        proto: the model.
        contents: what is in it.

    Raises:
        ModelInvalidError: one does.
    """
    types = contents.typed({})
    for scope in scopes(proto):
        for node in scope.holder.node:
            for where, body in control_flow(node):
                if node.op_type == "Loop" and anchor_of(node):
                    path = (*scope.path, Step(anchor_of(node), where, node.op_type))
                    stacked = body.output[1 + max(len(node.input) - 2, 0) :]
                    _check_stacked(node, {item.name: types.get(Place(path, item.name)) for item in stacked})


def _check_stacked(node: onnx.NodeProto, stacked: Mapping[str, ValueType | None]) -> None:
    for name, type_ in stacked.items():
        if isinstance(type_, TensorType) and type_.data_type in _SMALLER_THAN_BYTES:
            detail = f"the Loop {node.name or anchor_of(node)} stacks {name!r}, which is {type_.data_type.name.lower()}"
            raise ModelInvalidError(
                f"The model is refused: {detail}, and onnxruntime ends the process on that. "
                "Cast it to int8 in the body and back behind the Loop.",
                detail=detail,
            )
