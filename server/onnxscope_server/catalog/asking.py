"""Graphs for a runtime to load, which then tells the types that ONNX's inference does not find."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx

from onnxscope_server.catalog import own_functions
from onnxscope_server.catalog.scopes import Place, Scope, Step, anchor_of, called, control_flow, functions, visible
from onnxscope_server.catalog.value_types import type_proto
from onnxscope_server.catalog.walk import bodies
from onnxscope_server.domain import TensorType, ValueType

# until then a Scan took the lengths of its sequences first
_SCAN_LENGTHS = 9


def of_main_graph(proto: onnx.ModelProto, found: Collection[str]) -> bytes | None:
    """Makes a graph whose outputs are the main graph's values of which nothing is known.

    Args:
        proto: the model; it is used up.
        found: names of the values whose types are known.

    Returns:
        A serialised ModelProto; None where there is no such value.
    """
    untyped = {name for node in proto.graph.node for name in node.output if name} - set(found)
    if not untyped:
        return None
    there = {info.name for info in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(untyped - there))
    return proto.SerializeToString()


def of_scope(proto: onnx.ModelProto, scope: Scope, types: Mapping[Place, ValueType]) -> bytes | None:
    """Makes a graph of a body or function, with what it reads as inputs, and what has no type as outputs.

    Args:
        proto: the model, each call with a function of its own.
        scope: the body or function.
        types: what is known.

    Returns:
        A serialised ModelProto; None where every value has a type, or something that is read has none.
    """
    holder = scope.holder
    made = {name for node in holder.node for name in node.output if name}
    untyped = sorted(name for name in made if Place(scope.path, name) not in types)
    if not untyped:
        return None
    alone = onnx.ModelProto(ir_version=proto.ir_version, functions=proto.functions)
    alone.opset_import.extend(onnx.OperatorSetIdProto(domain=name, version=v) for name, v in scope.imports.items())
    alone.graph.name = "alone"
    alone.graph.node.extend(holder.node)
    if isinstance(holder, onnx.GraphProto):
        alone.graph.initializer.extend(holder.initializer)
        alone.graph.sparse_initializer.extend(holder.sparse_initializer)
        made |= {tensor.name for tensor in holder.initializer}
        made |= {sparse.values.name for sparse in holder.sparse_initializer}
    for name in sorted(_read(holder) - made):
        type_ = _seen(name, scope, types)
        if type_ is None:
            return None
        alone.graph.input.add(name=name, type=type_proto(type_))
    alone.graph.output.extend(onnx.ValueInfoProto(name=name) for name in untyped)
    own_functions.rename_copies(alone)
    return alone.SerializeToString()


def handed_in(
    proto: onnx.ModelProto, scope: Scope, types: Mapping[Place, ValueType]
) -> Iterator[tuple[Place, ValueType]]:
    """Yields the types of the inputs of bodies and functions, from those of what a graph hands to them.

    Args:
        proto: the model, each call with a function of its own.
        scope: the graph around them.
        types: what is known.
    """
    local = functions(proto)
    for node in scope.holder.node:
        anchor = anchor_of(node)
        if anchor and called(node) in local:
            path = (*scope.path, Step(anchor, node.op_type, ""))
            for name, actual in zip(local[called(node)].input, node.input, strict=False):
                if (type_ := _seen(actual, scope, types)) is not None:
                    yield Place(path, name), type_
        for where, body in control_flow(node):
            path = (*scope.path, Step(anchor, where, node.op_type))
            # the first two inputs of a Loop's body are its own, and have their types
            has_lengths = node.op_type == "Scan" and scope.imports.get("", 1) < _SCAN_LENGTHS
            given = node.input[1:] if has_lengths else node.input
            for info, actual in zip(body.input, given, strict=False):
                type_ = _seen(actual, scope, types)
                if isinstance(type_, TensorType):
                    # an iteration gets a slice, or what the one before it made
                    yield Place(path, info.name), TensorType(type_.data_type, None)


def _seen(name: str, scope: Scope, types: Mapping[Place, ValueType]) -> ValueType | None:
    return next((types[place] for path in visible(scope.path) if (place := Place(path, name)) in types), None)


def _read(holder: onnx.GraphProto | onnx.FunctionProto) -> set[str]:
    """Returns what the nodes of a graph read, and the graphs in them from outside."""
    read = {name for node in holder.node for name in node.input if name}
    for body in bodies(holder.node):
        own = {name for node in body.node for name in node.output}
        own |= {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
        own |= {sparse.values.name for sparse in body.sparse_initializer}
        read |= (_read(body) | {info.name for info in body.output}) - own
    return read
