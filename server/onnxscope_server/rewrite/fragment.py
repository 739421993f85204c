"""Writes standard operators behind a value, in the spelling of the model's opset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import Array, DataType
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.scopes import Holder

Attribute: TypeAlias = int | Sequence[int] | ir.TensorProtocol

_AXES_ARE_AN_INPUT = {
    "Squeeze": 13,
    "Unsqueeze": 13,
    "ReduceSum": 13,
    "ReduceL2": 18,
    "ReduceMax": 18,
    "ReduceMean": 18,
    "ReduceProd": 18,
}
_BOUNDS_ARE_INPUTS = 10
_TO_THE_END = 2**63 - 1
_TOP_COUNT_IS_AN_INPUT = 10
_ZERO_IS_A_SIZE = 14


class Fragment:
    """A piece of graph that grows at the end of a graph or function.

    Constants are nodes, not initializers: old models would need an input beside each initializer.

    Args:
        graph: where nodes are added.
        names: where new names come from.
        opset: version of ONNX's own operators in the graph.
        label: what node names start with; onnxruntime's errors quote them.
    """

    def __init__(self, graph: Holder, names: FreshNames, opset: int, label: str) -> None:
        self.opset = opset
        self._graph = graph
        self._names = names
        self._label = label

    def add(
        self,
        op_type: str,
        *inputs: ir.Value,
        output_count: int = 1,
        role: str = "",
        **attributes: Attribute,
    ) -> ir.Value:
        """Adds a node, named after its role or its operator, and returns its first output."""
        outputs = [ir.Value(name=self.name(role or op_type)) for _ in range(output_count)]
        node = ir.node(op_type, inputs, attributes, outputs=outputs, name=outputs[0].name)
        self._graph.append(node)
        return node.outputs[0]

    def name(self, role: str) -> str:
        """Returns a new name for a node or a value."""
        return self._names.like(f"{self._label}::{role}")

    def constant(self, array: Array) -> ir.Value:
        """Adds a constant."""
        return self.add("Constant", value=ir.tensor(array))

    def integers(self, *numbers: int) -> ir.Value:
        """Adds a constant int64 [len(numbers)]."""
        return self.constant(np.array(numbers, np.int64))

    def cast(self, value: ir.Value, data_type: DataType) -> ir.Value:
        """Changes the type of the elements."""
        return self.add("Cast", value, to=int(data_type))

    def reduce(self, op_type: str, value: ir.Value, axes: Sequence[int], *, keepdims: bool = False) -> ir.Value:
        """Reduces over axes: ReduceMean, ReduceMax, ReduceSum, ReduceProd, ReduceL2."""
        if self.opset >= _AXES_ARE_AN_INPUT[op_type]:
            return self.add(op_type, value, self.integers(*axes), keepdims=int(keepdims))
        return self.add(op_type, value, axes=list(axes), keepdims=int(keepdims))

    def squeeze(self, value: ir.Value, axis: int) -> ir.Value:
        """Takes an axis of size 1 away."""
        return self._with_axes("Squeeze", value, [axis])

    def unsqueeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Puts axes of size 1 in, at these places of the result."""
        return self._with_axes("Unsqueeze", value, axes)

    def reshape(self, value: ir.Value, shape: ir.Value, role: str = "") -> ir.Value:
        """Gives a value another shape; a zero is a size where the opset can say so."""
        if self.opset >= _ZERO_IS_A_SIZE:
            return self.add("Reshape", value, shape, role=role, allowzero=1)
        return self.add("Reshape", value, shape, role=role)

    def gather(self, value: ir.Value, indices: ir.Value, axis: int) -> ir.Value:
        """Takes entries along an axis. Not for text: onnxruntime's Gather loses all but one of an entry's strings."""
        return self.add("Gather", value, indices, axis=axis)

    def take(self, value: ir.Value, index: int, axis: int) -> ir.Value:
        """Takes one entry along an axis, which goes."""
        stop = index + 1 if index != -1 else _TO_THE_END
        if self.opset >= _BOUNDS_ARE_INPUTS:
            bounds = (self.integers(index), self.integers(stop), self.integers(axis))
            one = self.add("Slice", value, *bounds)
        else:
            one = self.add("Slice", value, starts=[index], ends=[stop], axes=[axis])
        return self.squeeze(one, axis)

    def top(self, value: ir.Value, count: int, axis: int) -> ir.Value:
        """Takes the largest entries along an axis, largest first."""
        if self.opset >= _TOP_COUNT_IS_AN_INPUT:
            return self.add("TopK", value, self.integers(count), axis=axis, output_count=2)
        return self.add("TopK", value, k=count, axis=axis, output_count=2)

    def _with_axes(self, op_type: str, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        if self.opset >= _AXES_ARE_AN_INPUT[op_type]:
            return self.add(op_type, value, self.integers(*axes))
        return self.add(op_type, value, axes=list(axes))
