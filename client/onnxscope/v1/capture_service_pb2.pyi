from google.protobuf import duration_pb2 as _duration_pb2
from onnxscope.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutputMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_MODE_UNSPECIFIED: _ClassVar[OutputMode]
    OUTPUT_MODE_UNMODIFIED: _ClassVar[OutputMode]
    OUTPUT_MODE_INSTRUMENTED: _ClassVar[OutputMode]
    OUTPUT_MODE_NONE: _ClassVar[OutputMode]

class ReductionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REDUCTION_KIND_UNSPECIFIED: _ClassVar[ReductionKind]
    REDUCTION_KIND_MEAN: _ClassVar[ReductionKind]
    REDUCTION_KIND_MAX: _ClassVar[ReductionKind]
    REDUCTION_KIND_FIRST: _ClassVar[ReductionKind]
    REDUCTION_KIND_LAST: _ClassVar[ReductionKind]
    REDUCTION_KIND_FLATTEN: _ClassVar[ReductionKind]
    REDUCTION_KIND_POSITIONS: _ClassVar[ReductionKind]
    REDUCTION_KIND_SPATIAL_MEAN: _ClassVar[ReductionKind]
    REDUCTION_KIND_NORM: _ClassVar[ReductionKind]
    REDUCTION_KIND_INDEX: _ClassVar[ReductionKind]
    REDUCTION_KIND_TOPK: _ClassVar[ReductionKind]
OUTPUT_MODE_UNSPECIFIED: OutputMode
OUTPUT_MODE_UNMODIFIED: OutputMode
OUTPUT_MODE_INSTRUMENTED: OutputMode
OUTPUT_MODE_NONE: OutputMode
REDUCTION_KIND_UNSPECIFIED: ReductionKind
REDUCTION_KIND_MEAN: ReductionKind
REDUCTION_KIND_MAX: ReductionKind
REDUCTION_KIND_FIRST: ReductionKind
REDUCTION_KIND_LAST: ReductionKind
REDUCTION_KIND_FLATTEN: ReductionKind
REDUCTION_KIND_POSITIONS: ReductionKind
REDUCTION_KIND_SPATIAL_MEAN: ReductionKind
REDUCTION_KIND_NORM: ReductionKind
REDUCTION_KIND_INDEX: ReductionKind
REDUCTION_KIND_TOPK: ReductionKind

class Reduction(_message.Message):
    __slots__ = ("kind", "axis", "index", "top_count", "mask_input", "mask_value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOP_COUNT_FIELD_NUMBER: _ClassVar[int]
    MASK_INPUT_FIELD_NUMBER: _ClassVar[int]
    MASK_VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: ReductionKind
    axis: int
    index: int
    top_count: int
    mask_input: str
    mask_value: str
    def __init__(self, kind: _Optional[_Union[ReductionKind, str]] = ..., axis: _Optional[int] = ..., index: _Optional[int] = ..., top_count: _Optional[int] = ..., mask_input: _Optional[str] = ..., mask_value: _Optional[str] = ...) -> None: ...

class ReductionRule(_message.Message):
    __slots__ = ("selector", "reduction")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    selector: str
    reduction: Reduction
    def __init__(self, selector: _Optional[str] = ..., reduction: _Optional[_Union[Reduction, _Mapping]] = ...) -> None: ...

class CaptureSpec(_message.Message):
    __slots__ = ("model", "version", "selectors", "reductions", "outputs", "exact", "expand", "dequantize", "probes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    REDUCTIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EXPAND_FIELD_NUMBER: _ClassVar[int]
    DEQUANTIZE_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    selectors: _containers.RepeatedScalarFieldContainer[str]
    reductions: _containers.RepeatedCompositeFieldContainer[ReductionRule]
    outputs: OutputMode
    exact: bool
    expand: bool
    dequantize: bool
    probes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., selectors: _Optional[_Iterable[str]] = ..., reductions: _Optional[_Iterable[_Union[ReductionRule, _Mapping]]] = ..., outputs: _Optional[_Union[OutputMode, str]] = ..., exact: bool = ..., expand: bool = ..., dequantize: bool = ..., probes: _Optional[_Iterable[str]] = ...) -> None: ...

class InputShape(_message.Message):
    __slots__ = ("name", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class PlanCaptureRequest(_message.Message):
    __slots__ = ("spec", "input_shapes")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_SHAPES_FIELD_NUMBER: _ClassVar[int]
    spec: CaptureSpec
    input_shapes: _containers.RepeatedCompositeFieldContainer[InputShape]
    def __init__(self, spec: _Optional[_Union[CaptureSpec, _Mapping]] = ..., input_shapes: _Optional[_Iterable[_Union[InputShape, _Mapping]]] = ...) -> None: ...

class Quantization(_message.Message):
    __slots__ = ("scale", "zero_point", "axis", "block_size")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    scale: str
    zero_point: str
    axis: int
    block_size: int
    def __init__(self, scale: _Optional[str] = ..., zero_point: _Optional[str] = ..., axis: _Optional[int] = ..., block_size: _Optional[int] = ...) -> None: ...

class PlannedValue(_message.Message):
    __slots__ = ("role", "name", "type", "byte_count", "quantization")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    role: _tensor_pb2.ValueRole
    name: str
    type: _tensor_pb2.ValueType
    byte_count: int
    quantization: Quantization
    def __init__(self, role: _Optional[_Union[_tensor_pb2.ValueRole, str]] = ..., name: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.ValueType, _Mapping]] = ..., byte_count: _Optional[int] = ..., quantization: _Optional[_Union[Quantization, _Mapping]] = ...) -> None: ...

class ProbeClasses(_message.Message):
    __slots__ = ("integers", "texts")
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    integers: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, integers: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class PlannedProbe(_message.Message):
    __slots__ = ("name", "address", "kind", "classes", "outputs")
    class OutputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    kind: str
    classes: ProbeClasses
    outputs: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., kind: _Optional[str] = ..., classes: _Optional[_Union[ProbeClasses, _Mapping]] = ..., outputs: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CapturePlan(_message.Message):
    __slots__ = ("values", "known_byte_count", "unknown_count", "node_count", "model_node_count", "probes")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    KNOWN_BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_COUNT_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MODEL_NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[PlannedValue]
    known_byte_count: int
    unknown_count: int
    node_count: int
    model_node_count: int
    probes: _containers.RepeatedCompositeFieldContainer[PlannedProbe]
    def __init__(self, values: _Optional[_Iterable[_Union[PlannedValue, _Mapping]]] = ..., known_byte_count: _Optional[int] = ..., unknown_count: _Optional[int] = ..., node_count: _Optional[int] = ..., model_node_count: _Optional[int] = ..., probes: _Optional[_Iterable[_Union[PlannedProbe, _Mapping]]] = ...) -> None: ...

class PlanCaptureResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: CapturePlan
    def __init__(self, plan: _Optional[_Union[CapturePlan, _Mapping]] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "duration")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    stage: str
    duration: _duration_pb2.Duration
    def __init__(self, stage: _Optional[str] = ..., duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Fidelity(_message.Message):
    __slots__ = ("fusion_blocked", "changed_operators", "max_output_difference")
    FUSION_BLOCKED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_OPERATORS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    fusion_blocked: bool
    changed_operators: _containers.RepeatedScalarFieldContainer[str]
    max_output_difference: float
    def __init__(self, fusion_blocked: bool = ..., changed_operators: _Optional[_Iterable[str]] = ..., max_output_difference: _Optional[float] = ...) -> None: ...

class CaptureCompleted(_message.Message):
    __slots__ = ("timings", "fidelity")
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    FIDELITY_FIELD_NUMBER: _ClassVar[int]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    fidelity: Fidelity
    def __init__(self, timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., fidelity: _Optional[_Union[Fidelity, _Mapping]] = ...) -> None: ...

class OpenSharedMemoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenSharedMemoryResponse(_message.Message):
    __slots__ = ("socket_id", "token")
    SOCKET_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    socket_id: str
    token: bytes
    def __init__(self, socket_id: _Optional[str] = ..., token: _Optional[bytes] = ...) -> None: ...

class Sharing(_message.Message):
    __slots__ = ("token", "call", "whole")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    call: int
    whole: bool
    def __init__(self, token: _Optional[bytes] = ..., call: _Optional[int] = ..., whole: bool = ...) -> None: ...

class CaptureRequest(_message.Message):
    __slots__ = ("spec", "inputs", "sharing", "last")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SHARING_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    spec: CaptureSpec
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValuePart]
    sharing: Sharing
    last: bool
    def __init__(self, spec: _Optional[_Union[CaptureSpec, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.ValuePart, _Mapping]]] = ..., sharing: _Optional[_Union[Sharing, _Mapping]] = ..., last: bool = ...) -> None: ...

class CaptureEvent(_message.Message):
    __slots__ = ("plan", "value", "completed")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    plan: CapturePlan
    value: _tensor_pb2.ValuePart
    completed: CaptureCompleted
    def __init__(self, plan: _Optional[_Union[CapturePlan, _Mapping]] = ..., value: _Optional[_Union[_tensor_pb2.ValuePart, _Mapping]] = ..., completed: _Optional[_Union[CaptureCompleted, _Mapping]] = ...) -> None: ...

class CaptureResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[CaptureEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[CaptureEvent, _Mapping]]] = ...) -> None: ...

class CaptureSmallRequest(_message.Message):
    __slots__ = ("spec", "inputs")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    spec: CaptureSpec
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValuePart]
    def __init__(self, spec: _Optional[_Union[CaptureSpec, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.ValuePart, _Mapping]]] = ...) -> None: ...

class CaptureSmallResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[CaptureEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[CaptureEvent, _Mapping]]] = ...) -> None: ...

class BatchStart(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class BatchEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamItem(_message.Message):
    __slots__ = ("batch_start", "input", "batch_end")
    BATCH_START_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    BATCH_END_FIELD_NUMBER: _ClassVar[int]
    batch_start: BatchStart
    input: _tensor_pb2.ValuePart
    batch_end: BatchEnd
    def __init__(self, batch_start: _Optional[_Union[BatchStart, _Mapping]] = ..., input: _Optional[_Union[_tensor_pb2.ValuePart, _Mapping]] = ..., batch_end: _Optional[_Union[BatchEnd, _Mapping]] = ...) -> None: ...

class StreamCaptureRequest(_message.Message):
    __slots__ = ("spec", "carry", "items", "sharing")
    class CarryEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CARRY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SHARING_FIELD_NUMBER: _ClassVar[int]
    spec: CaptureSpec
    carry: _containers.ScalarMap[str, str]
    items: _containers.RepeatedCompositeFieldContainer[StreamItem]
    sharing: Sharing
    def __init__(self, spec: _Optional[_Union[CaptureSpec, _Mapping]] = ..., carry: _Optional[_Mapping[str, str]] = ..., items: _Optional[_Iterable[_Union[StreamItem, _Mapping]]] = ..., sharing: _Optional[_Union[Sharing, _Mapping]] = ...) -> None: ...

class BatchCompleted(_message.Message):
    __slots__ = ("index", "completed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    index: int
    completed: CaptureCompleted
    def __init__(self, index: _Optional[int] = ..., completed: _Optional[_Union[CaptureCompleted, _Mapping]] = ...) -> None: ...

class StreamCompleted(_message.Message):
    __slots__ = ("batch_count",)
    BATCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    batch_count: int
    def __init__(self, batch_count: _Optional[int] = ...) -> None: ...

class StreamEvent(_message.Message):
    __slots__ = ("plan", "batch_start", "value", "batch_completed", "completed")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    BATCH_START_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BATCH_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    plan: CapturePlan
    batch_start: BatchStart
    value: _tensor_pb2.ValuePart
    batch_completed: BatchCompleted
    completed: StreamCompleted
    def __init__(self, plan: _Optional[_Union[CapturePlan, _Mapping]] = ..., batch_start: _Optional[_Union[BatchStart, _Mapping]] = ..., value: _Optional[_Union[_tensor_pb2.ValuePart, _Mapping]] = ..., batch_completed: _Optional[_Union[BatchCompleted, _Mapping]] = ..., completed: _Optional[_Union[StreamCompleted, _Mapping]] = ...) -> None: ...

class StreamCaptureResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[StreamEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[StreamEvent, _Mapping]]] = ...) -> None: ...
