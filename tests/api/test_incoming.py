"""What is wrong with the messages of a call is told alike by captures and fits, wherever their roles are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from tests.messages import messages

import onnxscope
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as probe_pb
from onnxscope.v1 import tensor_pb2
from onnxscope.v1.capture_service_pb2_grpc import CaptureServiceStub
from onnxscope.v1.probe_service_pb2_grpc import ProbeServiceStub

X = np.ones((4, 3), np.float32)
INPUT, MASK, LABEL = tensor_pb2.VALUE_ROLE_INPUT, tensor_pb2.VALUE_ROLE_MASK, tensor_pb2.VALUE_ROLE_LABEL
OUTPUT = tensor_pb2.VALUE_ROLE_OUTPUT
STREAMS = ["StreamCapture", "FitProbe", "Sweep"]


class Calls:
    """Calls with messages of the caller's making."""

    def __init__(self, channel: grpc.Channel, digest: str) -> None:
        self._captures = CaptureServiceStub(channel)
        self._probes = ProbeServiceStub(channel)
        self._digest = digest

    def spec(self, method: str) -> Any:
        """What the method needs in its first message."""
        if method.endswith("Capture"):
            return capture_pb.CaptureSpec(model=self._digest, selectors=["b"])
        return probe_pb.ProbeSpec(name="p", model=self._digest, selectors=["b"], without_controls=True)

    def request(self, method: str, **fields: Any) -> Any:
        """A message of the method."""
        return getattr(capture_pb if method.endswith("Capture") else probe_pb, f"{method}Request")(**fields)

    def refused(self, method: str, *requests: Any) -> str:
        """Sends messages, for which the server says what is wrong with them."""
        answers = getattr(self._captures if method.endswith("Capture") else self._probes, method)(iter(requests))
        with pytest.raises(grpc.RpcError) as error:
            list(answers)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return str(error.value.details())

    def refused_items(self, method: str, items: Sequence[capture_pb.StreamItem]) -> str:
        """Sends items behind the spec: the same is wrong with them in its message, and each in one of its own."""
        spec = self.spec(method)
        beside = self.refused(method, self.request(method, spec=spec, items=items))
        behind = [self.request(method, items=[item]) for item in items]
        assert self.refused(method, self.request(method, spec=spec), *behind) == beside
        return beside


@pytest.fixture(scope="module")
def calls(server: str, chain: bytes) -> Iterator[Calls]:
    """Calls of a server that has a model."""
    with onnxscope.connect(server) as scope, grpc.insecure_channel(server) as channel:
        yield Calls(channel, scope.load(chain, name="incoming").digest)


def starts(index: int = 0) -> capture_pb.StreamItem:
    """Opens a batch."""
    return capture_pb.StreamItem(batch_start=capture_pb.BatchStart(index=index))


def ends() -> capture_pb.StreamItem:
    """Closes it."""
    return capture_pb.StreamItem(batch_end=capture_pb.BatchEnd())


def brings(role: Any, name: str, value: Any = X) -> list[capture_pb.StreamItem]:
    """Has a value within it."""
    return [capture_pb.StreamItem(input=part) for part in messages(role, name, value)]


def unfinished() -> capture_pb.StreamItem:
    """The start of a value whose bytes don't follow."""
    (item,) = brings(INPUT, "x")
    item.input.start.data = b""
    return item


@pytest.mark.parametrize("method", ["Capture", *STREAMS])
def test_the_spec_stands_first(calls: Calls, method: str) -> None:
    """And nowhere else; a call without a message has none."""
    spec = calls.spec(method)
    wanted = "the first message must hold the spec"
    assert calls.refused(method) == wanted
    assert calls.refused(method, calls.request(method)) == wanted
    twice = [calls.request(method, spec=spec)] * 2
    assert calls.refused(method, *twice) == "the spec stands in the first message only"


@pytest.mark.parametrize("method", STREAMS)
@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([starts(1)], "batch 1 starts where batch 0 is awaited"),
        ([starts(), starts(1)], "batch 1 starts where batch 0 is awaited"),
        ([starts(), *brings(INPUT, "x"), starts()], "batch 0 starts where batch 0 is awaited"),
        (brings(INPUT, "x"), "a batch opens with batch_start"),
        ([ends()], "a batch opens with batch_start"),
        ([capture_pb.StreamItem()], "a batch opens with batch_start"),
        ([starts(), *brings(INPUT, "x")], "the stream ended within batch 0; close it with batch_end"),
        ([starts(), unfinished(), ends()], "'x' ended before all its bytes came"),
        ([starts(), *brings(INPUT, "x"), *brings(INPUT, "x")], "'x' was sent twice"),
        ([starts(), *brings(MASK, "m"), *brings(MASK, "m")], "'m' was sent twice"),
    ],
)
def test_batches_that_are_none(calls: Calls, method: str, items: Sequence[capture_pb.StreamItem], text: str) -> None:
    """In streams, fits and sweeps."""
    assert calls.refused_items(method, items) == text


@pytest.mark.parametrize("method", STREAMS)
def test_roles_that_callers_do_not_send(calls: Calls, method: str) -> None:
    """Each method names those that it takes."""
    taken = "INPUT and MASK" if method == "StreamCapture" else "INPUT, MASK, LABEL, GROUP, WEIGHT and TEST"
    text = calls.refused_items(method, [starts(), *brings(OUTPUT, "y")])
    assert text == f"'y' has role {OUTPUT}; callers send {taken}"


def test_a_capture_takes_inputs_and_masks(calls: Calls) -> None:
    """In one message or in many, each once and whole."""
    x, mask = (messages(role, "x", X) for role in (INPUT, MASK))
    label, cut = messages(LABEL, "labels", X), [unfinished().input]
    for inputs, text in (
        ([*x, *x], "'x' was sent twice"),
        ([*x, *mask], "'x' was sent twice"),
        ([*x, *label], f"'labels' has role {LABEL}; callers send INPUT and MASK"),
        (cut, "'x' ended before all its bytes came"),
    ):
        spec = calls.spec("Capture")
        assert calls.refused("Capture", calls.request("Capture", spec=spec, inputs=inputs)) == text
        behind = [calls.request("Capture", inputs=[part]) for part in inputs]
        assert calls.refused("Capture", calls.request("Capture", spec=spec), *behind) == text


@pytest.mark.parametrize("method", ["FitProbe", "Sweep"])
def test_what_comes_with_rows_comes_once(calls: Calls, method: str) -> None:
    """Under whatever name, and as an array."""
    labels = [*brings(LABEL, "one"), *brings(LABEL, "other")]
    assert calls.refused_items(method, [starts(), *labels]) == "'labels' was sent twice"
    assert calls.refused_items(method, [starts(), *brings(LABEL, "one", [X])]) == "'labels' must be an array"
    assert calls.refused_items(method, [starts(), *brings(MASK, "m", [X])]) == "'m' must be an array"


@pytest.mark.parametrize("method", STREAMS)
def test_a_mask_that_is_no_array(calls: Calls, method: str) -> None:
    """Lists of different lengths are none of any shape: the caller's fault, and not the server's."""
    ragged = [np.ones(2, np.float32), np.ones(3, np.float32)]
    assert calls.refused_items(method, [starts(), *brings(MASK, "m", ragged)]) == "'m' must be an array"
