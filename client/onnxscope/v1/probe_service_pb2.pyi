from google.protobuf import timestamp_pb2 as _timestamp_pb2
from onnxscope.v1 import capture_service_pb2 as _capture_service_pb2
from onnxscope.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProbeReport(_message.Message):
    __slots__ = ("metric", "score", "interval_low", "interval_high", "baseline", "train_score", "train_count", "test_count", "seed")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LOW_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_HIGH_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    metric: str
    score: float
    interval_low: float
    interval_high: float
    baseline: float
    train_score: float
    train_count: int
    test_count: int
    seed: int
    def __init__(self, metric: _Optional[str] = ..., score: _Optional[float] = ..., interval_low: _Optional[float] = ..., interval_high: _Optional[float] = ..., baseline: _Optional[float] = ..., train_score: _Optional[float] = ..., train_count: _Optional[int] = ..., test_count: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("name", "model_digest", "address", "reduction", "kind", "report", "fit_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    FIT_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_digest: str
    address: str
    reduction: _capture_service_pb2.Reduction
    kind: str
    report: ProbeReport
    fit_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., model_digest: _Optional[str] = ..., address: _Optional[str] = ..., reduction: _Optional[_Union[_capture_service_pb2.Reduction, _Mapping]] = ..., kind: _Optional[str] = ..., report: _Optional[_Union[ProbeReport, _Mapping]] = ..., fit_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ProbeSpec(_message.Message):
    __slots__ = ("name", "model", "version", "address", "reduction", "kind", "test_share", "seed", "overwrite")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEST_SHARE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    version: str
    address: str
    reduction: _capture_service_pb2.Reduction
    kind: str
    test_share: float
    seed: int
    overwrite: bool
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., address: _Optional[str] = ..., reduction: _Optional[_Union[_capture_service_pb2.Reduction, _Mapping]] = ..., kind: _Optional[str] = ..., test_share: _Optional[float] = ..., seed: _Optional[int] = ..., overwrite: bool = ...) -> None: ...

class FitProbeRequest(_message.Message):
    __slots__ = ("spec", "parts")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    spec: ProbeSpec
    parts: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValuePart]
    def __init__(self, spec: _Optional[_Union[ProbeSpec, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[_tensor_pb2.ValuePart, _Mapping]]] = ...) -> None: ...

class FitProgress(_message.Message):
    __slots__ = ("row_count",)
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    row_count: int
    def __init__(self, row_count: _Optional[int] = ...) -> None: ...

class FitProbeResponse(_message.Message):
    __slots__ = ("progress", "probe")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    progress: FitProgress
    probe: Probe
    def __init__(self, progress: _Optional[_Union[FitProgress, _Mapping]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class ListProbesRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProbesResponse(_message.Message):
    __slots__ = ("probes", "next_page_token")
    PROBES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    probes: _containers.RepeatedCompositeFieldContainer[Probe]
    next_page_token: str
    def __init__(self, probes: _Optional[_Iterable[_Union[Probe, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetProbeRequest(_message.Message):
    __slots__ = ("model", "name")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetProbeResponse(_message.Message):
    __slots__ = ("probe",)
    PROBE_FIELD_NUMBER: _ClassVar[int]
    probe: Probe
    def __init__(self, probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class DeleteProbeRequest(_message.Message):
    __slots__ = ("model", "name")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteProbeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportProbeRequest(_message.Message):
    __slots__ = ("model", "name")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ExportProbeResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportProbeRequest(_message.Message):
    __slots__ = ("spec", "data")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    spec: ProbeSpec
    data: bytes
    def __init__(self, spec: _Optional[_Union[ProbeSpec, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportProbeResponse(_message.Message):
    __slots__ = ("probe",)
    PROBE_FIELD_NUMBER: _ClassVar[int]
    probe: Probe
    def __init__(self, probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...
