"""Output slots that nodes leave unused: hook points like any other, computed once they have a name.

unnamed LSTM with outputs ["", "h"]      LSTM_0::output::Y, LSTM_0::output::Y_c
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from onnxscope_server.catalog import formal_outputs
from onnxscope_server.catalog.labels import labels
from onnxscope_server.catalog.scopes import OWN_DOMAINS, FunctionKey, Place, Scope, anchor_of, called, functions, scopes
from onnxscope_server.catalog.walk import graphs


@dataclass(frozen=True, slots=True)
class Slot:
    """An output that a node leaves unused.

    Attributes:
        place: where the value is once it has a name; no value of the model has that name.
        shown: what the hook point is called in its graph.
        anchor: name of the node's first output that has one: it tells which node.
        index: place among the node's outputs.
        companions: slots that have to be filled with this one.
        typed_by: value that has the same type of element, where onnxruntime has to be told; else empty.
    """

    place: Place
    shown: str
    anchor: str
    index: int
    companions: tuple[Place, ...]
    typed_by: str


def listed(proto: onnx.ModelProto) -> tuple[Slot, ...]:
    """Lists the unused output slots of a model.

    Args:
        proto: the model, each call with a function of its own, in the order of the file.

    Returns:
        Graph by graph. A node without any named output has none: nothing needs it, and nothing tells it apart.
    """
    local = functions(proto)
    taken = value_names(proto)
    return tuple(slot for scope in scopes(proto) for slot in _of_scope(scope, local, taken))


def _of_scope(scope: Scope, local: Mapping[FunctionKey, object], taken: set[str]) -> Iterable[Slot]:
    nodes = scope.holder.node
    for node, label in zip(nodes, labels(nodes), strict=True):
        anchor = anchor_of(node)
        if not anchor or called(node) in local:
            continue
        opset = scope.imports.get("" if node.domain in OWN_DOMAINS else node.domain, 1)
        unused = formal_outputs.unused(node, opset)
        shown = {output.index: f"{label}::output::{output.name}" for output in unused}
        places = {index: Place(scope.path, free_name(name, taken)) for index, name in shown.items()}
        for output in unused:
            companions = tuple(places[index] for index in output.companions if index in places)
            typed_by = node.input[0] if output.typed_by_input else ""
            place = places[output.index]
            yield Slot(place, shown[output.index], anchor, output.index, companions, typed_by)


def fill(proto: onnx.ModelProto, slots: Iterable[Slot]) -> None:
    """Names every slot in a parsed model, so that inference types it."""
    nodes = {
        Place(scope.path, name): node
        for scope in scopes(proto)
        for node in scope.holder.node
        for name in node.output
        if name
    }
    for slot in slots:
        node = nodes[Place(slot.place.path, slot.anchor)]
        node.output.extend([""] * (slot.index + 1 - len(node.output)))
        node.output[slot.index] = slot.place.name


def value_names(proto: onnx.ModelProto) -> set[str]:
    """Returns the names of all values of a model, in bodies and functions too."""
    names: set[str] = set()
    for graph in graphs(proto):
        for infos in (graph.input, graph.output):
            names.update(info.name for info in infos)
        names.update(tensor.name for tensor in graph.initializer)
        names.update(sparse.values.name for sparse in graph.sparse_initializer)
        names.update(name for node in graph.node for name in node.output)
    for function in proto.functions:
        names.update(function.input)
        names.update(name for node in function.node for name in node.output)
    return names


def free_name(wanted: str, taken: set[str]) -> str:
    """Returns `wanted`, or `wanted_1`, `wanted_2` ... where it is taken, and takes it."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name
