from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_READ_ONLY: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_EXISTS: _ClassVar[ErrorReason]
    ERROR_REASON_UPLOAD_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_EXTERNAL_DATA_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_HOOK_POINT_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_SELECTOR_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_INPUT_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_VALUE_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_REDUCTION_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_RUN_FAILED: _ClassVar[ErrorReason]
    ERROR_REASON_LIMIT_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_OUT_OF_MEMORY: _ClassVar[ErrorReason]
    ERROR_REASON_PROVIDER_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_UNAUTHENTICATED: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_IMPLEMENTED_YET: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_CANCELLED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_MODEL_NOT_FOUND: ErrorReason
ERROR_REASON_MODEL_INVALID: ErrorReason
ERROR_REASON_MODEL_READ_ONLY: ErrorReason
ERROR_REASON_MODEL_EXISTS: ErrorReason
ERROR_REASON_UPLOAD_INVALID: ErrorReason
ERROR_REASON_EXTERNAL_DATA_MISSING: ErrorReason
ERROR_REASON_HOOK_POINT_NOT_FOUND: ErrorReason
ERROR_REASON_SELECTOR_INVALID: ErrorReason
ERROR_REASON_INPUT_MISMATCH: ErrorReason
ERROR_REASON_VALUE_INVALID: ErrorReason
ERROR_REASON_REDUCTION_INVALID: ErrorReason
ERROR_REASON_RUN_FAILED: ErrorReason
ERROR_REASON_LIMIT_EXCEEDED: ErrorReason
ERROR_REASON_OUT_OF_MEMORY: ErrorReason
ERROR_REASON_PROVIDER_UNAVAILABLE: ErrorReason
ERROR_REASON_UNAUTHENTICATED: ErrorReason
ERROR_REASON_DEADLINE_EXCEEDED: ErrorReason
ERROR_REASON_UNAVAILABLE: ErrorReason
ERROR_REASON_NOT_IMPLEMENTED_YET: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_CANCELLED: ErrorReason
