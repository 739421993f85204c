"""Checked values, as the messages of a call: small ones share a message, large ones become chunks."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from onnxscope.errors import ValueInvalidError
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import codec
from onnxscope.v1 import probe_service_pb2 as probe_pb
from onnxscope.v1.envelope import (
    CAPTURE_REQUEST,
    FIT_PROBE_REQUEST,
    STREAM_CAPTURE_REQUEST,
    SWEEP_REQUEST,
    Envelope,
)
from onnxscope.v1.tensor_pb2 import ValueRole

_FITS: Mapping[str, Envelope] = {
    "ProbeService/FitProbe": FIT_PROBE_REQUEST,
    "ProbeService/Sweep": SWEEP_REQUEST,
}
_LAST = pb.CaptureRequest(last=True).SerializeToString()


class SentValue(NamedTuple):
    """An input or a mask on its way to the server, already checked."""

    role: ValueRole
    name: str
    value: codec.Value


def capture_requests(
    spec: pb.CaptureSpec, values: Iterable[SentValue], sharing: pb.Sharing | None = None
) -> Iterator[bytes]:
    """Yields the messages of a capture, serialised: the spec, and as much of the values as fits beside it."""
    opening = pb.CaptureRequest(spec=spec, sharing=sharing).SerializeToString()
    return CAPTURE_REQUEST.packed(_parts(values), opening, _LAST)


def at_once(messages: Iterator[bytes]) -> bytes | Iterator[bytes]:
    """Returns the only message of a call, or all where there are several."""
    opening = list(itertools.islice(messages, 2))
    return opening[0] if len(opening) == 1 else itertools.chain(opening, messages)


def stream_opening(spec: pb.CaptureSpec, carry: Mapping[str, str], sharing: pb.Sharing | None = None) -> bytes:
    """Returns the first message of a stream, so that the server plans while the first batch is made."""
    return pb.StreamCaptureRequest(spec=spec, carry=carry, sharing=sharing).SerializeToString()


def fit_opening(spec: probe_pb.ProbeSpec) -> bytes:
    """Returns the first message of a fit or a sweep, which have it at the same place."""
    return probe_pb.FitProbeRequest(spec=spec).SerializeToString()


def fit_requests(method: str, spec: probe_pb.ProbeSpec, batches: Iterable[Sequence[SentValue]]) -> Iterator[bytes]:
    """Yields the messages of a fit or a sweep, serialised; a batch is pulled when the one before has been taken."""
    yield fit_opening(spec)
    for index, values in enumerate(batches):
        yield from batch_requests(index, values, _FITS[method])


async def afit_requests(
    method: str, spec: probe_pb.ProbeSpec, batches: AsyncIterator[Sequence[SentValue]]
) -> AsyncIterator[bytes]:
    """As `fit_requests`, for batches that arrive asynchronously."""
    yield fit_opening(spec)
    index = 0
    async for values in batches:
        for request in batch_requests(index, values, _FITS[method]):
            yield request
        index += 1


def batch_requests(
    index: int, values: Iterable[SentValue], envelope: Envelope = STREAM_CAPTURE_REQUEST
) -> Iterator[bytes]:
    """Yields the messages of one batch, serialised; nothing of it waits for the next batch."""
    start = pb.StreamItem(batch_start=pb.BatchStart(index=index))
    end = pb.StreamItem(batch_end=pb.BatchEnd())
    return envelope.packed(itertools.chain([start], _parts(values), [end]))


def stream_requests(
    spec: pb.CaptureSpec,
    carry: Mapping[str, str],
    batches: Iterable[Sequence[SentValue]],
    sharing: pb.Sharing | None = None,
) -> Iterator[bytes]:
    """Yields the messages of a stream; a batch is pulled when the one before has been taken."""
    yield stream_opening(spec, carry, sharing)
    for index, values in enumerate(batches):
        yield from batch_requests(index, values)


async def astream_requests(
    spec: pb.CaptureSpec,
    carry: Mapping[str, str],
    batches: AsyncIterator[Sequence[SentValue]],
    sharing: pb.Sharing | None = None,
) -> AsyncIterator[bytes]:
    """As `stream_requests`, for batches that arrive asynchronously."""
    yield stream_opening(spec, carry, sharing)
    index = 0
    async for values in batches:
        for request in batch_requests(index, values):
            yield request
        index += 1


def _parts(values: Iterable[SentValue]) -> Iterator[codec.Part]:
    for value in values:
        try:
            yield from codec.parts(value.role, value.name, value.value)
        except codec.CodecError as error:
            raise ValueInvalidError(f"{value.name!r}: {error}", {"value": value.name}) from error
