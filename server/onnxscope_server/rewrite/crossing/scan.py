"""Out of a Scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import OptionalType, Reading, SequenceType
from onnxscope_server.rewrite.crossing.crossing import Leaf, stuck
from onnxscope_server.rewrite.crossing.iterating import Iterating
from onnxscope_server.rewrite.crossing.loop import LoopCrossing

# before, a Scan had a batch axis in front of the iterations'
_WITHOUT_BATCH = 9


class ScanCrossing(Iterating):
    """Out of a Scan: one more scan output; all iterations' values must have one shape.

    Before:  Scan(s, xs) {s, x -> s = Add(s, x)  n = Neg(x)}      outputs: s
    After:   Scan(s, xs) {s, x -> s = Add(s, x)  n = Neg(x)}      outputs: s, n::out

    Where shapes may differ, a Loop beside it computes the same again.
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds scan outputs, stacked forwards along a first axis."""
        if self.site.varying:
            return LoopCrossing(self.site, self._as_loop(leaves)).bring_out(leaves)
        for leaf in leaves:
            if isinstance(leaf.type, SequenceType | OptionalType):
                raise stuck(leaf.value, "it is no array, and only arrays come out of a Scan")
        for name in ("scan_output_axes", "scan_output_directions"):
            attribute = self.node.attributes.get(name)
            if attribute is not None:
                self.node.attributes[name] = ir.AttrInt64s(name, [*attribute.as_ints(), *[0] * len(leaves)])
        return [self.stacked(leaf) for leaf in leaves]

    def _as_loop(self, leaves: Sequence[Leaf]) -> ir.Node:
        """Adds a Loop that takes the slices itself. It gets the body, in which the values are, and the Scan a copy.

        Before:  s, ys = Scan(s, xs) {s, x -> s = Add(s, x)  y = Neg(x)}
        After:   s, ys = Scan(s, xs) {s, x -> s = Add(s, x)  y = Neg(x)}
                 s_1 = Loop(Shape(xs)[0], , s) {i, c, s -> x = Gather(xs, i)  s = Add(s, x)  y = Neg(x)}
        """
        body = self.inner
        if self.site.opset < _WITHOUT_BATCH or not isinstance(body, ir.Graph):
            raise stuck(leaves[0].value, "shapes differ between the iterations of a Scan that is too old for that")
        copied = body.clone(allow_outer_scope_values=True)
        self.node.attributes["body"] = ir.Attr("body", ir.AttributeType.GRAPH, copied)
        count = self.node.attributes["num_scan_inputs"].as_int()
        states = len(self.node.inputs) - count
        axes, backwards = self._told("scan_input_axes", count), self._told("scan_input_directions", count)
        sizes = self.before("Shape", [self.node.inputs[states]])
        trips = self.before("Gather", [sizes, self._number(axes[0])], axis=0)
        index = self._scalar("i", ir.DataType.INT64)
        going = self._scalar("on", ir.DataType.BOOL)
        taken: list[ir.Node] = []
        for place, (axis, reverse) in enumerate(zip(axes, backwards, strict=True), states):
            at = index
            if reverse:
                taken.append(self.new("Sub", [self.before("Sub", [trips, self._number(1)]), index]))
                at = taken[-1].outputs[0]
            taken.append(self.new("Gather", [self.node.inputs[place], at], axis=axis))
            body.inputs[place].replace_all_uses_with(taken[-1].outputs[0], replace_graph_outputs=True)
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

    def _told(self, attribute: str, count: int) -> Sequence[int]:
        given = self.node.attributes.get(attribute)
        return given.as_ints() if given is not None else [0] * count

    def _number(self, value: int) -> ir.Value:
        return self.before("Constant", [], value=ir.tensor(np.array(value, np.int64)))

    def _scalar(self, part: str, data_type: ir.DataType) -> ir.Value:
        name = self.site.names.like(f"{self.site.step.anchor}::{part}")
        return ir.Value(name=name, type=ir.TensorType(data_type), shape=ir.Shape([]))
