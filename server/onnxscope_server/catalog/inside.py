"""What lies inside of a node of onnx-ir: the nodes of its bodies, and the values that they take from outside."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """Yields the graphs that are attributes of a node, and the attributes' names: branches of an If, a Loop's body."""
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield name, attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield name, graph


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yields the bodies of a node, and theirs, at every depth."""
    waiting = [graph for _, graph in bodies(node)]
    while waiting:
        graph = waiting.pop()
        yield graph
        for inner in graph:
            waiting.extend(body for _, body in bodies(inner))


def inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """Yields the nodes in the bodies of a node, at every depth."""
    for graph in inner_graphs(node):
        yield from graph


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """Yields the values that a node reads, itself and in its bodies, from whichever graph they are."""
    for value in node.inputs:
        if value is not None:
            yield value
    for graph in inner_graphs(node):
        yield from graph.outputs
        for inner in graph:
            yield from (value for value in inner.inputs if value is not None)
