"""Walks through a parsed model, into bodies and local functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yields the main graph and every body in it and in the local functions."""
    waiting = [proto.graph]
    waiting.extend(body for function in proto.functions for body in bodies(function.node))
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(bodies(graph.node))


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yields every node of the main graph, of all bodies and of all local functions."""
    for graph in graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def every_node(listed: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yields nodes and all those in their bodies."""
    waiting = list(listed)
    while waiting:
        node = waiting.pop()
        yield node
        for body in bodies([node]):
            waiting.extend(body.node)


def bodies(listed: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Yields the bodies that nodes hold themselves, not those inside of these."""
    for node in listed:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
