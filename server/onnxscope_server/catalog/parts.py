"""Parts of operators: the values inside of what an operator is made of, as hook points beside its node.

LayerNormalization named norm      norm::expand::Mean2D, norm::expand::Var, norm::expand::Normalized ...
unnamed LSTM                       LSTM_0::expand::i, ... LSTM_0::expand::H
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnxscope_server.catalog.definitions import definition
from onnxscope_server.catalog.definitions.definition import Definition, PartType
from onnxscope_server.catalog.labels import labels
from onnxscope_server.catalog.slots import free_name, value_names
from onnxscope_server.catalog.walk import bodies
from onnxscope_server.domain import HookPoint, Kind, ValueType

_OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Part:
    """A value inside of an operator.

    Attributes:
        address: of the hook point, and name of the value; no value of the model has it.
        op_type: what computes it; `domain:Type` outside of ONNX's own.
        depends: whether it depends on an input of the model.
    """

    address: str
    op_type: str
    depends: bool


@dataclass(frozen=True, slots=True)
class Expansion:
    """A node of the main graph, taken apart.

    Attributes:
        anchor: name of the node's first output that has one: it tells which node.
        nodes: what computes the parts from what the node reads, in an order in which they can be computed.
        parts: in the order of computation.
        first_input: name of the value that the node reads first.
        part_type: the type of every part from that of the first input, where inference would not find it.
    """

    anchor: str
    nodes: tuple[onnx.NodeProto, ...]
    parts: tuple[Part, ...]
    first_input: str
    part_type: PartType | None


def listed(proto: onnx.ModelProto, types: Mapping[str, ValueType], dependent: Collection[str]) -> tuple[Expansion, ...]:
    """Takes every node of the main graph apart that is made of others.

    Args:
        proto: the model, in the order of the file.
        types: what is known of the types of the main graph's values, by name.
        dependent: names of the values that depend on an input of the model.

    Returns:
        An expansion for each such node, in the order of the file.
    """
    imports = {"" if item.domain in _OWN_DOMAINS else item.domain: item.version for item in proto.opset_import}
    local = {(function.domain, function.name) for function in proto.functions}
    taken = value_names(proto)
    found = []
    for node, label in zip(proto.graph.node, labels(proto.graph.node), strict=True):
        anchor = next((name for name in node.output if name), "")
        if not anchor or (node.domain, node.op_type) in local:
            continue
        made_of = definition(node, imports, types)
        if made_of is not None:
            found.append(_expanded(node, label, made_of, taken, dependent))
    return tuple(found)


def inserted(
    points: Sequence[HookPoint], expansions: Sequence[Expansion], types: Mapping[str, ValueType]
) -> tuple[HookPoint, ...]:
    """Puts parts before the outputs of their nodes.

    Args:
        points: the hook points of the main graph.
        expansions: of its nodes.
        types: what is known of the parts' types, by address.

    Returns:
        All of them, in the order of computation.
    """
    of_node = {expansion.anchor: expansion.parts for expansion in expansions}
    found: list[HookPoint] = []
    for point in points:
        found.extend(
            HookPoint(
                part.address,
                part.op_type,
                types.get(part.address),
                point.depth if part.depends else 0.0,
                Kind.ACTIVATION if part.depends else Kind.CONSTANT,
            )
            for part in of_node.get(point.address, ())
        )
        found.append(point)
    return tuple(found)


def types(expansions: Sequence[Expansion], known: Mapping[str, ValueType]) -> dict[str, ValueType]:
    """Returns the types of the parts that inference does not find.

    Args:
        expansions: of the main graph's nodes.
        known: types of its values, by name, as inference found them.

    Returns:
        Types by address.
    """
    found: dict[str, ValueType] = {}
    for expansion in expansions:
        part_type = expansion.part_type(known.get(expansion.first_input)) if expansion.part_type else None
        if part_type is not None:
            found |= {part.address: part_type for part in expansion.parts}
    return found


def _expanded(
    node: onnx.NodeProto, label: str, made_of: Definition, taken: set[str], dependent: Collection[str]
) -> Expansion:
    names = dict.fromkeys(made_of.inputs, "")
    names |= dict(zip(made_of.inputs, node.input, strict=False))
    shown = {value: name for name, value in made_of.parts.items()}

    def rename(name: str) -> str:
        if name and name not in names:
            names[name] = free_name(f"{label}::expand::{shown.get(name, name)}", taken)
        return names.get(name, "")

    nodes = tuple(_renamed(inner, rename) for inner in made_of.nodes)
    depends = {name for name in names.values() if name in dependent}
    computed_by: dict[str, onnx.NodeProto] = {}
    for inner in nodes:
        # of its second input CastLike takes nothing but the type
        read = inner.input[:1] if inner.op_type == "CastLike" else [*inner.input, *_taken_from_outside(inner)]
        if not depends.isdisjoint(read):
            depends.update(inner.output)
        computed_by |= dict.fromkeys(inner.output, inner)
    parts = []
    for value in made_of.parts.values():
        address = names[value]
        operator = node if made_of.is_one_operator else computed_by[address]
        parts.append(Part(address, _op_type(operator), address in depends))
    anchor = next(name for name in node.output if name)
    return Expansion(anchor, nodes, tuple(parts), next(iter(node.input), ""), made_of.part_type)


def _renamed(node: onnx.NodeProto, rename: Callable[[str], str]) -> onnx.NodeProto:
    """Returns a copy whose values, in its bodies too, have other names."""
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    waiting = [copied]
    while waiting:
        one = waiting.pop()
        one.input[:] = [rename(name) for name in one.input]
        one.output[:] = [rename(name) for name in one.output]
        one.name = next((name for name in one.output if name), "")
        for body in bodies([one]):
            for infos in (body.input, body.output, body.value_info):
                for info in infos:
                    info.name = rename(info.name)
            for tensor in body.initializer:
                tensor.name = rename(tensor.name)
            waiting.extend(body.node)
    return copied


def _taken_from_outside(node: onnx.NodeProto) -> set[str]:
    """Returns what a node's bodies read; their own values are not among what anybody asks about."""
    return {name for body in bodies([node]) for inner in body.node for name in inner.input}


def _op_type(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in _OWN_DOMAINS else f"{node.domain}:{node.op_type}"
