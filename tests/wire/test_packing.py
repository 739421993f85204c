"""Events share messages, and no message nears gRPC's limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import codec
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_ACTIVATION
from onnxscope_server.wire.packing import MESSAGE_BYTES, entry_of, entry_of_part, packed

GRPC_LIMIT = 4 << 20


def _parts(sizes: list[int]) -> list[codec.Part]:
    return [
        part
        for index, size in enumerate(sizes)
        for part in codec.parts(VALUE_ROLE_ACTIVATION, f"v{index}", np.zeros(size, np.uint8))
    ]


@given(st.lists(st.integers(0, 3 * MESSAGE_BYTES), max_size=8))
def test_packing_keeps_order_and_stays_far_below_the_limit(sizes: list[int]) -> None:
    """Every part comes out once, in order, in messages under twice a chunk."""
    parts = _parts(sizes)
    responses = list(packed(pb.CaptureResponse, map(entry_of_part, parts)))
    sent = [event.value for response in responses for event in response.events]
    assert sent == [part.message() for part in parts]
    assert all(response.ByteSize() < 2 * MESSAGE_BYTES + 4096 < GRPC_LIMIT for response in responses)


def test_small_events_share_one_message() -> None:
    """A plan and a hundred small activations are one message."""
    plan = entry_of(pb.CaptureEvent(plan=pb.CapturePlan(node_count=3)))
    (response,) = packed(pb.CaptureResponse, [plan, *map(entry_of_part, _parts([100] * 100))])
    assert response.events[0].plan.node_count == 3
    assert len(response.events) == 101


def test_a_parts_byte_count_is_no_less_than_its_message() -> None:
    """What packing counts with bounds what really travels."""
    for part in _parts([0, 1, 100, MESSAGE_BYTES, 2 * MESSAGE_BYTES + 1]):
        assert part.byte_count >= part.message().ByteSize()
