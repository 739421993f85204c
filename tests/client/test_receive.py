"""Messages as events."""

from __future__ import annotations

import numpy as np
import pytest
from tests.messages import messages

import onnxscope
from onnxscope.receive import Arrived, BatchCompleted, BatchStarted, Completed, Planned, Receiver, StreamCompleted
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.envelope import CAPTURE_RESPONSE, Carried, shared_part
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_ACTIVATION

LARGE = np.arange(400_000, dtype=np.float64)


def parts(value):
    """The messages of a value."""
    return messages(VALUE_ROLE_ACTIVATION, "h", value)


def capture(*events):
    """A response of a capture."""
    return Carried(pb.CaptureResponse(events=[pb.CaptureEvent(**event) for event in events]))


def stream(*events):
    """A response of a stream."""
    return Carried(pb.StreamCaptureResponse(events=[pb.StreamEvent(**event) for event in events]))


def test_a_capture_in_events():
    """A value that comes in chunks is one event; unknown events of a newer server are passed over."""
    receiver = Receiver()
    events = list(receiver.feed(capture({"plan": pb.CapturePlan()}, {})))
    for part in parts(LARGE):
        events += receiver.feed(capture({"value": part}))
    events += receiver.feed(capture({"completed": pb.CaptureCompleted()}))
    receiver.finish()
    assert [type(event) for event in events] == [Planned, Arrived, Completed]
    np.testing.assert_array_equal(events[1].value, LARGE)
    assert events[2].fidelity == onnxscope.Fidelity()


def test_a_stream_in_events():
    """Batches open and close; timings are seconds."""
    done = pb.CaptureCompleted(fidelity=pb.Fidelity(max_output_difference=0.0))
    done.timings.add(stage="run").duration.FromNanoseconds(1_500_000_001)
    receiver = Receiver()
    events = list(
        receiver.feed(
            stream(
                {"plan": pb.CapturePlan()},
                {"batch_start": pb.BatchStart(index=3)},
                {"batch_completed": pb.BatchCompleted(index=3, completed=done)},
                {"completed": pb.StreamCompleted(batch_count=4)},
            )
        )
    )
    receiver.finish()
    assert events[1:] == [
        BatchStarted(3),
        BatchCompleted(3, {"run": 1.500000001}, onnxscope.Fidelity(max_output_difference=0.0)),
        StreamCompleted(4),
    ]


def test_an_answer_that_ends_early_was_cut():
    """Without `completed`, or with it in the middle of a value."""
    with pytest.raises(onnxscope.StreamCutError):
        Receiver().finish()
    receiver = Receiver()
    list(receiver.feed(capture({"value": parts(LARGE)[0]})))
    with pytest.raises(onnxscope.StreamCutError, match="'h'"):
        list(receiver.feed(capture({"completed": pb.CaptureCompleted()})))


def test_nothing_follows_the_end():
    """An event after `completed` is a defect of the server."""
    receiver = Receiver()
    with pytest.raises(onnxscope.InternalError, match="after"):
        list(receiver.feed(capture({"completed": pb.CaptureCompleted()}, {"plan": pb.CapturePlan()})))


def test_parts_out_of_order_are_an_error_of_the_tree():
    """What the codec says is passed on."""
    with pytest.raises(onnxscope.InternalError, match="no value"):
        list(Receiver().feed(capture({"value": parts(LARGE)[1]})))


@pytest.mark.parametrize("count", [1, 200])
def test_shared_memory_is_refused_where_the_call_shares_none(count):
    """Whether a message has one value that lies there or many, which are read in another way."""
    items = [shared_part(VALUE_ROLE_ACTIVATION, f"h{index}", LARGE, (7, 0, LARGE.nbytes)) for index in range(count)]
    (raw,) = CAPTURE_RESPONSE.packed(items)
    with pytest.raises(onnxscope.InternalError, match=r"'h0'.*shared memory, and the call shares none"):
        list(Receiver().feed(CAPTURE_RESPONSE.parse(raw)))
