"""Operators that ONNX itself defines as functions of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
import onnx.defs

from onnxscope_server.catalog.definitions.definition import Definition
from onnxscope_server.catalog.value_types import type_proto
from onnxscope_server.catalog.walk import bodies
from onnxscope_server.domain import DataType, TensorType, ValueType

_OWN_DOMAINS = ("", "ai.onnx")
_RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"})
# its body is an attribute of the node, and has addresses of its own
_WITH_BODIES = frozenset({"SequenceMap"})


# the function of a Range carries floats, whatever it counts
_COUNTED = TensorType(DataType.FLOAT32, ())


def definition(node: onnx.NodeProto, imports: Mapping[str, int], types: Mapping[str, ValueType]) -> Definition | None:
    """Returns the function that ONNX gives for an operator.

    Args:
        node: of the operator.
        imports: version of each domain that the model imports.
        types: what is known of the types of the node's inputs, by name.

    Returns:
        The definition; None where there is none, where it is in operators that the model's version does not have in
        that form, or where it draws random numbers: its parts would not be those of the node's own draw.
    """
    domain = "" if node.domain in _OWN_DOMAINS else node.domain
    if domain not in imports or node.op_type in _WITH_BODIES:
        return None
    if node.op_type == "Range" and types.get(node.input[0]) != _COUNTED:
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, imports[domain], domain)
    except onnx.defs.SchemaError:
        return None
    for function in _functions(schema, node, imports.get("", 1), types):
        if _fits(function, imports) and not any(inner.op_type in _RANDOM for inner in _all_nodes(function.node)):
            return _bound(function, node, schema)
    return None


def _functions(
    schema: Any, node: onnx.NodeProto, opset: int, types: Mapping[str, ValueType]
) -> Iterator[onnx.FunctionProto]:
    """Yields the operator's functions, those written for the nearest older version first."""
    given = [type_proto(types.get(name)).SerializeToString() for name in node.input]
    versions = dict.fromkeys(schema.function_opset_versions, False)
    versions |= dict.fromkeys(schema.context_dependent_function_opset_versions, True)
    for version in sorted(versions, key=lambda version: (version > opset, abs(version - opset))):
        if versions[version]:
            data = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), given)
        else:
            data = schema.get_function_with_opset_version(version)
        if data:
            yield onnx.FunctionProto.FromString(data)


def _fits(function: onnx.FunctionProto, imports: Mapping[str, int]) -> bool:
    """Tells whether the model's versions of the operators understand nodes that were written for the function's."""
    written = {_plain(item.domain): item.version for item in function.opset_import}
    return all(_understood(node, written, imports) for node in _all_nodes(function.node))


def _understood(node: onnx.NodeProto, written: Mapping[str, int], imports: Mapping[str, int]) -> bool:
    domain = _plain(node.domain)
    try:
        theirs = onnx.defs.get_schema(node.op_type, written[domain], domain)
        ours = onnx.defs.get_schema(node.op_type, imports[domain], domain)
    except (onnx.defs.SchemaError, KeyError):
        return False
    if theirs.since_version == ours.since_version:
        return True
    given = {attribute.name for attribute in node.attribute}
    if not given.issubset(ours.attributes) or not ours.min_input <= len(node.input) <= ours.max_input:
        return False
    return all(
        attribute.default_value == ours.attributes[name].default_value
        for name, attribute in theirs.attributes.items()
        if name in ours.attributes and name not in given
    )


def _bound(function: onnx.FunctionProto, node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> Definition | None:
    """Puts the node's attributes into the function's body."""
    values = {name: attribute.default_value for name, attribute in schema.attributes.items()}
    values = {name: default for name, default in values.items() if default.type}
    values |= {attribute.name: attribute for attribute in function.attribute_proto}
    values |= {attribute.name: attribute for attribute in node.attribute}
    for inner in _all_nodes(function.node):
        _bind(inner, values)
    used = {formal for formal, name in zip(function.output, node.output, strict=False) if name}
    parts = [name for inner in function.node for name in inner.output if name and name not in used]
    return Definition(tuple(function.input), tuple(function.node), {name: name for name in parts}) if parts else None


def _bind(node: onnx.NodeProto, values: Mapping[str, onnx.AttributeProto]) -> None:
    bound = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            bound.append(attribute)
        elif attribute.ref_attr_name in values:
            copied = onnx.AttributeProto()
            copied.CopyFrom(values[attribute.ref_attr_name])
            copied.name = attribute.name
            bound.append(copied)
    del node.attribute[:]
    node.attribute.extend(bound)


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for body in bodies([node]):
            yield from _all_nodes(body.node)


def _plain(domain: str) -> str:
    return "" if domain in _OWN_DOMAINS else domain
