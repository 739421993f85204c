"""Frees axes of inputs that a model declares with a fixed size."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

_SYMBOL = "onnxscope_free"


class FreeAxes(ir.passes.InPlacePass):
    """Gives axes of inputs a symbol for a size, and forgets the shapes that followed from the old ones.

    Before:  x [1, 4] -> Relu -> a [1, 4] -> Transpose -> y [4, 1]
    After:   x [free, 4] -> Relu -> a -> Transpose -> y

    Whether the graph computes with another size is for a run to tell: a Reshape may insist on the old one.

    Args:
        axes: input name and axis.
    """

    def __init__(self, axes: Iterable[tuple[str, int]]) -> None:
        self._axes = tuple(axes)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the declared shapes."""
        inputs = {value.name: value for value in model.graph.inputs}
        for name, axis in self._axes:
            shape = inputs[name].shape
            if shape is not None:
                sizes = list(shape)
                sizes[axis] = ir.SymbolicDim(_SYMBOL)
                inputs[name].shape = ir.Shape(sizes)
        for node in model.graph.all_nodes():
            for value in node.outputs:
                value.shape = None
        return ir.passes.PassResult(model, modified=bool(self._axes))
