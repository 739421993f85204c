"""The pass that gives unused output slots a name, so that they are values like any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxscope_server.catalog.slots import Slot
from onnxscope_server.domain import TensorType, ValueType


class FillSlots(ir.passes.InPlacePass):
    """Names output slots that nodes leave unused; the nodes then compute them.

    Before:  x -> LSTM -> "", h                     outputs: h
    After:   x -> LSTM -> LSTM_0::output::Y, h      outputs: h

    What else the node computes stays as it is, but a kernel may take another way to it: a node with another set of
    outputs is another node to `fingerprint`, which has the unmodified model supply the outputs.

    Args:
        slots: what to fill; slots that have to be filled with these are filled too.
        known: every slot of the model, by address.
        types: what is known of the values' types, by name: some slots' types onnxruntime has to be told.

    Attributes:
        filled: addresses of the slots that were filled, after the call.
    """

    def __init__(self, slots: Iterable[Slot], known: Mapping[str, Slot], types: Mapping[str, ValueType]) -> None:
        self._slots = {slot.address: slot for slot in slots}
        for slot in tuple(self._slots.values()):
            self._slots |= {address: known[address] for address in slot.companions}
        self._types = types
        self.filled: frozenset[str] = frozenset()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Names the slots."""
        nodes = {value.name: node for node in model.graph for value in node.outputs if value.name}
        for slot in self._slots.values():
            node = nodes[slot.anchor]
            if slot.index >= len(node.outputs):
                node.resize_outputs(slot.index + 1)
                for value in node.outputs:
                    value.name = value.name or ""
            filled = node.outputs[slot.index]
            filled.name = slot.address
            like = self._types.get(slot.typed_by)
            if isinstance(like, TensorType):
                filled.type = ir.TensorType(ir.DataType(int(like.data_type)))
        self.filled = frozenset(self._slots)
        return ir.passes.PassResult(model, modified=bool(self._slots))

    def ensures(self, model: ir.Model) -> None:
        """Every slot is a value of the main graph."""
        names = {value.name for node in model.graph for value in node.outputs}
        if not names.issuperset(self.filled):
            raise ir.passes.PostconditionError("a slot has no name")
