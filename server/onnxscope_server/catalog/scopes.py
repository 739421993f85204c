"""Where values live: the main graph, the bodies in it and the local functions that it calls, at every depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import onnx

from onnxscope_server.catalog.labels import labels

OWN_DOMAINS = ("", "ai.onnx")
BRANCHING = frozenset({"If"})
REPEATING = frozenset({"Loop", "Scan", "SequenceMap"})
FunctionKey: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """One step down, into a body or into the function that a node calls.

    Attributes:
        anchor: name of the node's first output that has one: it tells which node of its graph.
        where: name of the attribute that holds the body, or of the function.
        op_type: If, Loop, Scan or SequenceMap; empty for the call of a function.
    """

    anchor: str
    where: str
    op_type: str


Path: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is: the steps down from the main graph, and its name there."""

    path: Path
    name: str

    @property
    def repeats(self) -> int:
        """Number of bodies around it that run once for every iteration."""
        return sum(step.op_type in REPEATING for step in self.path)


@dataclass(frozen=True, slots=True)
class Scope:
    """A graph or a function's body.

    Attributes:
        path: how to come there.
        prefix: what the addresses of its values start with.
        holder: the graph or function itself.
        imports: versions of the operators' domains.
    """

    path: Path
    prefix: str
    holder: onnx.GraphProto | onnx.FunctionProto
    imports: Mapping[str, int]


def imported(holder: onnx.ModelProto | onnx.FunctionProto) -> dict[str, int]:
    """Returns the version of each domain, ONNX's own under the empty name."""
    return {"" if item.domain in OWN_DOMAINS else item.domain: item.version for item in holder.opset_import}


def functions(proto: onnx.ModelProto) -> dict[FunctionKey, onnx.FunctionProto]:
    """Returns the local functions of a model, by what nodes call them."""
    return {(item.domain, item.name, item.overload): item for item in proto.functions}


def called(node: onnx.NodeProto) -> FunctionKey:
    """Returns the key of the function that a node calls, if there is one."""
    return node.domain, node.op_type, node.overload


def control_flow(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yields the bodies of an If, Loop, Scan or SequenceMap, and the names of the attributes that hold them."""
    if node.domain in OWN_DOMAINS and node.op_type in BRANCHING | REPEATING:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH and not attribute.ref_attr_name:
                yield attribute.name, attribute.g


def anchor_of(node: onnx.NodeProto) -> str:
    """Returns the first output of a node that has a name; empty where none has: nothing tells such a node apart."""
    return next((name for name in node.output if name), "")


def scopes(proto: onnx.ModelProto) -> Iterator[Scope]:
    """Yields the main graph, then every body and every called function, those around before those inside.

    Args:
        proto: the model, in the order of the file: it decides what nodes without a name are called.
    """
    local = functions(proto)
    waiting = [Scope((), "", proto.graph, imported(proto))]
    while waiting:
        scope = waiting.pop()
        yield scope
        inner = []
        for node, label in zip(scope.holder.node, labels(scope.holder.node), strict=True):
            anchor = anchor_of(node)
            if not anchor:
                continue
            for where, body in control_flow(node):
                step = Step(anchor, where, node.op_type)
                inner.append(Scope((*scope.path, step), f"{scope.prefix}{label}::{where}::", body, scope.imports))
            function = local.get(called(node))
            if function is not None:
                step = Step(anchor, node.op_type, "")
                prefix = f"{scope.prefix}{label}::{node.op_type}::"
                inner.append(Scope((*scope.path, step), prefix, function, imported(function)))
        waiting.extend(reversed(inner))


def visible(path: Path) -> Iterator[Path]:
    """Yields the paths of the graphs whose values a graph sees: its own, then those around it, up to a function's."""
    for depth in range(len(path), -1, -1):
        yield path[:depth]
        if depth and not path[depth - 1].op_type:
            return
