"""Out of a SequenceMap."""

from __future__ import annotations

from collections.abc import Sequence

from onnxscope_server.domain import Reading, SequenceType
from onnxscope_server.rewrite.crossing.crossing import Leaf, stuck
from onnxscope_server.rewrite.crossing.iterating import Iterating
from onnxscope_server.rewrite.crossing.types import array_type, ir_type


class MapCrossing(Iterating):
    """Out of a SequenceMap: one more sequence.

    Before:  SequenceMap(s) {x -> n = Neg(x)  y = Exp(n)}      outputs: y
    After:   SequenceMap(s) {x -> n = Neg(x)  y = Exp(n)}      outputs: y, n::out
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds outputs; onnxruntime must be told their types."""
        brought: list[Reading] = []
        for leaf in leaves:
            if array_type(leaf.type) is None:
                raise stuck(leaf.value, "only arrays of a known type come out of a SequenceMap")
            output = self.add_output(leaf.value)
            self.inner.outputs[-1].type = ir_type(leaf.type)
            brought.append(self.site.note(Leaf(output, SequenceType(leaf.type))))
        return brought
