"""Events share messages, and no message nears gRPC's limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import codec
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_ACTIVATION
from onnxscope_server.wire.packing import MESSAGE_BYTES, packed

GRPC_LIMIT = 4 << 20


def _events(sizes: list[int]) -> list[pb.CaptureEvent]:
    return [
        pb.CaptureEvent(value=part)
        for index, size in enumerate(sizes)
        for part in codec.parts(VALUE_ROLE_ACTIVATION, f"v{index}", np.zeros(size, np.uint8))
    ]


@given(st.lists(st.integers(0, 3 * MESSAGE_BYTES), max_size=8))
def test_packing_keeps_order_and_stays_far_below_the_limit(sizes: list[int]) -> None:
    """Every event comes out once, in order, in messages under twice a chunk."""
    events = _events(sizes)
    groups = list(packed(events))
    assert [event for group in groups for event in group] == events
    assert all(pb.CaptureResponse(events=group).ByteSize() < 2 * MESSAGE_BYTES + 4096 < GRPC_LIMIT for group in groups)


def test_small_events_share_one_message() -> None:
    """A hundred small activations are one message."""
    assert len(list(packed(_events([100] * 100)))) == 1
