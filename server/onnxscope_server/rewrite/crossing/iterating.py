"""Out of bodies that iterate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import Reading
from onnxscope_server.rewrite.crossing.crossing import Crossing, Leaf
from onnxscope_server.rewrite.crossing.types import array_type, in_bytes


class Iterating(Crossing):
    """Out of a body whose outputs are stacked."""

    iterations = 1

    def stacked(self, leaf: Leaf) -> Reading:
        """Brings a value out as one array, the iterations along its first axis."""
        type_ = array_type(leaf.type)
        if type_ is not None and type_.shape is not None:
            type_ = replace(type_, shape=((None,) * self.iterations + type_.shape))
        flat = self.site.varying and type_ is not None and type_.shape == (None,)
        wide = in_bytes(type_)
        if type_ is None or wide is None:
            return self.site.note(Leaf(self.add_output(leaf.value), type_, flat))
        output = self.add_output(self.made("Cast", [leaf.value], to=int(wide)))
        return self.site.note(Leaf(self.made("Cast", [output], self.site.holder, to=int(type_.data_type)), type_, flat))

    def beside(
        self, trips: ir.Value, states: int, slices: Callable[[ir.Value], Iterable[Sequence[ir.Node]]]
    ) -> ir.Node:
        """Adds a Loop that does the same, for values that only a Loop lets out. It gets the body, and the node a copy.

        Before:  s, ys = Scan(s, xs) {s, x -> s = Add(s, x)  y = Neg(x)}
        After:   s, ys = Scan(s, xs) {s, x -> s = Add(s, x)  y = Neg(x)}
                 s_1 = Loop(Shape(xs)[0], , s) {i, c, s -> x = Gather(xs, i)  s = Add(s, x)  y = Neg(x)}

        Args:
            trips: number of iterations.
            states: number of the body's first inputs, and outputs, that one iteration hands to the next.
            slices: makes the nodes that give the body's other inputs, in their order, from the iteration's index.
        """
        body = self.inner
        if not isinstance(body, ir.Graph):
            raise TypeError(f"{self.site.step.where} is no body")
        self.node.attributes["body"] = ir.Attr(
            "body", ir.AttributeType.GRAPH, body.clone(allow_outer_scope_values=True)
        )
        index, going = (self._scalar(*what) for what in (("i", ir.DataType.INT64), ("on", ir.DataType.BOOL)))
        taken: list[ir.Node] = []
        for old, nodes in zip(body.inputs[states:], slices(index), strict=True):
            taken.extend(nodes)
            old.replace_all_uses_with(nodes[-1].outputs[0], replace_graph_outputs=True)
        first = next(iter(body), None)
        if first is None:
            body.extend(taken)
        else:
            body.insert_before(first, taken)
        body.inputs[:] = [index, going, *body.inputs[:states]]
        body.outputs[:] = [self.made("Identity", [going]), *body.outputs[:states]]
        loop = ir.node("Loop", [trips, None, *self.node.inputs[:states]], {"body": body}, num_outputs=states)
        for output in loop.outputs:
            output.name = self.site.names.like(f"{self.site.step.anchor}::state")
        self.site.holder.insert_before(self.node, loop)
        return loop

    def number(self, value: int) -> ir.Value:
        """Makes a constant in front of the node."""
        return self.before("Constant", [], value=ir.tensor(np.array(value, np.int64)))

    def _scalar(self, part: str, data_type: ir.DataType) -> ir.Value:
        name = self.site.names.like(f"{self.site.step.anchor}::{part}")
        return ir.Value(name=name, type=ir.TensorType(data_type), shape=ir.Shape([]))
