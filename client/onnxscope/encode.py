"""Checked values, as the messages of a call: small ones share a message, large ones become chunks."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onnxscope.errors import ValueInvalidError
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import codec
from onnxscope.v1 import probe_service_pb2 as probe_pb
from onnxscope.v1.envelope import (
    CAPTURE_REQUEST,
    CAPTURE_SMALL_REQUEST,
    FIT_PROBE_REQUEST,
    STREAM_CAPTURE_REQUEST,
    SWEEP_REQUEST,
    Envelope,
    shared_part,
)
from onnxscope.v1.tensor_pb2 import ValueRole

if TYPE_CHECKING:
    from onnxscope.sharing import SharedCall

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
    spec: pb.CaptureSpec,
    values: Iterable[SentValue],
    shared: SharedCall | None = None,
) -> Iterator[bytes]:
    """Yields the messages of a capture, serialised: the spec, and as much of the values as fits beside it.

    Args:
        spec: what is asked.
        values: inputs and masks.
        shared: where large ones may lie; None to send all.
    """
    opening = pb.CaptureRequest(spec=spec, sharing=_told(shared)).SerializeToString()
    return CAPTURE_REQUEST.packed(_parts(values, shared), opening, _LAST)


def small_request(spec: pb.CaptureSpec, values: Iterable[SentValue]) -> bytes | None:
    """Returns the message of a small capture, serialised; None where it would be several."""
    first, *others = CAPTURE_SMALL_REQUEST.packed(_parts(values), pb.CaptureSmallRequest(spec=spec).SerializeToString())
    return None if others else first


def at_once(messages: Iterator[bytes]) -> bytes | Iterator[bytes]:
    """Returns the only message of a call, or all where there are several."""
    opening = list(itertools.islice(messages, 2))
    return opening[0] if len(opening) == 1 else itertools.chain(opening, messages)


def stream_opening(spec: pb.CaptureSpec, carry: Mapping[str, str], shared: SharedCall | None = None) -> bytes:
    """Returns the first message of a stream, so that the server plans while the first batch is made."""
    return pb.StreamCaptureRequest(spec=spec, carry=carry, sharing=_told(shared)).SerializeToString()


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
    shared: SharedCall | None = None,
) -> Iterator[bytes]:
    """Yields the messages of a stream; a batch is pulled when the one before has been taken."""
    yield stream_opening(spec, carry, shared)
    for index, values in enumerate(batches):
        yield from batch_requests(index, values)


async def astream_requests(
    spec: pb.CaptureSpec,
    carry: Mapping[str, str],
    batches: AsyncIterator[Sequence[SentValue]],
    shared: SharedCall | None = None,
) -> AsyncIterator[bytes]:
    """As `stream_requests`, for batches that arrive asynchronously."""
    yield stream_opening(spec, carry, shared)
    index = 0
    async for values in batches:
        for request in batch_requests(index, values):
            yield request
        index += 1


def _told(shared: SharedCall | None) -> pb.Sharing | None:
    return shared.sharing if shared is not None else None


def _parts(values: Iterable[SentValue], shared: SharedCall | None = None) -> Iterator[codec.Part]:
    for role, name, value in values:
        placed = shared.place(value) if shared is not None and isinstance(value, np.ndarray) else None
        if placed is not None and isinstance(value, np.ndarray):
            yield shared_part(role, name, value, placed)
            continue
        try:
            yield from codec.parts(role, name, value)
        except codec.CodecError as error:
            raise ValueInvalidError(f"{name!r}: {error}", {"value": name}) from error
