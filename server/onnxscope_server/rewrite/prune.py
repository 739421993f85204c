"""The pass that cuts everything that no output needs."""

from __future__ import annotations

import onnx_ir as ir

from onnxscope_server.catalog.inside import bodies, values_read


class Prune(ir.passes.InPlacePass):
    """Cuts nodes, initializers, inputs and functions that no output needs. Outputs stay.

    - A node stays whole where one of its outputs is needed, by a node that stays, or by a body of one at any depth.

          Before:  x -> Conv -> c -> Relu -> r -> Gemm -> y       outputs: c, z
                   c -> If(then: Add(c, r)) -> z
          After:   x -> Conv -> c -> Relu -> r                    outputs: c, z
                   c -> If(then: Add(c, r)) -> z

    - Initializers and inputs that nobody reads go; one that is both goes from both lists.
    - Local functions that nobody calls, also through other functions, go.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walks back from the outputs and keeps what it meets."""
        graph = model.graph
        nodes, sources = _needed(graph)
        dead = [node for node in graph if node not in nodes]
        graph.remove(dead)
        unread = [name for name, value in graph.initializers.items() if value not in sources]
        for name in unread:
            del graph.initializers[name]
        inputs = [value for value in graph.inputs if value in sources]
        modified = bool(dead or unread) or len(inputs) < len(graph.inputs)
        graph.inputs[:] = inputs
        called = _called(model)
        for key in [key for key in model.functions if key not in called]:
            del model.functions[key]
            modified = True
        return ir.passes.PassResult(model, modified=modified)

    def ensures(self, model: ir.Model) -> None:
        """Nothing that stays reads what went."""
        for node in model.graph:
            for value in values_read(node):
                producer = value.producer()
                if producer is not None and producer.graph is None:
                    raise ir.passes.PostconditionError(f"{value.name!r} was cut and is still read")


def _needed(graph: ir.Graph) -> tuple[set[ir.Node], set[ir.Value]]:
    """Returns the nodes of the graph, and its inputs and initializers, that its outputs need."""
    nodes: set[ir.Node] = set()
    sources: set[ir.Value] = set()
    waiting = list(graph.outputs)
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None:
            sources.add(value)
        elif node.graph is graph and node not in nodes:
            # values of bodies have producers elsewhere: their bodies were walked with the node that holds them
            nodes.add(node)
            waiting.extend(values_read(node))
    return nodes, sources


def _called(model: ir.Model) -> set[ir.OperatorIdentifier]:
    """Returns the functions that the graph's nodes call, themselves or through others."""
    called: set[ir.OperatorIdentifier] = set()
    waiting = list(model.graph)
    while waiting:
        node = waiting.pop()
        waiting.extend(inner for _, body in bodies(node) for inner in body)
        key = node.op_identifier()
        if key in model.functions and key not in called:
            called.add(key)
            waiting.extend(model.functions[key])
    return called
