"""The tree of errors."""

from __future__ import annotations

import copy
import pickle
import re

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import onnxscope
from onnxscope import errors, rpc_errors
from onnxscope.v1 import error_reason_pb2

REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    if name != "ERROR_REASON_UNSPECIFIED"
]


class Failed(grpc.RpcError):
    """A failed call, as gRPC raises it."""

    def __init__(self, code, details="", trailing=()):
        super().__init__()
        self._parts = code, details, trailing

    def code(self):
        """The status."""
        return self._parts[0]

    def details(self):
        """The text."""
        return self._parts[1]

    def trailing_metadata(self):
        """What came behind."""
        return self._parts[2]


def with_info(reason, domain="onnxscope", **metadata):
    """Returns trailing metadata that holds an ErrorInfo."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    raw = status_pb2.Status(code=3, details=[detail]).SerializeToString()
    return (("other", "x"), ("grpc-status-details-bin", raw))


def test_every_reason_of_the_proto_has_one_class():
    """The two lists are the same, and each class has a reason of its own."""
    assert sorted(errors.BY_REASON) == sorted(REASONS)
    assert len(set(errors.BY_REASON.values())) == len(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_a_class_is_documented_public_and_carries_its_parts(reason):
    """Each has an example in its docstring, is a name of the package, and survives pickling."""
    error = errors.from_reason(reason, "do this", {"key": "value"})
    kind = type(error)
    assert getattr(onnxscope, kind.__name__) is kind
    assert re.search(r"Example:\n +\S", kind.__doc__)
    assert isinstance(error, onnxscope.OnnxscopeError)
    assert (error.reason, error.message, error.metadata, str(error)) == (reason, "do this", {"key": "value"}, "do this")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), str(twin), twin.metadata) == (kind, "do this", {"key": "value"})


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (onnxscope.ModelNotFoundError, LookupError),
        (onnxscope.ModelFileNotFoundError, FileNotFoundError),
        (onnxscope.HookPointNotFoundError, LookupError),
        (onnxscope.InputMismatchError, ValueError),
        (onnxscope.DeadlineExceededError, TimeoutError),
        (onnxscope.UnavailableError, ConnectionError),
        (onnxscope.StreamCutError, onnxscope.UnavailableError),
        (onnxscope.NotImplementedYet, NotImplementedError),
        (onnxscope.OutOfMemoryError, MemoryError),
    ],
)
def test_errors_are_also_what_python_calls_them(kind, builtin):
    """Code that knows nothing of onnxscope catches them too."""
    assert issubclass(kind, builtin)


def test_a_reason_of_a_newer_server_is_still_an_error_of_the_tree():
    """An unknown reason keeps its text and its name."""
    error = errors.from_reason("TOO_CLEVER", "what now", {"a": "b"})
    assert type(error) is onnxscope.OnnxscopeError
    assert error.metadata == {"reason": "TOO_CLEVER", "a": "b"}


def test_error_info_decides():
    """The reason of the trailing metadata goes before the status code."""
    failed = Failed(grpc.StatusCode.NOT_FOUND, "none", with_info("HOOK_POINT_NOT_FOUND", selector="h"))
    error = rpc_errors.from_rpc(failed)
    assert type(error) is onnxscope.HookPointNotFoundError
    assert error.metadata == {"selector": "h"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.CANCELLED, onnxscope.CallCancelledError),
        (grpc.StatusCode.INVALID_ARGUMENT, onnxscope.ValueInvalidError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, onnxscope.DeadlineExceededError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, onnxscope.LimitExceededError),
        (grpc.StatusCode.PERMISSION_DENIED, onnxscope.UnauthenticatedError),
        (grpc.StatusCode.UNAUTHENTICATED, onnxscope.UnauthenticatedError),
        (grpc.StatusCode.UNAVAILABLE, onnxscope.UnavailableError),
        (grpc.StatusCode.UNIMPLEMENTED, onnxscope.NotImplementedYet),
        (grpc.StatusCode.UNKNOWN, onnxscope.InternalError),
        (grpc.StatusCode.DATA_LOSS, onnxscope.InternalError),
    ],
)
def test_without_our_error_info_the_status_decides(code, kind):
    """GRPC itself, proxies and other servers have no reasons of ours."""
    assert type(rpc_errors.from_rpc(Failed(code, "told"), "host:1")) is kind
    foreign = Failed(code, "told", with_info("RUN_FAILED", domain="elsewhere"))
    assert type(rpc_errors.from_rpc(foreign, "host:1")) is kind
    assert type(rpc_errors.from_rpc(Failed(code, "told", (("grpc-status-details-bin", b"\xff garbage"),)))) is kind
