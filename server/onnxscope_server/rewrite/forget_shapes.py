"""The pass that takes shapes away that need not hold."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from onnxscope_server.catalog.inside import bodies
from onnxscope_server.catalog.scopes import BRANCHING


class ForgetShapes(ir.passes.InPlacePass):
    """Takes the shapes of values in Loops away: files declare those of the first iteration as if of all.

    Before:  Loop(n, c, x) {float[1] s -> t = Concat(s, s)  n = Shape(s)}
    After:   Loop(n, c, x) {float s -> t = Concat(s, s)  n = Shape(s)}

    onnxruntime believes what is declared, and computes with it: `Shape` becomes a constant. Of a Scan shapes hold, and
    onnxruntime demands them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Leaves index and condition alone, which have a shape."""
        forgotten = False
        for graph in _in_loops(model):
            own = graph.inputs[2:]
            for value in (*own, *graph.outputs, *(value for node in graph for value in node.outputs)):
                forgotten = forgotten or value.shape is not None
                value.shape = None
        return ir.passes.PassResult(model, modified=forgotten)


def _in_loops(model: ir.Model) -> Iterator[ir.Graph]:
    """Yields the bodies of Loops, and the branches in them."""
    waiting: list[tuple[ir.Graph | ir.Function, bool]] = [(model.graph, False)]
    waiting.extend((function, False) for function in model.functions.values())
    while waiting:
        holder, in_loop = waiting.pop()
        if in_loop and isinstance(holder, ir.Graph):
            yield holder
        for node in holder:
            for _, body in bodies(node):
                waiting.append((body, node.op_type == "Loop" or (in_loop and node.op_type in BRANCHING)))
