"""What operators are made of: each as a graph of smaller operators whose values are its parts.

ONNX defines many operators as functions itself (`standard`). Recurrent ones (`recurrent`) and onnxruntime's own
(`microsoft`) are written here, in the same form.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnxscope_server.catalog.definitions import microsoft, recurrent, standard
from onnxscope_server.catalog.definitions.definition import Definition
from onnxscope_server.domain import ValueType

_OWN_DOMAINS = ("", "ai.onnx")


def definition(node: onnx.NodeProto, imports: Mapping[str, int], types: Mapping[str, ValueType]) -> Definition | None:
    """Returns what an operator is made of.

    Args:
        node: a node of it.
        imports: version of each domain that the model imports; ONNX's own is "".
        types: what is known of the types of the node's inputs, by name.

    Returns:
        The definition, in operators of the version that the model imports; None where there is none.
    """
    own = imports.get("", 1)
    if node.domain in _OWN_DOMAINS and node.op_type in recurrent.OPERATORS:
        return recurrent.definition(node, own, types)
    if node.domain == microsoft.DOMAIN:
        return microsoft.definition(node, own, types)
    return standard.definition(node, imports, types)
