"""Deadlines, limits, cut streams and large inputs: embedded and over gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
import numpy as np
import pytest
from tests.messages import messages

import onnxscope
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.capture_service_pb2_grpc import CaptureServiceStub
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_INPUT

Servers = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def endless(parsed: Callable[[str], bytes]) -> bytes:
    """A Loop of 2^62 trips: only ending the run ends it."""
    return parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        endless (float[1] x) => (float[1] y)
        <int64 trips = {4611686018427387904}, bool go = {1}>
        {
            y = Loop(trips, go, x)
                <body = step (int64 i, bool before, float[1] state) => (bool after, float[1] next)
                    { after = Identity(before)  next = Sin(state) }>
        }"""
    )


def test_a_deadline_ends_the_run(scope: Any, endless: bytes, chain: bytes) -> None:
    """The caller gets DeadlineExceededError in time, and the server's threads are free again."""
    model = scope.load(endless)
    start = time.monotonic()
    for _ in range(3):
        with pytest.raises(onnxscope.DeadlineExceededError):
            model.run(np.zeros(1, np.float32), timeout=0.5)
    assert time.monotonic() - start < 20
    assert scope.load(chain).run(np.zeros((1, 3), np.float32), timeout=30).outputs["y"].shape == (1, 3)


def test_a_failing_batch_is_told_and_ends_the_stream(scope: Any, chain: bytes) -> None:
    """Results before the bad batch arrive; the bad one raises; the scope works on."""
    model = scope.load(chain)

    def batches() -> Iterator[np.ndarray]:
        yield np.zeros((1, 3), np.float32)
        raise RuntimeError("the caller's own trouble")

    got: list[Any] = []
    with pytest.raises(RuntimeError, match="own trouble"):
        got.extend(model.stream(batches(), at="b"))
    assert len(got) <= 1
    assert model.run(np.zeros((1, 3), np.float32)).outputs["y"].shape == (1, 3)


def test_inputs_of_many_chunks_arrive_whole(scope: Any, chain: bytes, rng: np.random.Generator) -> None:
    """19 MB of rows go in as chunks, and their activations come out as chunks, to the byte."""
    x = rng.random((1_600_000, 3), dtype=np.float32)
    acts = scope.load(chain).capture(x, at=["x", "a"])
    np.testing.assert_array_equal(acts["x"], x)
    np.testing.assert_array_equal(acts["a"], x + np.float32(1))


def test_inputs_beyond_the_limit_are_refused(running_server: Servers, chain: bytes) -> None:
    """The limit names its setting; the server lives on."""
    with running_server(max_input_bytes=1000) as target, onnxscope.connect(target) as scope:
        model = scope.load(chain)
        with pytest.raises(onnxscope.LimitExceededError, match="max_input_bytes"):
            model.run(np.zeros((1000, 3), np.float32))
        assert model.run(np.zeros((1, 3), np.float32)).outputs["y"].shape == (1, 3)


def test_a_model_beyond_the_limit_is_refused(running_server: Servers, chain: bytes) -> None:
    """Before its bytes are sent."""
    with (
        running_server(max_model_bytes=100) as target,
        onnxscope.connect(target) as scope,
        pytest.raises(onnxscope.LimitExceededError, match="max_model_bytes"),
    ):
        scope.load(chain)


def test_a_stream_pulls_no_further_than_it_has_room(server: str, chain: bytes) -> None:
    """A caller that doesn't read stops the stream: of a thousand batches only a few are taken."""
    taken = 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield np.zeros((200_000, 3), np.float32)

    with onnxscope.connect(server) as scope:
        stream = scope.load(chain).stream(batches(), at="*")
        next(stream)
        time.sleep(1.5)
        assert taken < 30
        stream.close()


def test_an_unread_stream_keeps_nobody_else_waiting(server: str, chain: bytes) -> None:
    """Eight streams that nobody reads, and a ninth caller who is served at once."""
    with onnxscope.connect(server) as scope:
        model = scope.load(chain)
        batches = [np.zeros((200_000, 3), np.float32)] * 20
        unread = [model.stream(iter(batches), at="*") for _ in range(8)]
        for stream in unread:
            next(stream)
        start = time.monotonic()
        assert model.run(np.zeros((1, 3), np.float32), timeout=20).outputs["y"].shape == (1, 3)
        assert time.monotonic() - start < 10
        for stream in unread:
            stream.close()


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [pb.CaptureRequest()],
        [pb.CaptureRequest(spec=pb.CaptureSpec(model="MODEL", outputs=99))],
        [pb.CaptureRequest(spec=pb.CaptureSpec(model="MODEL"))] * 2,
        [pb.CaptureRequest(spec=pb.CaptureSpec(model="MODEL"), inputs=[{"chunk": {"data": b"lost"}}])],
        [pb.CaptureRequest(spec=pb.CaptureSpec(model="MODEL"), inputs=[{"start": {"name": "x"}}])],
    ],
    ids=["nothing", "no spec", "unknown enum", "two specs", "chunk of nothing", "no layout"],
)
def test_requests_that_break_the_protocol_are_told_so(
    server: str, chain: bytes, requests: list[pb.CaptureRequest]
) -> None:
    """Each gets INVALID_ARGUMENT with a text, never INTERNAL."""
    with onnxscope.connect(server) as scope:
        digest = scope.load(chain).digest
    for request in requests:
        if request.HasField("spec"):
            request.spec.model = digest
    with grpc.insecure_channel(server) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            list(CaptureServiceStub(channel).Capture(iter(requests)))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details()


def test_an_input_of_the_wrong_type_is_told_by_the_server_too(server: str, chain: bytes) -> None:
    """A client that checks nothing gets the same answer."""
    with onnxscope.connect(server) as scope:
        digest = scope.load(chain).digest
    parts = messages(VALUE_ROLE_INPUT, "x", np.zeros((1, 3)))
    with grpc.insecure_channel(server) as channel:
        with pytest.raises(grpc.RpcError, match="float32") as refused:
            list(CaptureServiceStub(channel).Capture(iter([pb.CaptureRequest(spec={"model": digest}, inputs=parts)])))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
