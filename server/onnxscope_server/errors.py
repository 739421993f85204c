"""Errors of the domain: each has a stable reason, a text that says what to do, and metadata.

They know nothing of gRPC; `api/status.py` maps them to status codes. The reasons are those of
error_reason.proto, without the prefix.
"""

from __future__ import annotations

from typing import ClassVar


class OnnxscopeServerError(Exception):
    """Root of the tree.

    Args:
        message: what is wrong and what to do about it, for the caller's eyes.
        metadata: the keys that error_reason.proto lists for the reason.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class ModelNotFoundError(OnnxscopeServerError):
    """The catalog has no such name, version or digest."""

    reason = "MODEL_NOT_FOUND"


class ModelInvalidError(OnnxscopeServerError):
    """The bytes are no ONNX model, or onnxruntime refuses the model."""

    reason = "MODEL_INVALID"


class ModelReadOnlyError(OnnxscopeServerError):
    """The model lies in the models folder and is taken away there."""

    reason = "MODEL_READ_ONLY"


class ModelExistsError(OnnxscopeServerError):
    """This name and version stand for another model."""

    reason = "MODEL_EXISTS"


class UploadInvalidError(OnnxscopeServerError):
    """An upload breaks the protocol or brought something else than it announced."""

    reason = "UPLOAD_INVALID"


class ExternalDataMissingError(OnnxscopeServerError):
    """A file of external data is missing, too short, or outside of the model's folder."""

    reason = "EXTERNAL_DATA_MISSING"


class HookPointNotFoundError(OnnxscopeServerError):
    """A selector matches no hook point."""

    reason = "HOOK_POINT_NOT_FOUND"


class SelectorInvalidError(OnnxscopeServerError):
    """A selector cannot be read."""

    reason = "SELECTOR_INVALID"


class InputMismatchError(OnnxscopeServerError):
    """The inputs are not what the model declares."""

    reason = "INPUT_MISMATCH"


class ValueInvalidError(OnnxscopeServerError):
    """A value on the wire contradicts its layout, or a field has no meaning."""

    reason = "VALUE_INVALID"


class ReductionInvalidError(OnnxscopeServerError):
    """A reduction does not fit the hook point."""

    reason = "REDUCTION_INVALID"


class RunFailedError(OnnxscopeServerError):
    """onnxruntime failed while running the model on this input."""

    reason = "RUN_FAILED"


class BoundRunFailedError(RunFailedError):
    """A run that was to write into the caller's memory failed; without that memory it may well succeed."""


class LimitExceededError(OnnxscopeServerError):
    """The request goes beyond a setting."""

    reason = "LIMIT_EXCEEDED"


class OutOfMemoryError(OnnxscopeServerError):
    """The run needed more memory than there is."""

    reason = "OUT_OF_MEMORY"


class ProviderUnavailableError(OnnxscopeServerError):
    """An execution provider of the settings is not in this build of onnxruntime."""

    reason = "PROVIDER_UNAVAILABLE"


class CustomOpsInvalidError(OnnxscopeServerError):
    """A library of custom operators of the settings can't be used."""

    reason = "CUSTOM_OPS_INVALID"


class UnauthenticatedError(OnnxscopeServerError):
    """The call has no token or a wrong one."""

    reason = "UNAUTHENTICATED"


class UnavailableError(OnnxscopeServerError):
    """The server is starting or draining."""

    reason = "UNAVAILABLE"


class RunCancelledError(OnnxscopeServerError):
    """The caller went away or its time ran out; the run was ended."""

    reason = "CANCELLED"


class NotImplementedYetError(OnnxscopeServerError):
    """The contract promises it and this version does not have it."""

    reason = "NOT_IMPLEMENTED_YET"


class ProbeNotFoundError(OnnxscopeServerError):
    """The model has no probe of this name."""

    reason = "PROBE_NOT_FOUND"


class ProbeExistsError(OnnxscopeServerError):
    """The model has another probe of this name."""

    reason = "PROBE_EXISTS"


class ProbeInvalidError(OnnxscopeServerError):
    """A file is no probe, or none of this model and hook point."""

    reason = "PROBE_INVALID"


class DataInvalidError(OnnxscopeServerError):
    """Nothing can be learned from these rows and labels."""

    reason = "DATA_INVALID"


class ProbeUnfaithfulError(OnnxscopeServerError):
    """An export predicts otherwise than what was fitted."""

    reason = "PROBE_UNFAITHFUL"
