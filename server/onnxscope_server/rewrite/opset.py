"""Which version of ONNX's own operators a model uses."""

from __future__ import annotations

import onnx_ir as ir

# for models without a node of ONNX's own: known to every onnxruntime that this server runs on
_OPSET_WHERE_NONE = 13


def opset_of(model: ir.Model) -> int:
    """Returns the version of ONNX's own operators that the main graph's nodes have.

    A model that imports none (only `ai.onnx.ml`, say) gets an import, so that operators can be added.
    """
    imports = model.graph.opset_imports
    for domain in ("", "ai.onnx"):
        if domain in imports:
            return imports[domain]
    imports[""] = _OPSET_WHERE_NONE
    return _OPSET_WHERE_NONE
