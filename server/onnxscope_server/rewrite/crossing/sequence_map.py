"""Out of a SequenceMap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from onnxscope_server.domain import Reading, SequenceType
from onnxscope_server.rewrite.crossing.crossing import Leaf, stuck
from onnxscope_server.rewrite.crossing.iterating import Iterating
from onnxscope_server.rewrite.crossing.loop import LoopCrossing
from onnxscope_server.rewrite.crossing.types import array_type, ir_type


class MapCrossing(Iterating):
    """Out of a SequenceMap: one more sequence.

    Before:  SequenceMap(s) {x -> n = Neg(x)  y = Exp(n)}      outputs: y
    After:   SequenceMap(s) {x -> n = Neg(x)  y = Exp(n)}      outputs: y, n::out

    What is no array comes out of a Loop beside it.
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds outputs; onnxruntime must be told their types."""
        if self.site.varying:
            return LoopCrossing(self.site, self._as_loop()).bring_out(leaves)
        brought: list[Reading] = []
        for leaf in leaves:
            if array_type(leaf.type) is None:
                raise stuck(leaf.value, "only arrays of a known type come out of a SequenceMap")
            output = self.add_output(leaf.value)
            self.inner.outputs[-1].type = ir_type(leaf.type)
            brought.append(self.site.note(Leaf(output, SequenceType(leaf.type))))
        return brought

    def _as_loop(self) -> ir.Node:
        """Takes the items of every sequence, the first of which says how many there are; arrays stay whole."""

        def slices(index: ir.Value) -> Iterator[list[ir.Node]]:
            for given in self.node.inputs:
                is_sequence = given is not None and isinstance(self.site.type_of(given.name or ""), SequenceType)
                is_sequence = is_sequence or given is self.node.inputs[0]
                yield [self.new("SequenceAt", [given, index]) if is_sequence else self.new("Identity", [given])]

        return self.beside(self.before("SequenceLength", [self.node.inputs[0]]), 0, slices)
