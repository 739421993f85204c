"""Out of a branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import DataType, OptionalType, Reading, SequenceType, Taken, TensorType, ValueType
from onnxscope_server.rewrite.crossing.crossing import Crossing, Leaf, stuck
from onnxscope_server.rewrite.crossing.types import fixed, ir_type, zeros
from onnxscope_server.rewrite.scopes import inside

# elements; a stand-in is stored in the graph
_LARGEST_STAND_IN = 4096


class BranchCrossing(Crossing):
    """Out of a branch: the other one gives something of the same type, and a flag tells which was taken.

    Before:  If(c, then: {n = Neg(x)  y = Exp(n)}, else: {y = Exp(x)})       outputs: y
    After:   If(c, then: {n = Neg(x)  y = Exp(n)  t = true},
                   else: {y = Exp(x)  d = []  f = false})                    outputs: y, n::out, taken::out
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds outputs to both branches."""
        others = [name for name in ("then_branch", "else_branch") if name != self.site.step.where]
        self._other = inside(self.site.model, self.node, replace(self.site.step, where=others[0]))
        brought = []
        for leaf in leaves:
            if leaf.value.is_initializer():
                brought.append(self.site.note(replace(leaf, value=self._hoisted(leaf.value))))
                continue
            if leaf.value in self.inner.outputs:
                type_ = replace(leaf.type, shape=None) if isinstance(leaf.type, TensorType) else leaf.type
            else:
                self._other.outputs.append(self._stand_in(leaf))
                type_ = _beside_stand_in(leaf.type)
            brought.append(self.site.note(Leaf(self.found_or_added(leaf), type_, leaf.flat)))
        self._other.outputs.append(self.made("Constant", [], self._other, value=ir.tensor(np.array(False))))
        flag = self.add_output(self.made("Constant", [], value=ir.tensor(np.array(True))))
        self._flag = self.site.note(Leaf(flag, TensorType(DataType.BOOL, ())))
        return list(brought)

    def told(self, reading: Reading) -> Reading:
        """Says that there is nothing where the branch was not taken."""
        return Taken(self._flag, reading, 0)

    def _hoisted(self, weight: ir.Value) -> ir.Value:
        """Copies a weight to the graph around: not every type has an operator that would bring it out."""
        holder = self.site.holder
        if not isinstance(holder, ir.Graph):
            return self.before("Constant", [], value=weight.const_value)
        name = self.site.names.like(f"{weight.name}::out")
        copied = ir.Value(name=name, type=weight.type, shape=weight.shape, const_value=weight.const_value)
        holder.register_initializer(copied)
        return copied

    def _stand_in(self, leaf: Leaf) -> ir.Value:
        match leaf.type:
            case TensorType(data_type=data_type, sparse=False):
                known = _beside_stand_in(leaf.type)
                sizes = fixed(known.shape) if isinstance(known, TensorType) else None
                return self.made("Constant", [], self._other, value=zeros(data_type, (0,) if sizes is None else sizes))
            case SequenceType(element=TensorType(data_type=data_type)):
                return self.made("SequenceEmpty", [], self._other, dtype=int(data_type))
            case OptionalType(element=element) if (held := ir_type(element)) is not None:
                declared = ir.Attr("type", ir.AttributeType.TYPE_PROTO, ir.TypeAndShape(held, None))
                return self.made("Optional", [], self._other, type=declared)
        raise stuck(leaf.value, "its type is not known, and the branch that is not taken has to give the same")


def _beside_stand_in(type_: ValueType | None) -> ValueType | None:
    """Returns the type of what comes out of a branch: a stand-in has the same size only where that is known, and small.

    What has one size comes out of a Loop around the branch in one array.
    """
    if isinstance(type_, TensorType) and (sizes := fixed(type_.shape)) and math.prod(sizes) > _LARGEST_STAND_IN:
        return replace(type_, shape=None)
    return type_
