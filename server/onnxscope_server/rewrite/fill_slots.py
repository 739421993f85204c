"""The pass that gives unused output slots a name, so that they are values like any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxscope_server.catalog.scopes import Place, visible
from onnxscope_server.catalog.slots import Slot
from onnxscope_server.domain import TensorType, ValueType
from onnxscope_server.rewrite.scopes import holder_at, node_at, values_by_name


class FillSlots(ir.passes.InPlacePass):
    """Names output slots that nodes leave unused; the nodes then compute them.

    Before:  x -> LSTM -> "", h                     outputs: h
    After:   x -> LSTM -> LSTM_0::output::Y, h      outputs: h

    What else the node computes stays as it is, but a kernel may take another way to it: a node with another set of
    outputs is another node to `fingerprint`, which has the unmodified model supply the outputs.

    Args:
        slots: what to fill; slots that have to be filled with these are filled too.
        known: every slot of the model.
        types: what is known of the values' types: some slots' types onnxruntime has to be told.

    Attributes:
        filled: the slots that were filled, after the call.
    """

    def __init__(
        self, slots: Iterable[Slot], known: Mapping[Place, Slot], types: Mapping[Place, ValueType | None]
    ) -> None:
        self._slots = {slot.place: slot for slot in slots}
        for slot in tuple(self._slots.values()):
            self._slots |= {place: known[place] for place in slot.companions}
        self._types = types
        self.filled: frozenset[Place] = frozenset()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Names the slots."""
        for slot in self._slots.values():
            node = node_at(holder_at(model, slot.place.path), slot.anchor)
            if slot.index >= len(node.outputs):
                node.resize_outputs(slot.index + 1)
                for value in node.outputs:
                    value.name = value.name or ""
            filled = node.outputs[slot.index]
            filled.name = slot.place.name
            seen = (self._types.get(Place(path, slot.typed_by)) for path in visible(slot.place.path))
            like = next((type_ for type_ in seen if type_ is not None), None) if slot.typed_by else None
            if isinstance(like, TensorType):
                filled.type = ir.TensorType(ir.DataType(int(like.data_type)))
        self.filled = frozenset(self._slots)
        return ir.passes.PassResult(model, modified=bool(self._slots))

    def ensures(self, model: ir.Model) -> None:
        """Every slot is a value of its graph."""
        for place in self.filled:
            if place.name not in values_by_name(holder_at(model, place.path)):
                raise ir.passes.PostconditionError("a slot has no name")
