"""What a failed call of gRPC stands for, in the tree of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from onnxscope.errors import (
    CallCancelledError,
    DeadlineExceededError,
    InternalError,
    LimitExceededError,
    NotImplementedYet,
    OnnxscopeError,
    UnauthenticatedError,
    UnavailableError,
    ValueInvalidError,
    from_reason,
)

DOMAIN = "onnxscope"
_DETAILS_KEY = "grpc-status-details-bin"

# Errors that gRPC itself, a proxy or another server raises have a status but no reason of ours.
_BY_STATUS: Mapping[grpc.StatusCode, type[OnnxscopeError]] = {
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.INVALID_ARGUMENT: ValueInvalidError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.PERMISSION_DENIED: UnauthenticatedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedYet,
}


def from_rpc(error: grpc.RpcError, target: str = "") -> OnnxscopeError:
    """Returns the error that a failed call stands for.

    Args:
        error: what gRPC raised, with a status and trailing metadata.
        target: host and port, for errors that come from the way there and not from the server.

    Returns:
        By the ErrorInfo of the trailing metadata, or else by the status code.
    """
    code, details = error.code(), error.details() or ""
    info = _error_info(error)
    if info is not None:
        return from_reason(info.reason, details, dict(info.metadata))
    kind = _BY_STATUS.get(code, InternalError)
    if kind is DeadlineExceededError:
        return kind("the call's time ran out; give it more with timeout=")
    if kind is UnavailableError:
        text = f"{target} cannot be reached ({details}); is `onnxscope serve` running there, and is tls= as it expects?"
        return kind(text, {"target": target})
    if kind is NotImplementedYet:
        return kind(f"{target} does not know this call ({details}); is it an onnxscope server of this version?")
    return kind(details or f"{target} answered {code.name}")


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    trailing: Iterable[tuple[str, Any]] = error.trailing_metadata() or ()  # type: ignore[assignment]  # pairs
    for key, raw in trailing:
        if key != _DETAILS_KEY:
            continue
        try:
            status = status_pb2.Status.FromString(raw)
        except DecodeError:
            return None
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
                return info
    return None
