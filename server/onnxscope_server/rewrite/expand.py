"""The pass that puts the parts of operators beside their nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir
from onnx import helper

from onnxscope_server.catalog.parts import Expansion
from onnxscope_server.catalog.scopes import visible
from onnxscope_server.rewrite.scopes import holder_at, values_by_name


class Expand(ir.passes.InPlacePass):
    """Adds what operators are made of; the operators stay as they are, and so does everything that reads them.

    Before:  x -> LayerNormalization -> y             outputs: y
    After:   x -> LayerNormalization -> y             outputs: y
             x -> ReduceMean -> LayerNormalization_0::expand::Mean2D -> ...

    Nobody reads the parts yet: `Prune` takes those away that nobody comes to ask for.

    Args:
        expansions: what to add.
    """

    def __init__(self, expansions: Iterable[Expansion]) -> None:
        self._expansions = tuple(expansions)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the nodes at the end of the graph that the operator is in."""
        for expansion in self._expansions:
            values: dict[str, ir.Value] = {}
            for path in visible(expansion.anchor.path):
                values = values_by_name(holder_at(model, path)) | values
            holder_at(model, expansion.anchor.path).extend(_nodes(expansion.nodes, values))
        return ir.passes.PassResult(model, modified=bool(self._expansions))

    def ensures(self, model: ir.Model) -> None:
        """Every part is a value of the graph that its node is in."""
        for expansion in self._expansions:
            names = values_by_name(holder_at(model, expansion.anchor.path))
            if all(part.place.name in names for part in expansion.parts):
                continue
            raise ir.passes.PostconditionError("a part is missing")


def _nodes(protos: tuple[onnx.NodeProto, ...], values: dict[str, ir.Value]) -> list[ir.Node]:
    """Turns nodes into onnx-ir's, reading values of the graph that they go to."""
    made = {name for proto in protos for name in proto.output}
    read = sorted({name for name in _read(protos) if name not in made and name in values})
    inputs = [onnx.ValueInfoProto(name=name) for name in read]
    alone = ir.serde.deserialize_graph(helper.make_graph(protos, "parts", inputs, []))
    for stand_in in alone.inputs:
        stand_in.replace_all_uses_with(values[stand_in.name or ""])
    nodes = list(alone)
    alone.remove(nodes)
    return nodes


def _read(protos: Iterable[onnx.NodeProto]) -> set[str]:
    names: set[str] = set()
    for proto in protos:
        names.update(name for name in proto.input if name)
        for attribute in proto.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                names |= _read(body.node)
    return names
