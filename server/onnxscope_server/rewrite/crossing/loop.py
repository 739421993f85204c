"""Out of a Loop."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxscope_server.domain import DataType, OptionalType, Ragged, Reading, SequenceType, TensorType
from onnxscope_server.rewrite.crossing.crossing import Leaf, stuck
from onnxscope_server.rewrite.crossing.iterating import Iterating
from onnxscope_server.rewrite.crossing.types import array_type, element_type, fixed, zeros
from onnxscope_server.rewrite.scopes import Holder

# a Loop carries sequences since then
_CARRIES_SEQUENCES = 13
_IN_SEQUENCES = frozenset(DataType) - {
    DataType.COMPLEX64,
    DataType.COMPLEX128,
    DataType.FLOAT8E4M3FN,
    DataType.FLOAT8E4M3FNUZ,
    DataType.FLOAT8E5M2,
    DataType.FLOAT8E5M2FNUZ,
    DataType.UINT4,
    DataType.INT4,
    DataType.FLOAT4E2M1,
    DataType.FLOAT8E8M0,
    DataType.UINT2,
    DataType.INT2,
    DataType.BFLOAT16,
}


class LoopCrossing(Iterating):
    """Out of a Loop: values of one shape as a scan output, others in something that the iterations carry along.

    Before:  Loop(n, c, x) {i, c, x -> x = Exp(x)  z = Slice(x, i)}         outputs: x
    After:   Loop(n, c, x, []) {i, c, x, s -> x = Exp(x)  z = Slice(x, i)  s = SequenceInsert(s, z)}
                                                                           outputs: x, s::out

    What is carried is a sequence of the values, or flat values one behind the other: every opset and type has those.
    Where each begins comes out beside it.
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds scan outputs and what is carried."""
        carried = [leaf for leaf in leaves if leaf.flat or self._is_carried(leaf)]
        out = dict(zip(map(id, carried), self._carry(carried), strict=True)) if carried else {}
        return [self._kept(leaf, out[id(leaf)]) if id(leaf) in out else self.stacked(leaf) for leaf in leaves]

    def _is_carried(self, leaf: Leaf) -> bool:
        if isinstance(leaf.type, OptionalType):
            raise stuck(leaf.value, "a Loop lets no optional out")
        if isinstance(leaf.type, SequenceType):
            if self.site.opset < _CARRIES_SEQUENCES or element_type(leaf.type) is None:
                raise stuck(leaf.value, "it is a list, and this Loop can't carry it out: its type or opset is too old")
            return True
        type_ = array_type(leaf.type)
        # onnxruntime moves texts out of a body, and leaves nothing where another output shares their memory
        is_text = type_ is not None and type_.data_type is DataType.STRING
        if is_text and self.site.opset < _CARRIES_SEQUENCES:
            raise stuck(leaf.value, "this Loop is too old to carry texts out")
        if type_ is None or self.site.opset < _CARRIES_SEQUENCES:
            return False
        return type_.data_type in _IN_SEQUENCES and (is_text or fixed(type_.shape) is None)

    def _kept(self, leaf: Leaf, output: ir.Value) -> Reading:
        """Returns how to read what was carried, with the lengths of its items where these have some."""
        if leaf.flat:
            kept = self.site.note(Leaf(output, leaf.type, flat=True))
            return Ragged(kept, self._lengths("Size", leaf), 0)
        kept = self.site.note(Leaf(output, SequenceType(element_type(leaf.type))))
        return Ragged(kept, self._lengths("SequenceLength", leaf), 0) if isinstance(leaf.type, SequenceType) else kept

    def _lengths(self, op_type: str, leaf: Leaf) -> Reading:
        return self.stacked(Leaf(self.made(op_type, [leaf.value]), TensorType(DataType.INT64, ())))

    def _carry(self, leaves: Sequence[Leaf]) -> list[ir.Value]:
        """Lets the iterations carry something along for each of some values; returns the node's outputs for them."""
        self.node.resize_inputs(max(len(self.node.inputs), 2))
        place = len(self.node.inputs) - 2
        for offset, leaf in enumerate(leaves):
            self.node.resize_inputs(len(self.node.inputs) + 1)
            self.node.replace_input_with(len(self.node.inputs) - 1, self._nothing(leaf))
            sofar = ir.Value(name=self.site.names.like(f"{leaf.value.name}::before"))
            self.inner.inputs.append(sofar)
            self.inner.outputs.insert(1 + place + offset, self._longer(sofar, leaf))
        self.node = _widened(self.site.holder, self.node, place, len(leaves))
        added = self.node.outputs[place : place + len(leaves)]
        for output, leaf in zip(added, leaves, strict=True):
            output.name = self.site.names.like(f"{leaf.value.name}::out")
        return list(added)

    def _nothing(self, leaf: Leaf) -> ir.Value:
        """Makes what the first iteration gets."""
        element = element_type(leaf.type)
        if not leaf.flat:
            return self.before("SequenceEmpty", [], **({"dtype": int(element.data_type)} if element else {}))
        if element is None:
            raise stuck(leaf.value, "its type is not known")
        return self.before("Constant", [], value=zeros(element.data_type, (0,)))

    def _longer(self, sofar: ir.Value, leaf: Leaf) -> ir.Value:
        """Makes what the next iteration gets."""
        if leaf.flat:
            return self.made("Concat", [sofar, leaf.value], axis=0)
        if isinstance(leaf.type, SequenceType):
            return self._extended(sofar, leaf.value)
        return self.made("SequenceInsert", [sofar, leaf.value])

    def _extended(self, before: ir.Value, values: ir.Value) -> ir.Value:
        """Puts each item of one sequence behind another; there is no operator for it."""
        names = self.site.names
        index, condition, sofar = (ir.Value(name=names.like(f"{values.name}::{part}")) for part in ("i", "on", "sofar"))
        item = ir.node("SequenceAt", [values, index], outputs=[ir.Value(name=names.like(f"{values.name}::item"))])
        more = ir.node(
            "SequenceInsert", [sofar, item.outputs[0]], outputs=[ir.Value(name=names.like(f"{values.name}::more"))]
        )
        on = ir.node("Identity", [condition], outputs=[ir.Value(name=names.like(f"{values.name}::still"))])
        body = ir.Graph(
            [index, condition, sofar], [on.outputs[0], more.outputs[0]], nodes=[item, more, on], name="extend"
        )
        for value, type_ in ((index, ir.DataType.INT64), (condition, ir.DataType.BOOL)):
            value.type, value.shape = ir.TensorType(type_), ir.Shape([])
        return self.made("Loop", [self.made("SequenceLength", [values]), None, before], body=body)


def _widened(holder: Holder, node: ir.Node, place: int, count: int) -> ir.Node:
    """Replaces a node by one with more outputs in the midst of the others."""
    outputs = [*node.outputs[:place], *[None] * count, *node.outputs[place:]]
    wide = ir.Node(
        node.domain,
        node.op_type,
        node.inputs,
        tuple(node.attributes.values()),
        overload=node.overload,
        num_outputs=len(outputs),
        name=node.name,
    )
    holder.insert_before(node, wide)
    for old, new in zip(outputs, wide.outputs, strict=True):
        if old is not None:
            new.name, new.type, new.shape = old.name, old.type, old.shape
            old.replace_all_uses_with(new, replace_graph_outputs=True)
    holder.remove(node)
    return wide
