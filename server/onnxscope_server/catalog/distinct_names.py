"""Other names for values in bodies whose names are in use around them, as ONNX demands and not every file has it.

onnxruntime runs such models as long as no inference looks across: a graph that gives more does not load any more, and
ONNX's own inference finds no types.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import onnx

from onnxscope_server.catalog.walk import bodies, graphs, nodes


def give(proto: onnx.ModelProto) -> dict[str, str]:
    """Renames values of bodies that are called like one of a graph around them. The main graph keeps its names.

    Args:
        proto: the model; it is changed.

    Returns:
        The old names, by the new ones; no other value of the model has one of the new names.
    """
    giving = _Giving(proto)
    giving.inside(proto.graph.node, _names(proto.graph))
    for function in proto.functions:
        giving.inside(function.node, _names(function))
    return giving.old


class _Giving:
    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._taken: set[str] = set()
        self.old: dict[str, str] = {}

    def inside(self, listed: Iterable[onnx.NodeProto], around: set[str]) -> None:
        for body in bodies(listed):
            clashing = _names(body) & around
            if clashing:
                _rename(body, {name: self._free(name) for name in sorted(clashing)})
            self.inside(body.node, around | _names(body))

    def _free(self, name: str) -> str:
        if not self._taken:
            self._taken = _every_name(self._proto)
        free = next(each for count in itertools.count(1) if (each := f"{name}~{count}") not in self._taken)
        self._taken.add(free)
        self.old[free] = name
        return free


def _names(holder: onnx.GraphProto | onnx.FunctionProto) -> set[str]:
    """Returns the names of the values that are a graph's or function's own."""
    names = {name for node in holder.node for name in node.output}
    if isinstance(holder, onnx.FunctionProto):
        names.update(holder.input)
    else:
        names.update(item.name for item in holder.input)
        names.update(tensor.name for tensor in holder.initializer)
        names.update(sparse.values.name for sparse in holder.sparse_initializer)
    return names - {""}


def _every_name(proto: onnx.ModelProto) -> set[str]:
    own = [*map(_names, graphs(proto)), *map(_names, proto.functions)]
    return set().union(*own, *(node.input for node in nodes(proto)))


def _rename(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    """Renames values in a graph and in the bodies in it that see them."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        info.name = new.get(info.name, info.name)
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new.get(sparse.values.name, sparse.values.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = new.get(annotation.tensor_name, annotation.tensor_name)
        for entry in annotation.quant_parameter_tensor_names:
            entry.value = new.get(entry.value, entry.value)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for body in bodies([node]):
            hidden = _names(body)
            _rename(body, {name: other for name, other in new.items() if name not in hidden})
