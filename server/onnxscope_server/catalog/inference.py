"""Types of a model's values, as far as they can be known without running it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import onnx
import onnx.shape_inference

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.value_types import tensor_type, value_type
from onnxscope_server.domain import ValueType

_logger = logging.getLogger(__name__)
_INFERRED_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def types(proto: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ValueType]:
    """Infers the types of the main graph's values.

    Args:
        proto: the model; it is used up.
        input_shapes: number of elements along every axis, by input. Inputs that are not named stay as declared.

    Returns:
        Types by value name; values of which nothing is known are left out. It never fails: where inference does, the
        declared types remain.
    """
    if not graph.in_order(proto.graph):
        proto = _sorted(proto)
    if input_shapes:
        _bind(proto, input_shapes)
    found: dict[str, ValueType] = {}
    for candidate in (proto, _infer(proto)):
        if candidate is not None:
            found.update(_declared(candidate.graph))
    return found


def _sorted(proto: onnx.ModelProto) -> onnx.ModelProto:
    return graph.parse(graph.write(graph.from_proto(proto)))


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    for data_prop in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
        except Exception as error:  # noqa: BLE001 -- it raises what its C++ side throws; declared types remain
            _logger.debug("shape inference (data_prop=%s) failed: %s", data_prop, error)
    return None


def _declared(main: onnx.GraphProto) -> Iterable[tuple[str, ValueType]]:
    for tensor in main.initializer:
        known = tensor_type(tensor)
        if known is not None:
            yield tensor.name, known
    for sparse in main.sparse_initializer:
        sparse.values.dims[:] = sparse.dims
        known = tensor_type(sparse.values)
        if known is not None:
            yield sparse.values.name, known
    for info in (*main.input, *main.value_info, *main.output):
        declared = value_type(info.type)
        if declared is not None:
            yield info.name, declared


def _bind(proto: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Fixes the inputs' shapes and drops declared shapes that inference finds again, so that it finds numbers."""
    main = proto.graph
    symbols: dict[str, int] = {}
    for info in main.input:
        shape = input_shapes.get(info.name)
        if shape is None or info.type.WhichOneof("value") != "tensor_type":
            continue
        declared = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and len(declared) == len(shape):
            symbols |= {item.dim_param: size for item, size in zip(declared, shape, strict=True) if item.dim_param}
        info.type.tensor_type.shape.Clear()
        for size in shape:
            info.type.tensor_type.shape.dim.add(dim_value=size)
    for info in main.input:
        _substitute(info.type, symbols)
    inferable = _inferable(proto)
    kept = [info for info in main.value_info if info.name not in inferable]
    for info in kept:
        _substitute(info.type, symbols)
    del main.value_info[:]
    main.value_info.extend(kept)
    for info in main.output:
        if info.name in inferable and info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
        else:
            _substitute(info.type, symbols)


def _inferable(proto: onnx.ModelProto) -> set[str]:
    """Names of the values whose types inference finds by itself: made by ONNX's own operators or local functions."""
    local = {(function.domain, function.name) for function in proto.functions}
    return {
        name
        for node in proto.graph.node
        if node.domain in _INFERRED_DOMAINS or (node.domain, node.op_type) in local
        for name in node.output
    }


def _substitute(declared: onnx.TypeProto, symbols: Mapping[str, int]) -> None:
    if declared.WhichOneof("value") == "tensor_type":
        for item in declared.tensor_type.shape.dim:
            if item.dim_param in symbols:
                item.dim_value = symbols[item.dim_param]
