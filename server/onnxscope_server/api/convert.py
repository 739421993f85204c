"""onnxscope.v1 messages <-> domain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope_server.catalog.description import HookPoint, Kind, ModelEntry, ValueSpec
from onnxscope_server.cost_domain import PlanCost, PlannedValue
from onnxscope_server.domain import (
    CaptureSpec,
    DataType,
    MapType,
    OptionalType,
    OutputMode,
    Quantization,
    Reduction,
    ReductionKind,
    SequenceType,
    TensorType,
    ValueType,
)
from onnxscope_server.errors import ReductionInvalidError, ValueInvalidError
from onnxscope_server.result_domain import Fidelity

_OUTPUT_MODES = {
    capture_pb.OUTPUT_MODE_UNSPECIFIED: OutputMode.UNMODIFIED,
    capture_pb.OUTPUT_MODE_UNMODIFIED: OutputMode.UNMODIFIED,
    capture_pb.OUTPUT_MODE_INSTRUMENTED: OutputMode.INSTRUMENTED,
    capture_pb.OUTPUT_MODE_NONE: OutputMode.NONE,
}
_KINDS: dict[Kind, Any] = {kind: model_pb.HookPointKind.Value(f"HOOK_POINT_KIND_{kind.name}") for kind in Kind}
_REDUCTIONS = {capture_pb.ReductionKind.Value(f"REDUCTION_KIND_{kind.name}"): kind for kind in ReductionKind}
_REDUCTION_NUMBERS: dict[ReductionKind, Any] = {kind: number for number, kind in _REDUCTIONS.items()}


def type_to_pb(value_type: ValueType | None) -> tensor_pb.ValueType:
    """Returns the message of a type; an empty one where it is unknown."""
    if isinstance(value_type, TensorType):
        tensor = _tensor_to_pb(value_type)
        return tensor_pb.ValueType(sparse_tensor=tensor) if value_type.sparse else tensor_pb.ValueType(tensor=tensor)
    if isinstance(value_type, SequenceType):
        element = type_to_pb(value_type.element)
        return tensor_pb.ValueType(sequence=tensor_pb.SequenceType(element=element))
    if isinstance(value_type, MapType):
        value = type_to_pb(value_type.value)
        return tensor_pb.ValueType(map=tensor_pb.MapType(key=_data_type(value_type.key), value=value))
    if isinstance(value_type, OptionalType):
        element = type_to_pb(value_type.element)
        return tensor_pb.ValueType(optional=tensor_pb.OptionalType(element=element))
    return tensor_pb.ValueType()


def _tensor_to_pb(tensor: TensorType) -> tensor_pb.TensorType:
    message = tensor_pb.TensorType(data_type=_data_type(tensor.data_type))
    if tensor.shape is not None:
        message.shape.SetInParent()
        for extent in tensor.shape:
            message.shape.dimensions.add(
                size=extent if isinstance(extent, int) else None,
                symbol=extent if isinstance(extent, str) else None,
            )
    return message


def _data_type(data_type: DataType) -> Any:
    return tensor_pb.DataType.ValueType(data_type)


def specs_to_pb(specs: Iterable[ValueSpec]) -> list[tensor_pb.ValueSpec]:
    """Returns the messages of inputs or outputs."""
    return [tensor_pb.ValueSpec(name=spec.name, type=type_to_pb(spec.type)) for spec in specs]


def model_to_pb(
    entry: ModelEntry,
    *,
    inputs: Iterable[ValueSpec],
    optional_inputs: Iterable[ValueSpec],
    outputs: Iterable[ValueSpec],
    providers: Iterable[str],
    byte_count: int,
) -> model_pb.Model:
    """Returns the message of a model in the catalog."""
    load_time = Timestamp()
    load_time.FromNanoseconds(int(entry.load_time * 1e9))
    return model_pb.Model(
        name=entry.name,
        version=entry.version,
        digest=entry.digest,
        inputs=specs_to_pb(inputs),
        optional_inputs=specs_to_pb(optional_inputs),
        outputs=specs_to_pb(outputs),
        providers=providers,
        byte_count=byte_count,
        load_time=load_time,
        read_only=entry.read_only,
    )


def hook_point_to_pb(point: HookPoint) -> model_pb.HookPoint:
    """Returns the message of a hook point."""
    return model_pb.HookPoint(
        address=point.address,
        op_type=point.op_type,
        type=type_to_pb(point.type),
        depth=point.depth,
        kind=_KINDS[point.kind],
        batch_axis=point.batch_axis,
    )


def spec_from_pb(spec: capture_pb.CaptureSpec) -> CaptureSpec:
    """Returns the spec of a request.

    Raises:
        ReductionInvalidError: a reduction is of no known kind.
        ValueInvalidError: an enum has a value that this version doesn't know.
    """
    return CaptureSpec(
        model=spec.model,
        version=spec.version,
        selectors=tuple(spec.selectors),
        reductions=tuple((rule.selector, reduction_from_pb(rule.reduction)) for rule in spec.reductions),
        outputs=_known(_OUTPUT_MODES, spec.outputs, "outputs"),
        exact=spec.exact,
        expand=spec.expand,
        dequantize=spec.dequantize,
        probes=tuple(spec.probes),
    )


def _known(table: Mapping[Any, OutputMode], number: int, field: str) -> OutputMode:
    if number not in table:
        raise ValueInvalidError(f"{field} = {number} is no value of the enum", value=field)
    return table[number]


def reduction_from_pb(reduction: capture_pb.Reduction) -> Reduction:
    """Returns a reduction.

    Raises:
        ReductionInvalidError: it is of no known kind.
    """
    kind = _REDUCTIONS.get(reduction.kind)
    if kind is None:
        known = ", ".join(name.value for name in ReductionKind)
        raise ReductionInvalidError(
            f"reduction kind {reduction.kind} is unknown; use one of {known}",
            reduction=str(reduction.kind),
        )

    def given(name: str) -> Any:
        return getattr(reduction, name) if reduction.HasField(name) else None

    return Reduction(
        kind=kind,
        axis=given("axis"),
        index=given("index"),
        k=given("top_count"),
        mask_input=given("mask_input"),
        mask_value=given("mask_value"),
    )


def reduction_to_pb(reduction: Reduction) -> capture_pb.Reduction:
    """Returns the message of a reduction."""
    return capture_pb.Reduction(
        kind=_REDUCTION_NUMBERS[reduction.kind],
        axis=reduction.axis,
        index=reduction.index,
        top_count=reduction.k,
        mask_input=reduction.mask_input,
        mask_value=reduction.mask_value,
    )


def classes_to_pb(classes: Sequence[int | str]) -> capture_pb.ProbeClasses | None:
    """Returns the message of a probe's classes; None where it has none."""
    if not classes:
        return None
    if all(isinstance(item, int) for item in classes):
        return capture_pb.ProbeClasses(integers=[int(item) for item in classes])
    return capture_pb.ProbeClasses(texts=[str(item) for item in classes])


def plan_to_pb(cost: PlanCost) -> capture_pb.CapturePlan:
    """Returns the message of what a plan brings."""
    return capture_pb.CapturePlan(
        values=[_planned_to_pb(value) for value in cost.values],
        known_byte_count=cost.known_byte_count,
        unknown_count=cost.unknown_count,
        node_count=cost.node_count,
        model_node_count=cost.model_node_count,
        probes=[
            capture_pb.PlannedProbe(
                name=probe.name,
                address=probe.address,
                kind=probe.kind,
                classes=classes_to_pb(probe.classes),
                outputs={output.name: output.value for output in probe.outputs},
            )
            for probe in cost.probes
        ],
    )


def _planned_to_pb(value: PlannedValue) -> capture_pb.PlannedValue:
    role = tensor_pb.VALUE_ROLE_OUTPUT if value.is_output else tensor_pb.VALUE_ROLE_ACTIVATION
    return capture_pb.PlannedValue(
        role=role,
        name=value.name,
        type=type_to_pb(value.type),
        byte_count=value.byte_count,
        quantization=_quantization_to_pb(value.quantization),
    )


def _quantization_to_pb(quantization: Quantization | None) -> capture_pb.Quantization | None:
    if quantization is None:
        return None
    return capture_pb.Quantization(
        scale=quantization.scale,
        zero_point=quantization.zero_point,
        axis=quantization.axis,
        block_size=quantization.block_size,
    )


def write_completed(completed: capture_pb.CaptureCompleted, timings: Mapping[str, float], fidelity: Fidelity) -> None:
    """Writes the message that ends a run."""
    # into the message where it stands: one that is put into another is copied
    for stage, taken in timings.items():
        timing = completed.timings.add(stage=stage)
        timing.duration.seconds, timing.duration.nanos = divmod(int(taken * 1e9), 1_000_000_000)
    found = completed.fidelity
    found.fusion_blocked = fidelity.fusion_blocked
    found.changed_operators.extend(fidelity.changed_operators)
    if fidelity.max_output_difference is not None:
        found.max_output_difference = fidelity.max_output_difference
