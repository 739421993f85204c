from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_INT8: _ClassVar[DataType]
    DATA_TYPE_UINT16: _ClassVar[DataType]
    DATA_TYPE_INT16: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_STRING: _ClassVar[DataType]
    DATA_TYPE_BOOL: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]
    DATA_TYPE_UINT32: _ClassVar[DataType]
    DATA_TYPE_UINT64: _ClassVar[DataType]
    DATA_TYPE_COMPLEX64: _ClassVar[DataType]
    DATA_TYPE_COMPLEX128: _ClassVar[DataType]
    DATA_TYPE_BFLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT8E4M3FN: _ClassVar[DataType]
    DATA_TYPE_FLOAT8E4M3FNUZ: _ClassVar[DataType]
    DATA_TYPE_FLOAT8E5M2: _ClassVar[DataType]
    DATA_TYPE_FLOAT8E5M2FNUZ: _ClassVar[DataType]
    DATA_TYPE_UINT4: _ClassVar[DataType]
    DATA_TYPE_INT4: _ClassVar[DataType]
    DATA_TYPE_FLOAT4E2M1: _ClassVar[DataType]
    DATA_TYPE_FLOAT8E8M0: _ClassVar[DataType]
    DATA_TYPE_UINT2: _ClassVar[DataType]
    DATA_TYPE_INT2: _ClassVar[DataType]

class ValueRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_ROLE_UNSPECIFIED: _ClassVar[ValueRole]
    VALUE_ROLE_INPUT: _ClassVar[ValueRole]
    VALUE_ROLE_MASK: _ClassVar[ValueRole]
    VALUE_ROLE_ACTIVATION: _ClassVar[ValueRole]
    VALUE_ROLE_OUTPUT: _ClassVar[ValueRole]
    VALUE_ROLE_SCALING: _ClassVar[ValueRole]
    VALUE_ROLE_LABEL: _ClassVar[ValueRole]
    VALUE_ROLE_GROUP: _ClassVar[ValueRole]
    VALUE_ROLE_WEIGHT: _ClassVar[ValueRole]
    VALUE_ROLE_TEST: _ClassVar[ValueRole]
    VALUE_ROLE_PROBE: _ClassVar[ValueRole]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_INT8: DataType
DATA_TYPE_UINT16: DataType
DATA_TYPE_INT16: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_STRING: DataType
DATA_TYPE_BOOL: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_FLOAT64: DataType
DATA_TYPE_UINT32: DataType
DATA_TYPE_UINT64: DataType
DATA_TYPE_COMPLEX64: DataType
DATA_TYPE_COMPLEX128: DataType
DATA_TYPE_BFLOAT16: DataType
DATA_TYPE_FLOAT8E4M3FN: DataType
DATA_TYPE_FLOAT8E4M3FNUZ: DataType
DATA_TYPE_FLOAT8E5M2: DataType
DATA_TYPE_FLOAT8E5M2FNUZ: DataType
DATA_TYPE_UINT4: DataType
DATA_TYPE_INT4: DataType
DATA_TYPE_FLOAT4E2M1: DataType
DATA_TYPE_FLOAT8E8M0: DataType
DATA_TYPE_UINT2: DataType
DATA_TYPE_INT2: DataType
VALUE_ROLE_UNSPECIFIED: ValueRole
VALUE_ROLE_INPUT: ValueRole
VALUE_ROLE_MASK: ValueRole
VALUE_ROLE_ACTIVATION: ValueRole
VALUE_ROLE_OUTPUT: ValueRole
VALUE_ROLE_SCALING: ValueRole
VALUE_ROLE_LABEL: ValueRole
VALUE_ROLE_GROUP: ValueRole
VALUE_ROLE_WEIGHT: ValueRole
VALUE_ROLE_TEST: ValueRole
VALUE_ROLE_PROBE: ValueRole

class Dimension(_message.Message):
    __slots__ = ("size", "symbol")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    size: int
    symbol: str
    def __init__(self, size: _Optional[int] = ..., symbol: _Optional[str] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("dimensions",)
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    dimensions: _containers.RepeatedCompositeFieldContainer[Dimension]
    def __init__(self, dimensions: _Optional[_Iterable[_Union[Dimension, _Mapping]]] = ...) -> None: ...

class TensorType(_message.Message):
    __slots__ = ("data_type", "shape")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    data_type: DataType
    shape: Shape
    def __init__(self, data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Union[Shape, _Mapping]] = ...) -> None: ...

class SequenceType(_message.Message):
    __slots__ = ("element",)
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    element: ValueType
    def __init__(self, element: _Optional[_Union[ValueType, _Mapping]] = ...) -> None: ...

class MapType(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: DataType
    value: ValueType
    def __init__(self, key: _Optional[_Union[DataType, str]] = ..., value: _Optional[_Union[ValueType, _Mapping]] = ...) -> None: ...

class OptionalType(_message.Message):
    __slots__ = ("element",)
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    element: ValueType
    def __init__(self, element: _Optional[_Union[ValueType, _Mapping]] = ...) -> None: ...

class ValueType(_message.Message):
    __slots__ = ("tensor", "sequence", "map", "optional", "sparse_tensor")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    SPARSE_TENSOR_FIELD_NUMBER: _ClassVar[int]
    tensor: TensorType
    sequence: SequenceType
    map: MapType
    optional: OptionalType
    sparse_tensor: TensorType
    def __init__(self, tensor: _Optional[_Union[TensorType, _Mapping]] = ..., sequence: _Optional[_Union[SequenceType, _Mapping]] = ..., map: _Optional[_Union[MapType, _Mapping]] = ..., optional: _Optional[_Union[OptionalType, _Mapping]] = ..., sparse_tensor: _Optional[_Union[TensorType, _Mapping]] = ...) -> None: ...

class ValueSpec(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: ValueType
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[ValueType, _Mapping]] = ...) -> None: ...

class ArrayLayout(_message.Message):
    __slots__ = ("data_type", "shape", "byte_count")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    byte_count: int
    def __init__(self, data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., byte_count: _Optional[int] = ...) -> None: ...

class SequenceLayout(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ValueLayout]
    def __init__(self, items: _Optional[_Iterable[_Union[ValueLayout, _Mapping]]] = ...) -> None: ...

class MapLayout(_message.Message):
    __slots__ = ("keys", "values")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    keys: ArrayLayout
    values: ArrayLayout
    def __init__(self, keys: _Optional[_Union[ArrayLayout, _Mapping]] = ..., values: _Optional[_Union[ArrayLayout, _Mapping]] = ...) -> None: ...

class AbsentLayout(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ValueLayout(_message.Message):
    __slots__ = ("array", "sequence", "map", "absent")
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    array: ArrayLayout
    sequence: SequenceLayout
    map: MapLayout
    absent: AbsentLayout
    def __init__(self, array: _Optional[_Union[ArrayLayout, _Mapping]] = ..., sequence: _Optional[_Union[SequenceLayout, _Mapping]] = ..., map: _Optional[_Union[MapLayout, _Mapping]] = ..., absent: _Optional[_Union[AbsentLayout, _Mapping]] = ...) -> None: ...

class SharedBytes(_message.Message):
    __slots__ = ("block", "offset", "byte_count")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    block: int
    offset: int
    byte_count: int
    def __init__(self, block: _Optional[int] = ..., offset: _Optional[int] = ..., byte_count: _Optional[int] = ...) -> None: ...

class ValueStart(_message.Message):
    __slots__ = ("role", "name", "layout", "data", "shared")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    role: ValueRole
    name: str
    layout: ValueLayout
    data: bytes
    shared: SharedBytes
    def __init__(self, role: _Optional[_Union[ValueRole, str]] = ..., name: _Optional[str] = ..., layout: _Optional[_Union[ValueLayout, _Mapping]] = ..., data: _Optional[bytes] = ..., shared: _Optional[_Union[SharedBytes, _Mapping]] = ...) -> None: ...

class ValueChunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ValuePart(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: ValueStart
    chunk: ValueChunk
    def __init__(self, start: _Optional[_Union[ValueStart, _Mapping]] = ..., chunk: _Optional[_Union[ValueChunk, _Mapping]] = ...) -> None: ...
