"""Out of a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxscope_server.domain import Reading
from onnxscope_server.rewrite.crossing.crossing import Crossing, Leaf


class CallCrossing(Crossing):
    """Out of a function: one more output of the function and of its call.

    Before:  F(x) => y { n = Neg(x)  y = Exp(n) }            a = F(b)
    After:   F(x) => y, n { n = Neg(x)  y = Exp(n) }         a, n::out = F(b)
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds the outputs."""
        for _ in range(len(self.inner.outputs) - len(self.node.outputs)):
            self.last_output(self.inner.outputs[len(self.node.outputs)])
        return [self.site.note(replace(leaf, value=self.found_or_added(leaf))) for leaf in leaves]
