"""Output slots that nodes leave unused: hook points like any other, computed once they have a name.

unnamed LSTM with outputs ["", "h"]      LSTM_0::output::Y, LSTM_0::output::Y_c
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnxscope_server.catalog import formal_outputs
from onnxscope_server.catalog.labels import labels
from onnxscope_server.catalog.walk import graphs
from onnxscope_server.domain import HookPoint, Kind, ValueType

_OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Slot:
    """An output that a node of the main graph leaves unused.

    Attributes:
        address: of the hook point; no value of the model has that name.
        anchor: name of the node's first output that has one: it tells which node.
        index: place among the node's outputs.
        companions: addresses of slots that have to be filled with this one.
        typed_by: value that has the same type of element, where onnxruntime has to be told; else empty.
    """

    address: str
    anchor: str
    index: int
    companions: tuple[str, ...]
    typed_by: str


def listed(proto: onnx.ModelProto) -> dict[str, Slot]:
    """Lists the unused output slots of the main graph.

    Args:
        proto: the model, in the order of the file.

    Returns:
        Slots by address. A node without any named output has none: nothing needs it, and nothing tells it apart.
    """
    imports = {item.domain: item.version for item in proto.opset_import}
    own = next((imports[domain] for domain in _OWN_DOMAINS if domain in imports), 1)
    local = {(function.domain, function.name) for function in proto.functions}
    nodes = proto.graph.node
    taken = value_names(proto)
    found: dict[str, Slot] = {}
    for node, label in zip(nodes, labels(nodes), strict=True):
        anchor = next((name for name in node.output if name), "")
        if not anchor or (node.domain, node.op_type) in local:
            continue
        opset = own if node.domain in _OWN_DOMAINS else imports.get(node.domain, 1)
        unused = formal_outputs.unused(node, opset)
        addresses = {output.index: free_name(f"{label}::output::{output.name}", taken) for output in unused}
        for output in unused:
            address = addresses[output.index]
            companions = tuple(addresses[index] for index in output.companions if index in addresses)
            typed_by = node.input[0] if output.typed_by_input else ""
            found[address] = Slot(address, anchor, output.index, companions, typed_by)
    return found


def fill(proto: onnx.ModelProto, slots: Mapping[str, Slot]) -> None:
    """Names every slot in a parsed model, so that inference types it."""
    nodes = {name: node for node in proto.graph.node for name in node.output if name}
    for slot in slots.values():
        node = nodes[slot.anchor]
        node.output.extend([""] * (slot.index + 1 - len(node.output)))
        node.output[slot.index] = slot.address


def inserted(
    points: Sequence[HookPoint], slots: Mapping[str, Slot], types: Mapping[str, ValueType]
) -> tuple[HookPoint, ...]:
    """Puts slots behind the used outputs of their nodes.

    Args:
        points: the values of the main graph; a node's outputs lie side by side.
        slots: by address.
        types: what is known of the slots' types, by address.

    Returns:
        All of them, in the order of computation.
    """
    of_node: dict[str, list[Slot]] = {}
    for slot in slots.values():
        of_node.setdefault(slot.anchor, []).append(slot)
    found: list[HookPoint] = []
    for point in points:
        found.append(point)
        found.extend(
            HookPoint(slot.address, point.op_type, types.get(slot.address), point.depth, Kind.UNUSED)
            for slot in of_node.get(point.address, ())
        )
    return tuple(found)


def value_names(proto: onnx.ModelProto) -> set[str]:
    """Returns the names of all values of a model, in bodies too."""
    names: set[str] = set()
    for graph in graphs(proto):
        for infos in (graph.input, graph.output):
            names.update(info.name for info in infos)
        names.update(tensor.name for tensor in graph.initializer)
        names.update(sparse.values.name for sparse in graph.sparse_initializer)
        names.update(name for node in graph.node for name in node.output)
    return names


def free_name(wanted: str, taken: set[str]) -> str:
    """Returns `wanted`, or `wanted_1`, `wanted_2` ... where it is taken, and takes it."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name
