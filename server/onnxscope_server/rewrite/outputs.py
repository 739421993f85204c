"""The pass that takes the model's own outputs away."""

from __future__ import annotations

import onnx_ir as ir


class DropOutputs(ir.passes.InPlacePass):
    """Takes every output off the graph; their producers stay, for `Prune` to judge.

    Before:  x -> Conv -> c -> Relu -> y      outputs: y
    After:   x -> Conv -> c -> Relu -> y      outputs: none
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Empties the list of outputs."""
        modified = bool(model.graph.outputs)
        model.graph.outputs.clear()
        return ir.passes.PassResult(model, modified=modified)
