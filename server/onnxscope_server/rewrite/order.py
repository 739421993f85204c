"""The order in which the nodes of a rewritten graph are computed, and what each of them reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import onnx

from onnxscope_server.catalog.walk import bodies, every_node

_OWN_DOMAINS = ("", "ai.onnx")
_DRAWING = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


class Order:
    """The nodes of a main graph in an order in which they can be computed.

    Nodes that rewriting added at the end come right behind what they read, so that nothing waits for the end.

    Args:
        graph: the main graph; each node comes after those that it reads.
        original: names of the values of the graph before it was rewritten.

    Attributes:
        nodes: in that order.
        reads: names of values of the main graph that each node reads, itself and in its bodies.
        varies: whether what a node computes depends on the graph's inputs, or on chance.
        producers: number of the node that makes a value, by the value's name.
    """

    def __init__(self, graph: onnx.GraphProto, original: Collection[str]) -> None:
        known = {name for node in graph.node for name in node.output} | {item.name for item in graph.input}
        known |= {tensor.name for tensor in graph.initializer}
        known |= {tensor.values.name for tensor in graph.sparse_initializer}
        unsorted = [(node, tuple(dict.fromkeys(_names_read(node, known)))) for node in graph.node]
        order = _moved_up(unsorted, original)
        self.nodes: Sequence[onnx.NodeProto] = [unsorted[at][0] for at in order]
        self.reads: Sequence[tuple[str, ...]] = [unsorted[at][1] for at in order]
        self.producers = {name: at for at, node in enumerate(self.nodes) for name in node.output if name}
        self.varies = self._varying({item.name for item in graph.input})

    def constants(self, wanted: Collection[int]) -> set[int]:
        """Returns the nodes that do not vary and that these nodes read, directly or through others."""
        found: set[int] = set()
        waiting = list(wanted)
        while waiting:
            for name in self.reads[waiting.pop()]:
                at = self.producers.get(name)
                if at is not None and not self.varies[at] and at not in found:
                    found.add(at)
                    waiting.append(at)
        return found

    def _varying(self, inputs: Collection[str]) -> Sequence[bool]:
        varies: list[bool] = []
        for node, reads in zip(self.nodes, self.reads, strict=True):
            fixed = node.domain in _OWN_DOMAINS and not any(
                inner.op_type in _DRAWING or inner.domain not in _OWN_DOMAINS for inner in every_node([node])
            )
            from_inputs = any(
                name in inputs or (name in self.producers and varies[self.producers[name]]) for name in reads
            )
            varies.append(from_inputs or not fixed)
        return varies


def _names_read(node: onnx.NodeProto, known: Collection[str]) -> Iterator[str]:
    """Yields the names of values of the main graph that a node reads; bodies have names of their own."""
    for inner in every_node([node]):
        yield from (name for name in inner.input if name in known)
        for body in bodies([inner]):
            yield from (item.name for item in body.output if item.name in known)


def _moved_up(nodes: Sequence[tuple[onnx.NodeProto, tuple[str, ...]]], original: Collection[str]) -> list[int]:
    places: list[int] = []
    producers: dict[str, int] = {}
    for at, (node, reads) in enumerate(nodes):
        is_added = not any(name in original for name in node.output)
        behind = max((places[producers[name]] for name in reads if name in producers), default=-1)
        places.append(behind if is_added else at)
        producers |= {name: at for name in node.output if name}
    # an original node stands at its own place, before what was added behind it
    return sorted(range(len(nodes)), key=lambda at: (places[at], places[at] != at, at))
