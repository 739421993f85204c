"""What lies inside of a node: the nodes of its bodies, and the values that they take from outside."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """Yields the graphs that are attributes of a node: branches of an If, the body of a Loop or Scan."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yields the bodies of a node, and theirs, at every depth."""
    waiting = list(bodies(node))
    while waiting:
        graph = waiting.pop()
        yield graph
        for inner in graph:
            waiting.extend(bodies(inner))


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """Yields the values that a node reads, itself and in its bodies, from whichever graph they are."""
    for value in node.inputs:
        if value is not None:
            yield value
    for graph in inner_graphs(node):
        yield from graph.outputs
        for inner in graph:
            yield from (value for value in inner.inputs if value is not None)
