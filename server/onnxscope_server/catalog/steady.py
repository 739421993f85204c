"""Models whose runs take about as long whenever their inputs have the same shapes."""

from __future__ import annotations

import onnx

from onnxscope_server.catalog.walk import bodies, nodes

_KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# how much these compute follows from the values that they get
_BY_VALUE = frozenset(
    (
        *("Compress", "ConstantOfShape", "Expand", "NonMaxSuppression", "NonZero", "OneHot", "Pad", "Range", "Resize"),
        *("RoiAlign", "StringSplit", "Tile", "Tokenizer", "TopK", "Unique", "Upsample"),
    )
)


def is_steady(proto: onnx.ModelProto) -> bool:
    """Tells whether shapes of inputs, and not their values, say how much a model computes.

    That is so without bodies, which iterate or branch, without operators whose outputs are as large as a value says,
    and without operators that nobody knows, which may do anything.
    """
    called = {(function.domain, function.name) for function in proto.functions}
    return all(
        (node.domain in _KNOWN_DOMAINS or (node.domain, node.op_type) in called)
        and node.op_type not in _BY_VALUE
        and not any(True for _ in bodies([node]))
        for node in nodes(proto)
    )
