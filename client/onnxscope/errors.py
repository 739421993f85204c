"""The tree of errors. All of them are `OnnxscopeError`; each has the stable `reason` that error_reason.proto lists.

OnnxscopeError
 ├─ ModelNotFoundError (LookupError)      ModelFileNotFoundError (FileNotFoundError)
 ├─ ModelInvalidError (ValueError)
 ├─ ModelReadOnlyError
 ├─ ModelExistsError
 ├─ UploadInvalidError
 ├─ ExternalDataMissingError
 ├─ HookPointNotFoundError (LookupError)
 ├─ SelectorInvalidError (ValueError)
 ├─ InputMismatchError (ValueError)
 ├─ ValueInvalidError (ValueError)
 ├─ ReductionInvalidError (ValueError)
 ├─ RunFailedError
 ├─ LimitExceededError
 ├─ OutOfMemoryError (MemoryError)
 ├─ ProviderUnavailableError
 ├─ CustomOpsInvalidError
 ├─ ProbeNotFoundError (LookupError)
 ├─ ProbeExistsError
 ├─ ProbeInvalidError (ValueError)
 ├─ DataInvalidError (ValueError)
 ├─ ProbeUnfaithfulError
 ├─ UnauthenticatedError
 ├─ DeadlineExceededError (TimeoutError)
 ├─ UnavailableError (ConnectionError)    StreamCutError
 ├─ NotImplementedYet (NotImplementedError)
 ├─ InternalError
 └─ CallCancelledError
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class OnnxscopeError(Exception):
    """Root of the tree: everything that onnxscope raises on purpose.

    Attributes:
        reason: the stable reason, as error_reason.proto lists it.
        message: what is wrong and what to do about it; the text may change.
        metadata: the keys that error_reason.proto lists for the reason.
    """

    reason: ClassVar[str] = "UNSPECIFIED"

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        return self.message


class ModelNotFoundError(OnnxscopeError, LookupError):
    """The catalog has no such name, version or digest.

    Example:
        `scope.load("digits")` on a server that has no model of that name.
    """

    reason = "MODEL_NOT_FOUND"


class ModelFileNotFoundError(ModelNotFoundError, FileNotFoundError):
    """There is no file at the path of a model.

    Example:
        `scope.load("digts.onnx")` where the file is called digits.onnx.
    """


class ModelInvalidError(OnnxscopeError, ValueError):
    """The bytes are no ONNX model, or onnxruntime refuses the model.

    Example:
        `scope.load("cat.png")`.
    """

    reason = "MODEL_INVALID"


class ModelReadOnlyError(OnnxscopeError):
    """The model lies in the server's models folder and is taken away there.

    Example:
        `scope.unload("digits")` where the server was started with `--models DIR`.
    """

    reason = "MODEL_READ_ONLY"


class ModelExistsError(OnnxscopeError):
    """The name and version stand for another model.

    Example:
        `scope.load("other.onnx", name="digits", version="1")` where version 1 has other bytes.
    """

    reason = "MODEL_EXISTS"


class UploadInvalidError(OnnxscopeError):
    """An upload brought something else than it announced, or the other side broke the protocol.

    Example:
        `scope.load("model.onnx")` while another program writes that file.
    """

    reason = "UPLOAD_INVALID"


class ExternalDataMissingError(OnnxscopeError):
    """A file of external data is missing, too short, or outside of the model's folder.

    Example:
        `scope.load("model.onnx")` where model.onnx_data was not copied along.
    """

    reason = "EXTERNAL_DATA_MISSING"


class HookPointNotFoundError(OnnxscopeError, LookupError):
    """A selector matches no hook point; the closest addresses are in the message.

    Example:
        `model.capture(x, at="relu_55")` in a model of five.
    """

    reason = "HOOK_POINT_NOT_FOUND"


class SelectorInvalidError(OnnxscopeError, ValueError):
    """A selector cannot be read.

    Example:
        `model.capture(x, at="re:(")`.
    """

    reason = "SELECTOR_INVALID"


class InputMismatchError(OnnxscopeError, ValueError):
    """The inputs are not what the model declares; the message lists what is expected.

    Example:
        `model.run(np.zeros((1, 8)))`, which is float64, where the model takes float32.
    """

    reason = "INPUT_MISMATCH"


class ValueInvalidError(OnnxscopeError, ValueError):
    """A value contradicts its layout, or an argument has no meaning.

    Example:
        `model.run({"x": np.array([object()])})` where the model takes strings.
    """

    reason = "VALUE_INVALID"


class ReductionInvalidError(OnnxscopeError, ValueError):
    """A reduction does not exist or does not fit the hook point.

    Example:
        `model.capture(x, at="logits", reduce="spatial_mean")` where logits is a matrix.
    """

    reason = "REDUCTION_INVALID"


class RunFailedError(OnnxscopeError):
    """The runtime failed while running the model on this input.

    Example:
        `model.run({"a": np.zeros((2, 3), "f"), "b": np.zeros((5, 7), "f")})` where the model multiplies them.
    """

    reason = "RUN_FAILED"


class LimitExceededError(OnnxscopeError):
    """The request goes beyond a setting of the server.

    Example:
        `scope.load("huge.onnx")` above the server's `max_model_bytes`.
    """

    reason = "LIMIT_EXCEEDED"


class OutOfMemoryError(OnnxscopeError, MemoryError):
    """The run needed more memory than there is; fewer rows at once or a reduction need less.

    Example:
        `model.capture(images, at="*")` with 100,000 images.
    """

    reason = "OUT_OF_MEMORY"


class ProviderUnavailableError(OnnxscopeError):
    """An execution provider is not in this build of onnxruntime.

    Example:
        `onnxscope.local(providers=["CUDAExecutionProvider"])` on a CPU wheel.
    """

    reason = "PROVIDER_UNAVAILABLE"


class CustomOpsInvalidError(OnnxscopeError):
    """A library of custom operators can't be used.

    Example:
        `onnxscope.local(custom_ops=["operators.so"])` with a library for another machine.
    """

    reason = "CUSTOM_OPS_INVALID"


class ProbeNotFoundError(OnnxscopeError, LookupError):
    """The model has no probe of this name.

    Example:
        `model.run(x, probes=["parity"])` before `model.fit_probe("parity", ...)`.
    """

    reason = "PROBE_NOT_FOUND"


class ProbeExistsError(OnnxscopeError):
    """The model has another probe of this name; `overwrite=True` replaces it.

    Example:
        `model.fit_probe("parity", ...)` twice.
    """

    reason = "PROBE_EXISTS"


class ProbeInvalidError(OnnxscopeError, ValueError):
    """A file is no probe, or is none of this model and hook point.

    Example:
        `scope.load_probe("parity.onnx", other)` with a probe of another model.
    """

    reason = "PROBE_INVALID"


class DataInvalidError(OnnxscopeError, ValueError):
    """Nothing can be learned from these rows and labels, or they contradict each other.

    Example:
        `model.fit_probe("parity", X, np.zeros(len(X)), at="h1")`: a single class.
    """

    reason = "DATA_INVALID"


class ProbeUnfaithfulError(OnnxscopeError):
    """What was exported to ONNX predicts otherwise than what was fitted, so it is not kept.

    Example:
        none known.
    """

    reason = "PROBE_UNFAITHFUL"


class UnauthenticatedError(OnnxscopeError):
    """The server wants a token, and the call has none or a wrong one.

    Example:
        `onnxscope.connect("host:8001").models()` without `token=`.
    """

    reason = "UNAUTHENTICATED"


class DeadlineExceededError(OnnxscopeError, TimeoutError):
    """The call's time ran out; the run was ended.

    Example:
        `model.run(x, timeout=0.1)` where a run takes a second.
    """

    reason = "DEADLINE_EXCEEDED"


class UnavailableError(OnnxscopeError, ConnectionError):
    """The server is not reached, is starting or draining, or the scope is closed.

    Example:
        `onnxscope.connect("localhost:1").models()`.
    """

    reason = "UNAVAILABLE"


class StreamCutError(UnavailableError):
    """An answer ended before it was complete; what had come of it is not to be trusted as all.

    Example:
        the server is killed while `model.capture(x, at="*")` runs.
    """


class NotImplementedYet(OnnxscopeError, NotImplementedError):  # noqa: N818  # the contract's name
    """The contract promises it, and this version does not have it.

    Example:
        `model.capture(x, at="h1", interventions=[...])`.
    """

    reason = "NOT_IMPLEMENTED_YET"


class InternalError(OnnxscopeError):
    """A defect of onnxscope; the server's log has the rest under the request id.

    Example:
        none known.
    """

    reason = "INTERNAL"


class CallCancelledError(OnnxscopeError):
    """The caller ended the call.

    Example:
        `scope.close()` from another thread while `model.run(x)` waits.
    """

    reason = "CANCELLED"


BY_REASON: Mapping[str, type[OnnxscopeError]] = {
    kind.reason: kind
    for kind in (
        ModelNotFoundError,
        ModelInvalidError,
        ModelReadOnlyError,
        ModelExistsError,
        UploadInvalidError,
        ExternalDataMissingError,
        HookPointNotFoundError,
        SelectorInvalidError,
        InputMismatchError,
        ValueInvalidError,
        ReductionInvalidError,
        RunFailedError,
        LimitExceededError,
        OutOfMemoryError,
        ProviderUnavailableError,
        CustomOpsInvalidError,
        ProbeNotFoundError,
        ProbeExistsError,
        ProbeInvalidError,
        DataInvalidError,
        ProbeUnfaithfulError,
        UnauthenticatedError,
        DeadlineExceededError,
        UnavailableError,
        NotImplementedYet,
        InternalError,
        CallCancelledError,
    )
}


def from_reason(reason: str, message: str, metadata: Mapping[str, str] | None = None) -> OnnxscopeError:
    """Returns the error of a reason; a reason that this version does not know gives an `OnnxscopeError`."""
    found = BY_REASON.get(reason)
    if found is None:
        return OnnxscopeError(message, {"reason": reason, **(metadata or {})})
    return found(message, metadata)
