"""Which version of ONNX's own operators a model uses."""

from __future__ import annotations

import onnx_ir as ir

from onnxscope_server.catalog.scopes import OWN_DOMAINS, Path
from onnxscope_server.rewrite.scopes import holder_at

# for models without a node of ONNX's own: known to every onnxruntime that this server runs on
_OPSET_WHERE_NONE = 13


def opset_of(model: ir.Model, path: Path = ()) -> int:
    """Returns the version of ONNX's own operators that nodes have.

    A model or function that imports none (only `ai.onnx.ml`, say) gets an import, so that operators can be added.

    Args:
        model: the model.
        path: to the graph that holds the nodes.
    """
    imports = imports_of(model, path)
    for domain in OWN_DOMAINS:
        if domain in imports:
            return imports[domain]
    imports[""] = model.graph.opset_imports.get("", _OPSET_WHERE_NONE)
    return imports[""]


def import_domain(model: ir.Model, path: Path, domain: str, version: int = 1) -> None:
    """Lets nodes of the graph that a path leads to have operators of another domain, if none are there yet."""
    for imports in (model.graph.opset_imports, imports_of(model, path)):
        imports.setdefault(domain, version)


def imports_of(model: ir.Model, path: Path) -> dict[str, int]:
    """Returns the versions of the domains of operators in the graph that a path leads to."""
    calls = [depth for depth, step in enumerate(path, 1) if not step.op_type]
    return holder_at(model, path[: calls[-1]]).opset_imports if calls else model.graph.opset_imports
