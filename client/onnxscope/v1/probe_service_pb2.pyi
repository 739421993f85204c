from google.protobuf import timestamp_pb2 as _timestamp_pb2
from onnxscope.v1 import capture_service_pb2 as _capture_service_pb2
from onnxscope.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProbeTask(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROBE_TASK_UNSPECIFIED: _ClassVar[ProbeTask]
    PROBE_TASK_CLASSES: _ClassVar[ProbeTask]
    PROBE_TASK_MULTILABEL: _ClassVar[ProbeTask]
    PROBE_TASK_REGRESSION: _ClassVar[ProbeTask]
    PROBE_TASK_UNSUPERVISED: _ClassVar[ProbeTask]
PROBE_TASK_UNSPECIFIED: ProbeTask
PROBE_TASK_CLASSES: ProbeTask
PROBE_TASK_MULTILABEL: ProbeTask
PROBE_TASK_REGRESSION: ProbeTask
PROBE_TASK_UNSUPERVISED: ProbeTask

class ProbeScore(_message.Message):
    __slots__ = ("metric", "value", "low", "high")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    metric: str
    value: float
    low: float
    high: float
    def __init__(self, metric: _Optional[str] = ..., value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class LearningPoint(_message.Message):
    __slots__ = ("row_count", "score")
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    row_count: int
    score: float
    def __init__(self, row_count: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class ConfusionRow(_message.Message):
    __slots__ = ("counts",)
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, counts: _Optional[_Iterable[int]] = ...) -> None: ...

class ProbeReport(_message.Message):
    __slots__ = ("metric", "score", "interval_low", "interval_high", "baseline", "train_score", "train_count", "test_count", "seed", "input_score", "control_score", "selectivity", "codelength_bits", "compression", "shuffled_score", "scores", "learning_curve", "confusion", "control_types", "fold_count", "notes", "baseline_compression")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LOW_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_HIGH_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCORE_FIELD_NUMBER: _ClassVar[int]
    CONTROL_SCORE_FIELD_NUMBER: _ClassVar[int]
    SELECTIVITY_FIELD_NUMBER: _ClassVar[int]
    CODELENGTH_BITS_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    SHUFFLED_SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    LEARNING_CURVE_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    CONTROL_TYPES_FIELD_NUMBER: _ClassVar[int]
    FOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    BASELINE_COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    metric: str
    score: float
    interval_low: float
    interval_high: float
    baseline: float
    train_score: float
    train_count: int
    test_count: int
    seed: int
    input_score: float
    control_score: float
    selectivity: float
    codelength_bits: float
    compression: float
    shuffled_score: float
    scores: _containers.RepeatedCompositeFieldContainer[ProbeScore]
    learning_curve: _containers.RepeatedCompositeFieldContainer[LearningPoint]
    confusion: _containers.RepeatedCompositeFieldContainer[ConfusionRow]
    control_types: str
    fold_count: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    baseline_compression: float
    def __init__(self, metric: _Optional[str] = ..., score: _Optional[float] = ..., interval_low: _Optional[float] = ..., interval_high: _Optional[float] = ..., baseline: _Optional[float] = ..., train_score: _Optional[float] = ..., train_count: _Optional[int] = ..., test_count: _Optional[int] = ..., seed: _Optional[int] = ..., input_score: _Optional[float] = ..., control_score: _Optional[float] = ..., selectivity: _Optional[float] = ..., codelength_bits: _Optional[float] = ..., compression: _Optional[float] = ..., shuffled_score: _Optional[float] = ..., scores: _Optional[_Iterable[_Union[ProbeScore, _Mapping]]] = ..., learning_curve: _Optional[_Iterable[_Union[LearningPoint, _Mapping]]] = ..., confusion: _Optional[_Iterable[_Union[ConfusionRow, _Mapping]]] = ..., control_types: _Optional[str] = ..., fold_count: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ..., baseline_compression: _Optional[float] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("name", "model_digest", "address", "reduction", "kind", "report", "fit_time", "task", "classes", "params_json", "outputs", "byte_count", "arrays")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    FIT_TIME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_digest: str
    address: str
    reduction: _capture_service_pb2.Reduction
    kind: str
    report: ProbeReport
    fit_time: _timestamp_pb2.Timestamp
    task: ProbeTask
    classes: _capture_service_pb2.ProbeClasses
    params_json: str
    outputs: _containers.RepeatedScalarFieldContainer[str]
    byte_count: int
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValuePart]
    def __init__(self, name: _Optional[str] = ..., model_digest: _Optional[str] = ..., address: _Optional[str] = ..., reduction: _Optional[_Union[_capture_service_pb2.Reduction, _Mapping]] = ..., kind: _Optional[str] = ..., report: _Optional[_Union[ProbeReport, _Mapping]] = ..., fit_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., task: _Optional[_Union[ProbeTask, str]] = ..., classes: _Optional[_Union[_capture_service_pb2.ProbeClasses, _Mapping]] = ..., params_json: _Optional[str] = ..., outputs: _Optional[_Iterable[str]] = ..., byte_count: _Optional[int] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.ValuePart, _Mapping]]] = ...) -> None: ...

class ProbeSpec(_message.Message):
    __slots__ = ("name", "model", "version", "selectors", "reductions", "kind", "test_share", "seed", "overwrite", "params_json", "task", "fold_count", "metric", "class_weight_json", "without_controls", "shuffled_control")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    REDUCTIONS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEST_SHARE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    FOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHT_JSON_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_CONTROLS_FIELD_NUMBER: _ClassVar[int]
    SHUFFLED_CONTROL_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    version: str
    selectors: _containers.RepeatedScalarFieldContainer[str]
    reductions: _containers.RepeatedCompositeFieldContainer[_capture_service_pb2.ReductionRule]
    kind: str
    test_share: float
    seed: int
    overwrite: bool
    params_json: str
    task: ProbeTask
    fold_count: int
    metric: str
    class_weight_json: str
    without_controls: bool
    shuffled_control: bool
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., selectors: _Optional[_Iterable[str]] = ..., reductions: _Optional[_Iterable[_Union[_capture_service_pb2.ReductionRule, _Mapping]]] = ..., kind: _Optional[str] = ..., test_share: _Optional[float] = ..., seed: _Optional[int] = ..., overwrite: bool = ..., params_json: _Optional[str] = ..., task: _Optional[_Union[ProbeTask, str]] = ..., fold_count: _Optional[int] = ..., metric: _Optional[str] = ..., class_weight_json: _Optional[str] = ..., without_controls: bool = ..., shuffled_control: bool = ...) -> None: ...

class FitProbeRequest(_message.Message):
    __slots__ = ("spec", "items")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    spec: ProbeSpec
    items: _containers.RepeatedCompositeFieldContainer[_capture_service_pb2.StreamItem]
    def __init__(self, spec: _Optional[_Union[ProbeSpec, _Mapping]] = ..., items: _Optional[_Iterable[_Union[_capture_service_pb2.StreamItem, _Mapping]]] = ...) -> None: ...

class FitProgress(_message.Message):
    __slots__ = ("row_count", "stage", "done_count", "total_count")
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    row_count: int
    stage: str
    done_count: int
    total_count: int
    def __init__(self, row_count: _Optional[int] = ..., stage: _Optional[str] = ..., done_count: _Optional[int] = ..., total_count: _Optional[int] = ...) -> None: ...

class FitProbeResponse(_message.Message):
    __slots__ = ("progress", "probe", "data")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    progress: FitProgress
    probe: Probe
    data: bytes
    def __init__(self, progress: _Optional[_Union[FitProgress, _Mapping]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SweepRequest(_message.Message):
    __slots__ = ("spec", "items")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    spec: ProbeSpec
    items: _containers.RepeatedCompositeFieldContainer[_capture_service_pb2.StreamItem]
    def __init__(self, spec: _Optional[_Union[ProbeSpec, _Mapping]] = ..., items: _Optional[_Iterable[_Union[_capture_service_pb2.StreamItem, _Mapping]]] = ...) -> None: ...

class SweepCompleted(_message.Message):
    __slots__ = ("data_digest", "resumed_count")
    DATA_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RESUMED_COUNT_FIELD_NUMBER: _ClassVar[int]
    data_digest: str
    resumed_count: int
    def __init__(self, data_digest: _Optional[str] = ..., resumed_count: _Optional[int] = ...) -> None: ...

class SweepFailure(_message.Message):
    __slots__ = ("address", "reason", "message")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    address: str
    reason: str
    message: str
    def __init__(self, address: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SweepResponse(_message.Message):
    __slots__ = ("progress", "probe", "completed", "failure")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    progress: FitProgress
    probe: Probe
    completed: SweepCompleted
    failure: SweepFailure
    def __init__(self, progress: _Optional[_Union[FitProgress, _Mapping]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ..., completed: _Optional[_Union[SweepCompleted, _Mapping]] = ..., failure: _Optional[_Union[SweepFailure, _Mapping]] = ...) -> None: ...

class ListProbesRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    version: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ListProbesResponse(_message.Message):
    __slots__ = ("probes", "next_page_token")
    PROBES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    probes: _containers.RepeatedCompositeFieldContainer[Probe]
    next_page_token: str
    def __init__(self, probes: _Optional[_Iterable[_Union[Probe, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetProbeRequest(_message.Message):
    __slots__ = ("model", "name", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    version: str
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetProbeResponse(_message.Message):
    __slots__ = ("probe",)
    PROBE_FIELD_NUMBER: _ClassVar[int]
    probe: Probe
    def __init__(self, probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class DeleteProbeRequest(_message.Message):
    __slots__ = ("model", "name", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    version: str
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DeleteProbeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportProbeRequest(_message.Message):
    __slots__ = ("model", "name", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    version: str
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ExportProbeResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportSpec(_message.Message):
    __slots__ = ("name", "model", "version", "address", "reduction", "overwrite", "autoencoder")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    AUTOENCODER_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    version: str
    address: str
    reduction: _capture_service_pb2.Reduction
    overwrite: bool
    autoencoder: SparseAutoencoder
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., address: _Optional[str] = ..., reduction: _Optional[_Union[_capture_service_pb2.Reduction, _Mapping]] = ..., overwrite: bool = ..., autoencoder: _Optional[_Union[SparseAutoencoder, _Mapping]] = ...) -> None: ...

class SparseAutoencoder(_message.Message):
    __slots__ = ("activation", "k", "subtract_decoder_bias")
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    SUBTRACT_DECODER_BIAS_FIELD_NUMBER: _ClassVar[int]
    activation: str
    k: int
    subtract_decoder_bias: bool
    def __init__(self, activation: _Optional[str] = ..., k: _Optional[int] = ..., subtract_decoder_bias: bool = ...) -> None: ...

class ImportProbeRequest(_message.Message):
    __slots__ = ("spec", "data")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    spec: ImportSpec
    data: bytes
    def __init__(self, spec: _Optional[_Union[ImportSpec, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportProbeResponse(_message.Message):
    __slots__ = ("probe",)
    PROBE_FIELD_NUMBER: _ClassVar[int]
    probe: Probe
    def __init__(self, probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...
