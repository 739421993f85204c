"""Messages that describe models, as the values that callers get."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from onnxscope.results import (
    CapturePlan,
    HookPoint,
    ModelInfo,
    PlannedValue,
    Shape,
    TensorSpec,
)
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import codec
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1 import tensor_pb2 as tensor_pb

_UNKNOWN = "?"


def value_type(message: tensor_pb.ValueType) -> tuple[str, Shape | None]:
    """Returns dtype and shape as `TensorSpec` writes them."""
    match message.WhichOneof("type"):
        case "tensor":
            return _dtype(message.tensor.data_type), shape(message.tensor)
        case "sparse_tensor":
            return _dtype(message.sparse_tensor.data_type), shape(message.sparse_tensor)
        case "sequence":
            return f"sequence({value_type(message.sequence.element)[0]})", None
        case "map":
            key, value = _dtype(message.map.key), value_type(message.map.value)[0]
            return f"map({key}, {value})", None
        case "optional":
            dtype, known = value_type(message.optional.element)
            return f"optional({dtype})", known
    return _UNKNOWN, None


def shape(tensor: tensor_pb.TensorType) -> Shape | None:
    """Returns the shape of an array: sizes, symbols, or None for what is not known."""
    if not tensor.HasField("shape"):
        return None
    extents: list[int | str | None] = []
    for dimension in tensor.shape.dimensions:
        which = dimension.WhichOneof("extent")
        extents.append(getattr(dimension, which) if which else None)
    return tuple(extents)


def specs(messages: Iterable[tensor_pb.ValueSpec]) -> tuple[TensorSpec, ...]:
    """Returns inputs or outputs."""
    return tuple(TensorSpec(message.name, *value_type(message.type)) for message in messages)


def model(message: model_pb.Model) -> ModelInfo:
    """Returns one version of a model in the catalog."""
    return ModelInfo(
        name=message.name,
        version=message.version,
        digest=message.digest,
        inputs=specs(message.inputs),
        optional_inputs=specs(message.optional_inputs),
        outputs=specs(message.outputs),
        providers=tuple(message.providers),
        byte_count=message.byte_count,
        load_time=message.load_time.ToDatetime(UTC) if message.HasField("load_time") else None,
        read_only=message.read_only,
    )


def hook_point(message: model_pb.HookPoint) -> HookPoint:
    """Returns a hook point."""
    dtype, known = value_type(message.type)
    name = model_pb.HookPointKind.Name(message.kind)
    return HookPoint(
        address=message.address,
        op_type=message.op_type,
        dtype=dtype,
        shape=known,
        depth=message.depth,
        kind=name.removeprefix("HOOK_POINT_KIND_").lower(),
        batch_axis=message.batch_axis if message.HasField("batch_axis") else None,
    )


def plan(message: capture_pb.CapturePlan) -> CapturePlan:
    """Returns what a capture would bring and cost."""
    return CapturePlan(
        (_planned(value) for value in message.values),
        known_byte_count=message.known_byte_count,
        unknown_count=message.unknown_count,
        node_count=message.node_count,
        model_node_count=message.model_node_count,
    )


def _planned(message: capture_pb.PlannedValue) -> PlannedValue:
    is_output = message.role == tensor_pb.VALUE_ROLE_OUTPUT
    byte_count = message.byte_count if message.HasField("byte_count") else None
    return PlannedValue(message.name, is_output, *value_type(message.type), byte_count)


def _dtype(number: int) -> str:
    return codec.dtype_name(number) if number in codec.DTYPES else _UNKNOWN
