"""Messages that carry values, by hand: what is written is what protobuf writes, what is read is what it reads."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.messages import message

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import codec
from onnxscope.v1 import envelope as envelopes
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.envelope import (
    CAPTURE_REQUEST,
    CAPTURE_RESPONSE,
    CAPTURE_SMALL_REQUEST,
    CAPTURE_SMALL_RESPONSE,
    MESSAGE_BYTES,
    STREAM_CAPTURE_REQUEST,
    STREAM_CAPTURE_RESPONSE,
)

GRPC_LIMIT = 4 << 20
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# each kind, its class, its repeated field, the class of an item and the item's field with a part
KINDS = {
    "capture request": (CAPTURE_REQUEST, capture_pb.CaptureRequest, "inputs", pb.ValuePart, ""),
    "capture response": (CAPTURE_RESPONSE, capture_pb.CaptureResponse, "events", capture_pb.CaptureEvent, "value"),
    "small request": (CAPTURE_SMALL_REQUEST, capture_pb.CaptureSmallRequest, "inputs", pb.ValuePart, ""),
    "small response": (
        CAPTURE_SMALL_RESPONSE,
        capture_pb.CaptureSmallResponse,
        "events",
        capture_pb.CaptureEvent,
        "value",
    ),
    "stream request": (
        STREAM_CAPTURE_REQUEST,
        capture_pb.StreamCaptureRequest,
        "items",
        capture_pb.StreamItem,
        "input",
    ),
    "stream response": (
        STREAM_CAPTURE_RESPONSE,
        capture_pb.StreamCaptureResponse,
        "events",
        capture_pb.StreamEvent,
        "value",
    ),
}
kinds = pytest.mark.parametrize(("envelope", "kind", "items", "item_kind", "name"), KINDS.values(), ids=KINDS.keys())
COMPLETED = capture_pb.CaptureCompleted(timings=[capture_pb.StageTiming(stage="run")])
OTHERS = {
    capture_pb.CaptureEvent: [
        capture_pb.CaptureEvent(plan=capture_pb.CapturePlan(node_count=3)),
        capture_pb.CaptureEvent(completed=COMPLETED),
        capture_pb.CaptureEvent(),
    ],
    capture_pb.StreamEvent: [
        capture_pb.StreamEvent(plan=capture_pb.CapturePlan(node_count=3)),
        capture_pb.StreamEvent(batch_start=capture_pb.BatchStart(index=2)),
        capture_pb.StreamEvent(batch_completed=capture_pb.BatchCompleted(index=2, completed=COMPLETED)),
        capture_pb.StreamEvent(completed=capture_pb.StreamCompleted(batch_count=3)),
    ],
    capture_pb.StreamItem: [
        capture_pb.StreamItem(batch_start=capture_pb.BatchStart(index=2)),
        capture_pb.StreamItem(batch_end=capture_pb.BatchEnd()),
    ],
    pb.ValuePart: [],
}
SIZES = st.sampled_from([0, 1, 100, 4096, 5000, 200_000, MESSAGE_BYTES]) | st.integers(0, 3 * MESSAGE_BYTES)


def item_of(part, item_kind, name):
    """The item that holds a part."""
    return item_kind(**{name: message(part)}) if name else message(part)


def whole(carried, items, name):
    """The message with the bytes in it that came beside it."""
    for index, data in carried.data.items():
        item = getattr(carried.message, items)[index]
        part = getattr(item, name) if name else item
        inside = part.start if part.WhichOneof("part") == "start" else part.chunk
        assert not inside.data
        inside.data = bytes(data)
    for index, lying in carried.lying.items():
        item = getattr(carried.message, items)[index]
        assert not item.ByteSize()
        start = (getattr(item, name) if name else item).start
        start.role, start.name = lying.role, lying.name
        layout = start.layout.array
        layout.data_type, layout.byte_count = codec.DATA_TYPES[lying.dtype], lying.end - lying.offset
        layout.shape.extend(lying.shape)
        start.shared.block, start.shared.offset, start.shared.byte_count = lying.block, lying.offset, layout.byte_count
    return carried.message


@st.composite
def parts_and_others(draw, item_kind):
    """Pieces of values, with other items between them."""
    values = [np.resize(np.arange(256, dtype=np.uint8), size) for size in draw(st.lists(SIZES, min_size=1, max_size=4))]
    found = [p for index, value in enumerate(values) for p in codec.parts(pb.VALUE_ROLE_INPUT, f"v{index}", value)]
    for block in draw(st.lists(st.sampled_from([1, 2**40]), max_size=40)):
        lying = envelopes.shared_part(pb.VALUE_ROLE_INPUT, f"s{block}", np.zeros((2, 3), np.float16), (block, 64, 12))
        found.insert(draw(st.integers(0, len(found))), lying)
    for other in OTHERS[item_kind]:
        found.insert(draw(st.integers(0, len(found))), other)
    return found


@kinds
def test_any_client_reads_what_is_written(envelope, kind, items, item_kind, name):
    """The generated classes find every item, once, in order, in messages far below gRPC's limit."""

    @QUICK
    @given(parts_and_others(item_kind))
    def check(given):
        raw = list(envelope.packed(given))
        expected = [item_of(one, item_kind, name) if isinstance(one, codec.Part) else one for one in given]
        assert [item for one in raw for item in getattr(kind.FromString(one), items)] == expected
        assert max(map(len, raw)) <= MESSAGE_BYTES < GRPC_LIMIT
        assert [kind.FromString(one).SerializeToString() for one in raw] == raw

    check()


@kinds
def test_what_is_read_is_what_protobuf_reads(envelope, kind, items, item_kind, name):
    """Of messages by hand and by protobuf, and large data comes as a view of what was received."""

    @QUICK
    @given(parts_and_others(item_kind))
    def check(given):
        for raw in envelope.packed(given):
            carried = envelope.parse(raw)
            large = [item for item in getattr(kind.FromString(raw), items) if item.ByteSize() > 8192]
            assert len(carried.data) >= len(large)
            assert all(view.obj is raw for view in carried.data.values())
            assert whole(carried, items, name) == kind.FromString(raw)

    check()


@kinds
def test_hostile_bytes_are_what_protobuf_says_they_are(envelope, kind, items, item_kind, name):
    """Bytes that were changed anywhere are read as protobuf reads them, or refused as it refuses them."""
    fixed = [*codec.parts(pb.VALUE_ROLE_INPUT, "v", np.zeros(9000, np.uint8)), *OTHERS[item_kind]]
    fixed += [envelopes.shared_part(pb.VALUE_ROLE_INPUT, "s", np.zeros(6, np.float16), (7, 64, 12))]
    fixed += [*codec.parts(pb.VALUE_ROLE_INPUT, "w", np.ones(5000, np.uint8)), codec.Part(None, 300, bytes(5000))]
    (raw,) = envelope.packed(fixed)
    # where the messages' own bytes are, and not the values'
    places = [at for at in range(len(raw)) if raw[max(0, at - 8) : at + 8].strip(b"\0\1")]

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(places), st.binary(max_size=3), st.integers(0, 3)), max_size=3),
        st.integers(0, 20),
    )
    def check(changes, cut):
        changed = raw
        for at, put, gone in changes:
            changed = changed[:at] + put + changed[at + gone :]
        changed = changed[: len(changed) - cut]
        try:
            expected = kind.FromString(changed)
        except DecodeError:
            with pytest.raises(DecodeError):
                envelope.parse(changed)
        else:
            assert whole(envelope.parse(changed), items, name) == expected

    check()


@pytest.mark.parametrize("other", ["twice", "before", "merged", "two parts", "unknown field", "long size"])
def test_other_encodings_of_a_message_are_read_too(other):
    """Whatever order, repetition or padding the rules of protobuf allow."""
    data, event = bytes(range(256)) * 40, capture_pb.CaptureEvent
    chunk = pb.ValueChunk(offset=7, data=data).SerializeToString()
    if other == "twice":
        chunk += pb.ValueChunk(data=data[1:]).SerializeToString()
    elif other == "before":
        chunk = pb.ValueChunk(data=data).SerializeToString() + pb.ValueChunk(offset=7).SerializeToString()
    elif other == "unknown field":
        chunk += b"\xfa\x01\x02hi"

    def nested(key, inside):
        size = len(inside)
        return key + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 | 0x80, 0]) + inside

    part = nested(b"\x12", chunk)
    if other == "merged":
        part += nested(b"\x12", pb.ValueChunk(offset=9).SerializeToString())
    value = nested(b"\x12", part)
    if other == "two parts":
        value += event(value=pb.ValuePart(start=pb.ValueStart(name="x"))).SerializeToString()
    raw = nested(b"\x0a", value)
    expected = capture_pb.CaptureResponse.FromString(raw)
    assert whole(CAPTURE_RESPONSE.parse(raw), "events", "value") == expected


def test_small_items_share_one_message():
    """A plan and a hundred small activations are one message."""
    plan = capture_pb.CaptureEvent(plan=capture_pb.CapturePlan(node_count=3))
    small = [*codec.parts(pb.VALUE_ROLE_ACTIVATION, "a", np.zeros(100, np.uint8))] * 100
    (raw,) = CAPTURE_RESPONSE.packed([plan, *small])
    response = capture_pb.CaptureResponse.FromString(raw)
    assert response.events[0].plan.node_count == 3
    assert len(response.events) == 101


def test_an_item_alone_goes_ahead_of_others_and_behind_them():
    """What is serialised once for all answers makes the same message as the item itself."""
    plan = capture_pb.CaptureEvent(plan=capture_pb.CapturePlan(node_count=3))
    end = capture_pb.CaptureEvent(completed=capture_pb.CaptureCompleted())
    (value,) = codec.parts(pb.VALUE_ROLE_OUTPUT, "y", np.arange(3))
    assert CAPTURE_RESPONSE.alone(plan) == capture_pb.CaptureResponse(events=[plan]).SerializeToString()
    around = CAPTURE_RESPONSE.packed([value], CAPTURE_RESPONSE.alone(plan), CAPTURE_RESPONSE.alone(end))
    assert list(around) == list(CAPTURE_RESPONSE.packed([plan, value, end]))


def test_nothing_is_kept_of_values_in_messages():
    """However many small ones a message has: only where values lie is the same again."""
    envelopes._lying.cache_clear()
    values = [codec.parts(pb.VALUE_ROLE_ACTIVATION, f"v{index}", np.full(20, index)) for index in range(200)]
    (raw,) = CAPTURE_RESPONSE.packed([part for parts in values for part in parts])
    assert not CAPTURE_RESPONSE.parse(raw).lying
    assert envelopes._lying.cache_info().currsize == 0
    lying = envelopes.shared_part(pb.VALUE_ROLE_ACTIVATION, "s", np.zeros(6, np.float16), (2**63, 2**62, 12))
    (raw,) = CAPTURE_RESPONSE.packed([lying] * 200)
    assert len(CAPTURE_RESPONSE.parse(raw).lying) == 200
    assert envelopes._lying.cache_info().currsize == 1
