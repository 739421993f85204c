from google.protobuf import timestamp_pb2 as _timestamp_pb2
from onnxscope.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HookPointKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOOK_POINT_KIND_UNSPECIFIED: _ClassVar[HookPointKind]
    HOOK_POINT_KIND_INPUT: _ClassVar[HookPointKind]
    HOOK_POINT_KIND_ACTIVATION: _ClassVar[HookPointKind]
    HOOK_POINT_KIND_OUTPUT: _ClassVar[HookPointKind]
    HOOK_POINT_KIND_CONSTANT: _ClassVar[HookPointKind]
    HOOK_POINT_KIND_WEIGHT: _ClassVar[HookPointKind]
    HOOK_POINT_KIND_UNUSED: _ClassVar[HookPointKind]
HOOK_POINT_KIND_UNSPECIFIED: HookPointKind
HOOK_POINT_KIND_INPUT: HookPointKind
HOOK_POINT_KIND_ACTIVATION: HookPointKind
HOOK_POINT_KIND_OUTPUT: HookPointKind
HOOK_POINT_KIND_CONSTANT: HookPointKind
HOOK_POINT_KIND_WEIGHT: HookPointKind
HOOK_POINT_KIND_UNUSED: HookPointKind

class Model(_message.Message):
    __slots__ = ("name", "version", "digest", "inputs", "outputs", "providers", "byte_count", "load_time", "read_only", "optional_inputs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_INPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValueSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValueSpec]
    providers: _containers.RepeatedScalarFieldContainer[str]
    byte_count: int
    load_time: _timestamp_pb2.Timestamp
    read_only: bool
    optional_inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ValueSpec]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.ValueSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.ValueSpec, _Mapping]]] = ..., providers: _Optional[_Iterable[str]] = ..., byte_count: _Optional[int] = ..., load_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., read_only: bool = ..., optional_inputs: _Optional[_Iterable[_Union[_tensor_pb2.ValueSpec, _Mapping]]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class UploadStart(_message.Message):
    __slots__ = ("graph_digest", "graph_byte_count", "name", "version")
    GRAPH_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRAPH_BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    graph_digest: str
    graph_byte_count: int
    name: str
    version: str
    def __init__(self, graph_digest: _Optional[str] = ..., graph_byte_count: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UploadChunk(_message.Message):
    __slots__ = ("path", "offset", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    offset: int
    data: bytes
    def __init__(self, path: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class FileDigest(_message.Message):
    __slots__ = ("path", "digest", "byte_count")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    path: str
    digest: str
    byte_count: int
    def __init__(self, path: _Optional[str] = ..., digest: _Optional[str] = ..., byte_count: _Optional[int] = ...) -> None: ...

class UploadModelRequest(_message.Message):
    __slots__ = ("start", "chunk", "file_digest")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FILE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    start: UploadStart
    chunk: UploadChunk
    file_digest: FileDigest
    def __init__(self, start: _Optional[_Union[UploadStart, _Mapping]] = ..., chunk: _Optional[_Union[UploadChunk, _Mapping]] = ..., file_digest: _Optional[_Union[FileDigest, _Mapping]] = ...) -> None: ...

class GraphWanted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DigestsWanted(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, paths: _Optional[_Iterable[str]] = ...) -> None: ...

class FilesWanted(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, paths: _Optional[_Iterable[str]] = ...) -> None: ...

class UploadCompleted(_message.Message):
    __slots__ = ("model", "received_byte_count")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    model: Model
    received_byte_count: int
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., received_byte_count: _Optional[int] = ...) -> None: ...

class UploadModelResponse(_message.Message):
    __slots__ = ("graph_wanted", "digests_wanted", "files_wanted", "completed")
    GRAPH_WANTED_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_WANTED_FIELD_NUMBER: _ClassVar[int]
    FILES_WANTED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    graph_wanted: GraphWanted
    digests_wanted: DigestsWanted
    files_wanted: FilesWanted
    completed: UploadCompleted
    def __init__(self, graph_wanted: _Optional[_Union[GraphWanted, _Mapping]] = ..., digests_wanted: _Optional[_Union[DigestsWanted, _Mapping]] = ..., files_wanted: _Optional[_Union[FilesWanted, _Mapping]] = ..., completed: _Optional[_Union[UploadCompleted, _Mapping]] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ("unloaded_count",)
    UNLOADED_COUNT_FIELD_NUMBER: _ClassVar[int]
    unloaded_count: int
    def __init__(self, unloaded_count: _Optional[int] = ...) -> None: ...

class HookPoint(_message.Message):
    __slots__ = ("address", "op_type", "type", "depth", "kind", "batch_axis")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BATCH_AXIS_FIELD_NUMBER: _ClassVar[int]
    address: str
    op_type: str
    type: _tensor_pb2.ValueType
    depth: float
    kind: HookPointKind
    batch_axis: int
    def __init__(self, address: _Optional[str] = ..., op_type: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.ValueType, _Mapping]] = ..., depth: _Optional[float] = ..., kind: _Optional[_Union[HookPointKind, str]] = ..., batch_axis: _Optional[int] = ...) -> None: ...

class ListHookPointsRequest(_message.Message):
    __slots__ = ("model", "version", "selectors", "expand", "batch_axes", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    EXPAND_FIELD_NUMBER: _ClassVar[int]
    BATCH_AXES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    selectors: _containers.RepeatedScalarFieldContainer[str]
    expand: bool
    batch_axes: bool
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., selectors: _Optional[_Iterable[str]] = ..., expand: bool = ..., batch_axes: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListHookPointsResponse(_message.Message):
    __slots__ = ("hook_points", "next_page_token")
    HOOK_POINTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    hook_points: _containers.RepeatedCompositeFieldContainer[HookPoint]
    next_page_token: str
    def __init__(self, hook_points: _Optional[_Iterable[_Union[HookPoint, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
