"""Domain errors -> gRPC status, in one table, and the interceptor that every call goes through."""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from onnxscope.v1 import codec
from onnxscope_server.errors import (
    LimitExceededError,
    OnnxscopeServerError,
    UnauthenticatedError,
    ValueInvalidError,
)

DOMAIN = "onnxscope"
STATUS: dict[str, grpc.StatusCode] = {
    "MODEL_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "MODEL_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "MODEL_READ_ONLY": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "UPLOAD_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "EXTERNAL_DATA_MISSING": grpc.StatusCode.FAILED_PRECONDITION,
    "HOOK_POINT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SELECTOR_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "INPUT_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "VALUE_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "REDUCTION_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "RUN_FAILED": grpc.StatusCode.INVALID_ARGUMENT,
    "LIMIT_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "OUT_OF_MEMORY": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "PROVIDER_UNAVAILABLE": grpc.StatusCode.FAILED_PRECONDITION,
    "CUSTOM_OPS_INVALID": grpc.StatusCode.FAILED_PRECONDITION,
    "PROBE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "PROBE_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "PROBE_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "DATA_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "PROBE_UNFAITHFUL": grpc.StatusCode.INTERNAL,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "CANCELLED": grpc.StatusCode.CANCELLED,
    "NOT_IMPLEMENTED_YET": grpc.StatusCode.UNIMPLEMENTED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}
_OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_MAX_TEXT = 2000
_log = logging.getLogger(__name__)


def domain_error(error: Exception) -> OnnxscopeServerError:
    """Returns the domain error that callers see for any exception.

    What nobody foresaw is logged under a request id, and only the id goes out: its text may hold what
    is not the caller's.
    """
    if isinstance(error, OnnxscopeServerError):
        return error
    if isinstance(error, codec.TooLargeError):
        return LimitExceededError(
            f"{error}; send smaller batches, or raise max_input_bytes on the server",
            setting="max_input_bytes",
            limit=str(error.limit),
            got=str(error.byte_count),
        )
    if isinstance(error, codec.CodecError):
        return ValueInvalidError(str(error))
    if isinstance(error, DecodeError):
        return ValueInvalidError(f"the bytes of the request are no message of this method: {error}", value="request")
    request_id = uuid.uuid4().hex
    _log.error("request %s failed", request_id, exc_info=error)
    return OnnxscopeServerError(
        f"the server failed; its log says why under request id {request_id}", request_id=request_id
    )


def status_details(error: OnnxscopeServerError) -> bytes:
    """Returns the serialised google.rpc.Status, for the `grpc-status-details-bin` trailer."""
    info = any_pb2.Any()
    # the trailer must fit HTTP/2's header limit, and a selector of the caller's may be of any length
    metadata = {key: value[:_MAX_TEXT] for key, value in error.metadata.items()}
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    code = code_pb2.Code.Value(STATUS[error.reason].name)
    status = status_pb2.Status(code=code, message=error.message[:_MAX_TEXT], details=[info])
    return bytes(status.SerializeToString())


def _admit(*, refused: bool) -> None:
    if refused:
        raise UnauthenticatedError("this server wants a token; give the right one with connect(..., token=...)")


async def _abort(context: Any, error: OnnxscopeServerError) -> None:
    trailer = (("grpc-status-details-bin", status_details(error)),)
    await context.abort(STATUS[error.reason], error.message[:_MAX_TEXT], trailer)


class _Guard:
    """Around a call: its errors become its status, and its end is told."""

    __slots__ = ("_context", "_observe", "_start")

    def __init__(self, context: Any, observe: Callable[[str, float], None]) -> None:
        self._context = context
        self._observe = observe

    async def __aenter__(self) -> None:
        self._start = time.perf_counter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reason = "OK" if error is None else "CANCELLED"
        try:
            if isinstance(error, grpc.aio.InternalError):
                # nothing more can be sent to a caller who has gone, which may show before the call is cancelled
                raise asyncio.CancelledError from error
            if isinstance(error, Exception):
                known = domain_error(error)
                reason = known.reason
                await _abort(self._context, known)
        finally:
            self._observe(reason, time.perf_counter() - self._start)


class Gate(grpc.aio.ServerInterceptor):
    """Checks the token, and turns every exception of a call into its status.

    Args:
        token: what callers must send; None lets everybody in. Health and reflection are open to all.
        observe: is told of every call that ends: method, reason, seconds.
    """

    def __init__(self, token: str | None, observe: Callable[[str, str, float], None]) -> None:
        self._expected = f"Bearer {token}".encode() if token is not None else None
        self._observe = observe
        # by method and whether the caller is refused: a method's handler is always the same
        self._handlers: dict[tuple[str, bool], Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN_SERVICES):
            return handler
        refused = not self._admits(handler_call_details.invocation_metadata)
        key = (handler_call_details.method, refused)
        if key not in self._handlers:
            self._handlers[key] = self._wrapped(handler, handler_call_details.method, refused=refused)
        return self._handlers[key]

    def _admits(self, metadata: Any) -> bool:
        if self._expected is None:
            return True
        given = next((value for key, value in metadata or () if key == "authorization"), "")
        given_bytes = given.encode() if isinstance(given, str) else given
        return hmac.compare_digest(given_bytes, self._expected)

    def _wrapped(self, handler: Any, name: str, *, refused: bool) -> Any:
        method = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream
        observe = functools.partial(self._observe, name)

        async def unary(request: Any, context: Any) -> Any:
            async with _Guard(context, observe):
                _admit(refused=refused)
                return await method(parsed(request), context)

        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            async with _Guard(context, observe):
                _admit(refused=refused)
                async with aclosing(method(parsed(request), context)) as responses:
                    async for response in responses:
                        yield response

        # gRPC would answer a single request that is no message with UNKNOWN, before anybody could say why
        def parsed(request: Any) -> Any:
            return request if handler.request_streaming else handler.request_deserializer(request)

        arity = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        make = getattr(grpc, f"{arity}_rpc_method_handler")
        return make(
            streaming if handler.response_streaming else unary,
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )
