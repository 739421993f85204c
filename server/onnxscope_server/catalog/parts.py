"""Parts of operators: the values inside of what an operator is made of, as hook points beside its node.

LayerNormalization named norm      norm::expand::Mean2D, norm::expand::Var, norm::expand::Normalized ...
unnamed LSTM                       LSTM_0::expand::i, ... LSTM_0::expand::H
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import onnx

from onnxscope_server.catalog.definitions import definition
from onnxscope_server.catalog.definitions.definition import Definition, PartType
from onnxscope_server.catalog.labels import labels
from onnxscope_server.catalog.scopes import OWN_DOMAINS, Path, Place, anchor_of, called, functions, scopes, visible
from onnxscope_server.catalog.slots import free_name, value_names
from onnxscope_server.catalog.walk import bodies
from onnxscope_server.domain import ValueType

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A value inside of an operator.

    Attributes:
        place: where the value is once the operator is taken apart; no value of the model has its name.
        shown: what the hook point is called in its graph.
        op_type: what computes it; `domain:Type` outside of ONNX's own.
        depends: whether it depends on an input of the model.
    """

    place: Place
    shown: str
    op_type: str
    depends: bool


@dataclass(frozen=True, slots=True)
class Expansion:
    """A node, taken apart.

    Attributes:
        anchor: the node's first output that has a name: it tells which node.
        nodes: what computes the parts from what the node reads, in an order in which they can be computed.
        parts: in the order of computation.
        first_input: name of the value that the node reads first.
        part_type: the type of every part from that of the first input, where inference would not find it.
    """

    anchor: Place
    nodes: tuple[onnx.NodeProto, ...]
    parts: tuple[Part, ...]
    first_input: str
    part_type: PartType | None


def listed(
    proto: onnx.ModelProto, types: Mapping[Place, ValueType], dependent: Collection[Place]
) -> tuple[Expansion, ...]:
    """Takes every node apart that is made of others.

    Args:
        proto: the model, each call with a function of its own, in the order of the file.
        types: what is known of the values' types.
        dependent: the values that depend on an input of the model.

    Returns:
        An expansion for each such node, graph by graph.
    """
    local = functions(proto)
    taken = value_names(proto)
    found = []
    depends = dict.fromkeys(dependent, True)
    for scope in scopes(proto):
        seen, known = _Seen(scope.path, types), _Seen(scope.path, depends)
        for node, label in zip(scope.holder.node, labels(scope.holder.node), strict=True):
            if not anchor_of(node) or called(node) in local:
                continue
            made_of = definition(node, scope.imports, seen)
            if made_of is not None:
                found.append(_expanded(node, label, made_of, taken, known))
    return tuple(found)


class _Seen(Mapping[str, T]):
    """What is known of values, by the names that a graph sees them by: its own, and those of the graphs around it."""

    def __init__(self, path: Path, known: Mapping[Place, T]) -> None:
        self.path = path
        self._known = known
        self._paths = tuple(visible(path))

    def __getitem__(self, name: str) -> T:
        for path in self._paths:
            found = self._known.get(Place(path, name))
            if found is not None:
                return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({place.name for place in self._known if place.path in self._paths})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def add(proto: onnx.ModelProto, expansions: Iterable[Expansion]) -> None:
    """Puts the parts of every operator beside its node in a parsed model, so that inference types them."""
    holders = {scope.path: scope.holder for scope in scopes(proto)}
    for expansion in expansions:
        holders[expansion.anchor.path].node.extend(expansion.nodes)


def types(expansions: Sequence[Expansion], known: Mapping[Place, ValueType]) -> dict[Place, ValueType]:
    """Returns the types of the parts that inference does not find.

    Args:
        expansions: of the model's nodes.
        known: types as inference found them.

    Returns:
        Types by place.
    """
    found: dict[Place, ValueType] = {}
    for expansion in expansions:
        first = _Seen(expansion.anchor.path, known).get(expansion.first_input)
        part_type = expansion.part_type(first) if expansion.part_type else None
        if part_type is not None:
            found |= {part.place: part_type for part in expansion.parts}
    return found


def _expanded(
    node: onnx.NodeProto, label: str, made_of: Definition, taken: set[str], dependent: _Seen[bool]
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
        name = names[value]
        operator = node if made_of.is_one_operator else computed_by[name]
        shown_name = f"{label}::expand::{shown[value]}"
        parts.append(Part(Place(dependent.path, name), shown_name, _op_type(operator), name in depends))
    anchor = Place(dependent.path, anchor_of(node))
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
    return node.op_type if node.domain in OWN_DOMAINS else f"{node.domain}:{node.op_type}"
