"""The wiring of one graph of a ModelProto: what each value is computed from, digested by structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import onnx

from onnxscope_server.rewrite.digests import (
    attribute_digest,
    digest,
    is_default,
    sparse_digest,
    tensor_digest,
)

_OWN_DOMAINS = ("", "ai.onnx")
# onnxruntime moves channels into blocks of 8 or 16 and back; there and back again is nothing, cut or not
_BLOCKED = "com.microsoft.nchwc"
_BLOCK = 16
_RELAID = bytes(range(1, 17))
Operator = tuple[str, str]


class Wiring:
    """One graph, and the graphs around it whose values it may take.

    Everything is computed once and without recursion along the graph; only bodies in bodies recurse.

    Args:
        graph: the main graph or a body.
        folder: external data that lies here is read; other references stand for their content.
        functions: digest of each local function, by domain and name.
        outer: wiring of the graph that holds this body; None for the main graph.
        opsets: version of each domain.
        given: digests of inputs that are not the model's own.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        folder: Path | None,
        functions: dict[Operator, bytes],
        outer: Wiring | None,
        opsets: Mapping[str, int],
        given: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        self._graph = graph
        self._folder = folder
        self._functions = functions
        self._outer = outer
        self._opsets = opsets
        self._depth: int = outer._depth + 1 if outer else 0  # noqa: SLF001  the same class
        self._nodes = list(graph.node)
        self._producers = {
            name: (at, index) for at, node in enumerate(self._nodes) for index, name in enumerate(node.output) if name
        }
        self._weights = {tensor.name: tensor_digest(tensor, folder) for tensor in graph.initializer}
        self._weights |= {tensor.values.name: sparse_digest(tensor, folder) for tensor in graph.sparse_initializer}
        self._digests = dict(self._weights)
        for index, item in enumerate(graph.input):
            # a body's inputs are known by their place, the model's by their name, and by their default
            name = item.name if outer is None else str(index)
            default = self._weights.get(item.name, b"")
            own = digest(b"input", str(self._depth).encode(), name.encode(), default)
            self._digests[item.name] = given.get(item.name, own)
        self._reads = cache(self._names_read)
        self._operator = cache(self._describe)

    @classmethod
    def of_model(
        cls, model: onnx.ModelProto, folder: Path | None, given: Mapping[str, bytes] = MappingProxyType({})
    ) -> Wiring:
        """Returns the wiring of a model's main graph."""
        whole = digest(*(function.SerializeToString(deterministic=True) for function in model.functions))
        functions = {(function.domain, function.name): whole for function in model.functions}
        opsets = {"" if item.domain in _OWN_DOMAINS else item.domain: item.version for item in model.opset_import}
        return cls(model.graph, folder, functions, None, opsets, given)

    def digest_of(self, name: str) -> bytes:
        """Returns the digest of all that a value is computed from; of no value for the empty name."""
        if not name:
            return b""
        if name not in self._digests and name not in self._producers:
            return self._outer.digest_of(name) if self._outer else digest(b"unknown", name.encode())
        waiting = [name]
        while waiting:
            current = waiting[-1]
            if current in self._digests:
                waiting.pop()
                continue
            at, _ = self._producers[current]
            pending = [read for read in self._reads(at) if read in self._producers and read not in self._digests]
            if pending:
                waiting.extend(pending)
                continue
            if _is_relayout(self._nodes[at]):
                before = self.digest_of(self._nodes[at].input[0])
                self._digests[current] = bytes(one ^ other for one, other in zip(before, _RELAID, strict=True))
                continue
            if _is_copy(self._nodes[at]):
                self._digests[current] = self.digest_of(self._nodes[at].input[0])
                continue
            whole = self._node_digest(self._nodes[at])
            for index, output in enumerate(self._nodes[at].output):
                self._digests[output] = digest(whole, str(index).encode())
        return self._digests[name]

    def nodes_below(self, name: str) -> tuple[dict[int, Counter[Operator]], set[str]]:
        """Returns the nodes of this graph that a value is computed from, each with its bodies, and all they read."""
        found: set[int] = set()
        read: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            read.add(current)
            place = self._producers.get(current)
            if place is not None and place[0] not in found:
                found.add(place[0])
                waiting.extend(self._reads(place[0]))
        return {at: self._operator(at) for at in found}, read

    def _names_read(self, at: int) -> tuple[str, ...]:
        """Names that a node reads, itself and in its bodies, without those that the bodies define."""
        node = self._nodes[at]
        return tuple({*filter(None, node.input), *(name for body in _bodies(node) for name in _free(body))})

    def _node_digest(self, node: onnx.NodeProto) -> bytes:
        attributes = [
            digest(attribute.name.encode(), *(self._body(body) for body in _graphs(attribute)))
            for attribute in sorted(node.attribute, key=lambda attribute: attribute.name)
            if _is_graph(attribute)
        ]
        inputs = (self.digest_of(name) for name in node.input)
        return digest(self._own_digest(node), digest(*attributes), digest(*inputs))

    def _own_digest(self, node: onnx.NodeProto) -> bytes:
        """Returns a digest of what a node says of itself: operator, attributes, number of inputs and outputs."""
        domain = "" if node.domain in _OWN_DOMAINS else node.domain
        attributes = sorted(
            attribute_digest(attribute, self._folder)
            for attribute in node.attribute
            # onnxruntime writes defaults out only in graphs in which it changes something
            if not (_is_graph(attribute) or is_default(attribute, node.op_type, domain, self._opsets.get(domain)))
        )
        return digest(
            domain.encode(),
            node.op_type.encode(),
            node.overload.encode(),
            self._functions.get((node.domain, node.op_type), b""),
            bytes(bool(name) for name in node.input),
            bytes(bool(name) for name in node.output),
            *attributes,
        )

    def _body(self, graph: onnx.GraphProto) -> bytes:
        body = Wiring(graph, self._folder, self._functions, self, self._opsets)
        outputs = (body.digest_of(item.name) for item in graph.output)
        return digest(str(len(graph.input)).encode(), *outputs)

    def _describe(self, at: int) -> Counter[Operator]:
        """Counts a node and the nodes in its bodies, by operator and by what they say of themselves."""
        node = self._nodes[at]
        name = node.op_type if node.domain in _OWN_DOMAINS else f"{node.domain}:{node.op_type}"
        weights = (self._weight(name) for name in node.input)
        counts = Counter([(name, digest(self._own_digest(node), *weights).hex())])
        for graph in _bodies(node):
            body = Wiring(graph, self._folder, self._functions, self, self._opsets)
            for inner in range(len(body._nodes)):
                counts.update(body._operator(inner))
        return counts

    def _weight(self, name: str) -> bytes:
        if name in self._weights:
            return self._weights[name]
        if name in self._producers or name in self._digests or self._outer is None:
            return b""
        return self._outer._weight(name)  # noqa: SLF001  the same class


def _is_relayout(node: onnx.NodeProto) -> bool:
    """Tells whether a node only moves whole blocks of channels; the digest of one that undoes another cancels out."""
    if node.domain != _BLOCKED or node.op_type not in ("ReorderInput", "ReorderOutput"):
        return False
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    return not sizes.get("channels_last") and sizes.get("channels", 0) % _BLOCK == 0


def _is_copy(node: onnx.NodeProto) -> bool:
    """Tells whether a node changes nothing: one that is an output's is there or not, as others read what it copies."""
    return node.domain in _OWN_DOMAINS and node.op_type == "Identity" and bool(node.input and node.input[0])


def _is_graph(attribute: onnx.AttributeProto) -> bool:
    return attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from _graphs(attribute)


def _free(graph: onnx.GraphProto) -> set[str]:
    """Returns the names that a body takes from outside."""
    own = {item.name for item in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    read = {item.name for item in graph.output}
    for node in graph.node:
        read.update(node.input)
        for body in _bodies(node):
            read |= _free(body)
    return {name for name in read - own if name}
