"""Values as messages."""

from __future__ import annotations

import numpy as np
import pytest

import onnxscope
from onnxscope import encode
from onnxscope.encode import SentValue
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.assemble import Assembler
from onnxscope.v1.codec import CHUNK_BYTES
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_INPUT

SPEC = pb.CaptureSpec(model="m")


def sent(*arrays):
    """Values on their way."""
    return [SentValue(VALUE_ROLE_INPUT, f"x{index}", array) for index, array in enumerate(arrays)]


def captured(spec, values):
    """The requests of a capture."""
    return [pb.CaptureRequest.FromString(raw) for raw in encode.capture_requests(spec, values)]


def received(parts):
    """The arrays that parts hold."""
    assembler = Assembler()
    return [done.value for part in parts if (done := assembler.feed(part)) is not None]


def test_small_values_share_a_message_with_the_spec():
    """A capture of small inputs is one message; so is one without inputs."""
    (request,) = captured(SPEC, sent(*[np.ones(10)] * 50))
    assert request.spec == SPEC
    assert len(received(request.inputs)) == 50
    (alone,) = captured(SPEC, [])
    assert alone.spec == SPEC


def test_no_message_nears_the_default_limit():
    """Whatever the mixture of sizes, and everything arrives."""
    rng = np.random.default_rng(0)
    arrays = [rng.random(size) for size in (3, 100_000, 140_000, 1, 500_000, 2)]
    requests = captured(SPEC, sent(*arrays))
    assert max(request.ByteSize() for request in requests) < CHUNK_BYTES * 1.1
    assert [request.HasField("spec") for request in requests] == [True] + [False] * (len(requests) - 1)
    for got, expected in zip(received(p for r in requests for p in r.inputs), arrays, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_batch_waits_for_no_other():
    """Its end is in its last message; the spec goes ahead of the first."""
    batches = [sent(np.ones(3)), sent(np.ones(300_000)), []]
    requests = [pb.StreamCaptureRequest.FromString(raw) for raw in encode.stream_requests(SPEC, {"y": "x"}, batches)]
    assert requests[0].spec == SPEC
    assert dict(requests[0].carry) == {"y": "x"}
    assert not requests[0].items
    kinds = [[item.WhichOneof("item") for item in request.items] for request in requests[1:]]
    assert kinds[0] == ["batch_start", "input", "batch_end"]
    assert kinds[1][0] == "batch_start"
    assert [ends.count("batch_end") for ends in kinds] == [1, 0, 0, 1, 1]
    starts = [item.batch_start.index for r in requests for item in r.items if item.WhichOneof("item") == "batch_start"]
    assert starts == [0, 1, 2]


def test_batches_are_pulled_one_at_a_time():
    """The second is not touched before the first has been taken."""
    pulled = []

    def batches():
        for step in range(2):
            pulled.append(step)
            yield sent(np.ones(3))

    requests = encode.stream_requests(SPEC, {}, batches())
    next(requests)
    assert pulled == []
    next(requests)
    assert pulled == [0]


def test_what_has_no_place_on_the_wire_is_an_error_of_the_tree():
    """Dates are no ONNX type."""
    with pytest.raises(onnxscope.ValueInvalidError, match="x0"):
        list(encode.capture_requests(SPEC, sent(np.array(["2020-01-01"], "datetime64[D]"))))
