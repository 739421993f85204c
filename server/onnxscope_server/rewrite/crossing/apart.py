"""Values taken apart before they leave a body in which they differ from one iteration to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import (
    DataType,
    OptionalType,
    Output,
    Reading,
    SequenceType,
    Shaped,
    Taken,
    TensorType,
)
from onnxscope_server.rewrite.crossing.crossing import Leaf
from onnxscope_server.rewrite.crossing.types import in_bytes, zeros
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.scopes import Holder

# onnxruntime joins no arrays of these; the others hold the same numbers
_JOINED_AS = {
    DataType.FLOAT8E4M3FN: DataType.FLOAT32,
    DataType.FLOAT8E4M3FNUZ: DataType.FLOAT32,
    DataType.FLOAT8E5M2: DataType.FLOAT32,
    DataType.FLOAT8E5M2FNUZ: DataType.FLOAT32,
}


class TakenApart:
    """Takes values apart into what every Loop can carry: single numbers, and arrays of one axis.

    array                elements [element], shape [axis]
    optional             whether it is there, and what it holds, or nothing

    Args:
        holder: the body or function that the values are in.
        names: where new names come from.
        note: keeps a value that is on its way out, and tells how readings call it.
    """

    def __init__(self, holder: Holder, names: FreshNames, note: Callable[[Leaf], Output]) -> None:
        self._holder = holder
        self._names = names
        self._note = note

    def __call__(self, leaf: Leaf) -> Reading:
        """Returns how to put a value together again."""
        match leaf.type:
            case SequenceType():
                return self._note(leaf)
            case OptionalType(element=TensorType() | SequenceType() as held):
                return self._optional(leaf, held)
            case _:
                return self._array(leaf)

    def _array(self, leaf: Leaf) -> Reading:
        type_ = leaf.type if isinstance(leaf.type, TensorType) else None
        joined_as = None if type_ is None else in_bytes(type_) or _JOINED_AS.get(type_.data_type)
        value = leaf.value if joined_as is None else self._add("Cast", [leaf.value], to=int(joined_as))
        in_one_axis = self._add("Constant", [], value=ir.tensor(np.array([-1], np.int64)))
        elements = self._add("Reshape", [value, in_one_axis])
        shape = self._add("Shape", [value])
        flat = None if type_ is None else replace(type_, data_type=joined_as or type_.data_type, shape=(None,))
        return Shaped(
            self._note(Leaf(elements, flat, flat=True)),
            self._note(Leaf(shape, TensorType(DataType.INT64, (None,)), flat=True)),
            None if joined_as is None or type_ is None else type_.data_type,
            0,
        )

    def _optional(self, leaf: Leaf, held: TensorType | SequenceType) -> Reading:
        there = self._add("OptionalHasElement", [leaf.value])
        element = held if isinstance(held, TensorType) else held.element
        data_type = element.data_type if isinstance(element, TensorType) else DataType.FLOAT32
        if isinstance(held, TensorType):
            nothing = self._node("Constant", [], value=zeros(data_type, (0,)))
        else:
            nothing = self._node("SequenceEmpty", [], dtype=int(data_type))
        branches = {"then_branch": self._node("OptionalGetElement", [leaf.value]), "else_branch": nothing}
        graphs = {name: ir.Graph([], node.outputs, nodes=[node], name=name) for name, node in branches.items()}
        value = self._add("If", [there], **graphs)
        flag = self._note(Leaf(there, TensorType(DataType.BOOL, ())))
        return Taken(flag, self(Leaf(value, held)), 0)

    def _add(self, op_type: str, inputs: Sequence[ir.Value], **attributes: object) -> ir.Value:
        node = self._node(op_type, inputs, **attributes)
        self._holder.append(node)
        return node.outputs[0]

    def _node(self, op_type: str, inputs: Sequence[ir.Value], **attributes: object) -> ir.Node:
        output = ir.Value(name=self._names.like(f"{inputs[0].name if inputs else op_type}::{op_type}"))
        return ir.node(op_type, inputs, attributes, outputs=[output])  # type: ignore[arg-type]  # its own list is invariant
