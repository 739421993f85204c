"""Text in a model. ONNX demands UTF-8 and nothing enforces it: protobuf hands other text out as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx

from onnxscope_server.catalog.walk import graphs, nodes
from onnxscope_server.errors import ModelInvalidError

_PROSE = ("doc_string", "producer_name", "producer_version")


def check(proto: onnx.ModelProto) -> None:
    """Checks that every name is text; names travel, and have to be the same at the other end.

    Raises:
        ModelInvalidError: one is not.
    """
    for name in _names(proto):
        if isinstance(name, bytes):
            detail = f"the name {name.decode(errors='replace')!r} is not UTF-8"
            raise ModelInvalidError(f"The model contradicts itself: {detail}.", detail=detail)


def mend(proto: onnx.ModelProto) -> None:
    """Replaces what is not UTF-8 in documentation and metadata, which compute nothing."""
    for message in _documented(proto):
        for field in _PROSE:
            value = getattr(message, field, "")
            if isinstance(value, bytes):
                setattr(message, field, value.decode(errors="replace"))
        for entry in getattr(message, "metadata_props", ()):
            for field in ("key", "value"):
                value = getattr(entry, field)
                if isinstance(value, bytes):
                    setattr(entry, field, value.decode(errors="replace"))


def _documented(proto: onnx.ModelProto) -> Iterator[Any]:
    yield proto
    yield from proto.functions
    for main in graphs(proto):
        yield main
        for listed in (main.input, main.output, main.value_info, main.initializer):
            yield from listed
    for node in nodes(proto):
        yield node
        yield from node.attribute


def _names(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    for main in graphs(proto):
        yield main.name
        for listed in (main.input, main.output, main.value_info):
            for info in listed:
                yield info.name
                yield from _symbols(info.type)
        yield from (tensor.name for tensor in main.initializer)
        yield from (sparse.values.name for sparse in main.sparse_initializer)
    for function in proto.functions:
        yield from (function.name, function.domain)
        yield from _all(function.input, function.output, function.attribute)
    for node in nodes(proto):
        yield from (node.name, node.op_type, node.domain)
        yield from _all(node.input, node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (imported.domain for imported in proto.opset_import)


def _all(*lists: Iterable[str]) -> Iterator[str]:
    for listed in lists:
        yield from listed


def _symbols(declared: onnx.TypeProto) -> Iterator[str]:
    if declared.HasField("tensor_type"):
        yield from (item.dim_param for item in declared.tensor_type.shape.dim)
