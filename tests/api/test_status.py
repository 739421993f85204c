"""Errors reach callers with a status, a reason and a text, and nothing else of the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from onnxscope.v1 import codec, error_reason_pb2
from onnxscope.v1.capture_service_pb2 import PlanCaptureRequest
from onnxscope.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from onnxscope.v1.model_service_pb2_grpc import ModelServiceStub
from onnxscope.v1.probe_service_pb2 import ListProbesRequest
from onnxscope.v1.probe_service_pb2_grpc import ProbeServiceStub
from onnxscope_server import errors
from onnxscope_server.api.status import STATUS, _Guard, domain_error, status_details

CLIENT_ONLY = {"UNSPECIFIED", "DEADLINE_EXCEEDED"}


def _server_errors() -> list[type[errors.OnnxscopeServerError]]:
    return [errors.OnnxscopeServerError, *errors.OnnxscopeServerError.__subclasses__()]


def test_every_reason_of_the_protos_has_one_error_and_one_status() -> None:
    """Protos, errors and the table of statuses name the same reasons."""
    names = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    reasons = {name.removeprefix("ERROR_REASON_") for name in names} - CLIENT_ONLY
    raised = [error.reason for error in _server_errors()]
    assert sorted(raised) == sorted(reasons)
    assert set(STATUS) == reasons


@pytest.mark.parametrize("error", _server_errors(), ids=lambda error: error.reason)
def test_details_carry_reason_and_metadata(error: type[errors.OnnxscopeServerError]) -> None:
    """Every error packs into a google.rpc.Status with an ErrorInfo."""
    status = status_pb2.Status.FromString(status_details(error("what to do", key="value")))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (error.reason, "onnxscope", {"key": "value"})
    assert grpc.StatusCode[STATUS[error.reason].name].value[0] == status.code


def test_unforeseen_errors_keep_their_text_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A defect's text may hold what is not the caller's: only a request id goes out."""
    error = domain_error(RuntimeError("/secret/path"))
    assert error.reason == "INTERNAL"
    assert "/secret/path" not in error.message
    assert error.metadata["request_id"] in error.message
    assert error.metadata["request_id"] in caplog.text


def test_a_caller_who_has_gone_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """GRPC can't send to it, maybe before it cancels the call: that is counted as cancelled and not logged."""
    seen: list[str] = []

    async def work() -> None:
        async with _Guard(None, lambda reason, _: seen.append(reason)):
            raise grpc.aio.InternalError("Failed ExecuteBatch")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())
    assert seen == ["CANCELLED"]
    assert not caplog.records


def test_long_texts_are_cut_to_fit_a_header() -> None:
    """A caller's own selector of a megabyte must not break the trailer that tells about it."""
    error = errors.HookPointNotFoundError("x" * 1_000_000, selector="y" * 1_000_000)
    assert len(status_details(error)) < 8000


def test_values_beyond_the_limit_say_which_setting() -> None:
    """The limit on inputs names itself."""
    error = domain_error(codec.TooLargeError("x", 10, 5))
    assert (error.reason, error.metadata["setting"]) == ("LIMIT_EXCEEDED", "max_input_bytes")


def test_a_server_with_a_token_wants_it(running_server: Callable[..., AbstractContextManager[str]]) -> None:
    """No token and a wrong one are refused on every service; the right one passes."""
    with running_server(token="s3cret") as target, grpc.insecure_channel(target) as channel:
        stub = ModelServiceStub(channel)
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as refused:
                stub.ListModels(ListModelsRequest(), metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        stub.ListModels(ListModelsRequest(), metadata=(("authorization", "Bearer s3cret"),))


@pytest.mark.parametrize("method", ["ModelService/GetModel", "ModelService/UploadModel", "CaptureService/Capture"])
def test_bytes_that_are_no_message_are_told_so(server: str, method: str) -> None:
    """Garbage gets INVALID_ARGUMENT on single and on streamed requests."""
    with grpc.insecure_channel(server) as channel:
        call = channel.stream_stream(f"/onnxscope.v1.{method}")
        with pytest.raises(grpc.RpcError, match="no message of this method") as refused:
            list(call(iter([b"\xff\xff\xff"])))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_errors_come_with_their_code_over_the_wire(server: str) -> None:
    """A missing model is NOT_FOUND in every service."""
    with grpc.insecure_channel(server) as channel:
        with pytest.raises(grpc.RpcError) as missing:
            ModelServiceStub(channel).GetModel(GetModelRequest(model="nobody"))
        assert missing.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as probeless:
            ProbeServiceStub(channel).ListProbes(ListProbesRequest(model="nobody"))
        assert probeless.value.code() == grpc.StatusCode.NOT_FOUND
        plan = channel.unary_unary(
            "/onnxscope.v1.CaptureService/PlanCapture", request_serializer=PlanCaptureRequest.SerializeToString
        )
        with pytest.raises(grpc.RpcError) as nameless:
            plan(PlanCaptureRequest())
        assert nameless.value.code() == grpc.StatusCode.NOT_FOUND
