"""A function of its own for each call: only then can what one call computes be told from what another does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx

from onnxscope_server.catalog.scopes import FunctionKey, Path, Step, anchor_of, called, control_flow, functions
from onnxscope_server.catalog.walk import bodies, nodes

_COPY = "onnxscope:call:"


def is_copy(overload: str) -> bool:
    """Tells whether a function with this overload is a copy that `give` made."""
    return overload.startswith(_COPY)


def give(proto: onnx.ModelProto, wanted: Callable[[Path], bool] = lambda _: True) -> None:
    """Copies local functions for the nodes that call them, with the attributes of the call put in place.

    Copies are told apart by their overload; names stay.

    Args:
        proto: the model; it is changed.
        wanted: whether the call behind a path gets its copy; one inside of a function needs all around it.
    """
    if proto.functions:
        _Giving(proto, wanted).inside(proto.graph.node, ())


def rename_copies(proto: onnx.ModelProto) -> None:
    """Tells copies apart by their names: onnxruntime finds no overload in nested calls."""
    new = {key: f"{function.name}_{function.overload}" for key, function in functions(proto).items() if is_copy(key[2])}
    for node in nodes(proto):
        if called(node) in new:
            node.op_type, node.overload = new[called(node)], ""
    for key, function in functions(proto).items():
        if key in new:
            function.name, function.overload = new[key], ""


class _Giving:
    def __init__(self, proto: onnx.ModelProto, wanted: Callable[[Path], bool]) -> None:
        self._proto = proto
        self._wanted = wanted
        self._originals = functions(proto)
        self._taken = set(self._originals)
        self._count = 0

    def inside(self, nodes: Iterable[onnx.NodeProto], path: Path) -> None:
        for node in nodes:
            anchor = anchor_of(node)
            if not anchor:
                continue
            for where, body in control_flow(node):
                self.inside(body.node, (*path, Step(anchor, where, node.op_type)))
            step = Step(anchor, node.op_type, "")
            if called(node) in self._originals and self._wanted((*path, step)):
                copied = self._copied(node)
                self.inside(copied.node, (*path, step))

    def _copied(self, node: onnx.NodeProto) -> onnx.FunctionProto:
        function = self._proto.functions.add()
        function.CopyFrom(self._originals[called(node)])
        function.overload = node.overload = self._free_overload(called(node))
        _put_attributes(function, node)
        return function

    def _free_overload(self, key: FunctionKey) -> str:
        domain, name, overload = key
        while (domain, name, overload) in self._taken:
            self._count += 1
            overload = f"{_COPY}{self._count}"
        self._taken.add((domain, name, overload))
        return overload


def _put_attributes(function: onnx.FunctionProto, node: onnx.NodeProto) -> None:
    """Replaces references to a function's attributes by what the call says, or by their defaults."""
    values = {attribute.name: attribute for attribute in function.attribute_proto}
    values |= {attribute.name: attribute for attribute in node.attribute}
    _resolve(function.node, values)
    del function.attribute[:]
    del function.attribute_proto[:]
    del node.attribute[:]


def _resolve(nodes: Iterable[onnx.NodeProto], values: Mapping[str, onnx.AttributeProto]) -> None:
    for node in nodes:
        for index in reversed(range(len(node.attribute))):
            attribute = node.attribute[index]
            if not attribute.ref_attr_name:
                continue
            given, name = values.get(attribute.ref_attr_name), attribute.name
            if given is None:
                del node.attribute[index]
            else:
                attribute.CopyFrom(given)
                attribute.name = name
        for body in bodies([node]):
            _resolve(body.node, values)
