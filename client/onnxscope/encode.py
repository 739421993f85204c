"""Checked values, as the messages of a call: small ones share a message, large ones become chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from onnxscope.errors import ValueInvalidError
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import codec
from onnxscope.v1.tensor_pb2 import ValueRole

MESSAGE_BYTES = codec.CHUNK_BYTES


class SentValue(NamedTuple):
    """An input or a mask on its way to the server, already checked."""

    role: ValueRole
    name: str
    value: codec.Value


def capture_requests(
    spec: pb.CaptureSpec, values: Iterable[SentValue], sharing: pb.Sharing | None = None
) -> Iterator[pb.CaptureRequest]:
    """Yields the messages of a capture: the spec, and as much of the values as fits beside it."""
    request = pb.CaptureRequest(spec=spec, sharing=sharing)
    for group in _groups(values):
        for part in group:
            part.write(request.inputs.add())
        yield request
        request = pb.CaptureRequest()
    if request.HasField("spec"):
        yield request


def stream_opening(
    spec: pb.CaptureSpec, carry: Mapping[str, str], sharing: pb.Sharing | None = None
) -> pb.StreamCaptureRequest:
    """Returns the first message of a stream, so that the server plans while the first batch is made."""
    return pb.StreamCaptureRequest(spec=spec, carry=carry, sharing=sharing)


def batch_requests(index: int, values: Iterable[SentValue]) -> Iterator[pb.StreamCaptureRequest]:
    """Yields the messages of one batch; nothing of it waits for the next batch."""
    request = pb.StreamCaptureRequest()
    request.items.add().batch_start.index = index
    for at, group in enumerate(_groups(values)):
        if at:
            yield request
            request = pb.StreamCaptureRequest()
        for part in group:
            part.write(request.items.add().input)
    request.items.add().batch_end.SetInParent()
    yield request


def stream_requests(
    spec: pb.CaptureSpec,
    carry: Mapping[str, str],
    batches: Iterable[Sequence[SentValue]],
    sharing: pb.Sharing | None = None,
) -> Iterator[pb.StreamCaptureRequest]:
    """Yields the messages of a stream; a batch is pulled when the one before has been taken."""
    yield stream_opening(spec, carry, sharing)
    for index, values in enumerate(batches):
        yield from batch_requests(index, values)


async def astream_requests(
    spec: pb.CaptureSpec,
    carry: Mapping[str, str],
    batches: AsyncIterator[Sequence[SentValue]],
    sharing: pb.Sharing | None = None,
) -> AsyncIterator[pb.StreamCaptureRequest]:
    """As `stream_requests`, for batches that arrive asynchronously."""
    yield stream_opening(spec, carry, sharing)
    index = 0
    async for values in batches:
        for request in batch_requests(index, values):
            yield request
        index += 1


def _groups(values: Iterable[SentValue]) -> Iterator[list[codec.Part]]:
    """Yields parts that share a message, which stays at about 1 MiB."""
    group: list[codec.Part] = []
    size = 0
    for value in values:
        for part in _parts(value):
            if group and size + part.byte_count > MESSAGE_BYTES:
                yield group
                group, size = [], 0
            group.append(part)
            size += part.byte_count
    if group:
        yield group


def _parts(value: SentValue) -> Iterator[codec.Part]:
    try:
        yield from codec.parts(value.role, value.name, value.value)
    except codec.CodecError as error:
        raise ValueInvalidError(f"{value.name!r}: {error}", {"value": value.name}) from error
