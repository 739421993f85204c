"""Events -> messages: small events share a message, and no message nears gRPC's limit of 4 MiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from onnxscope.v1 import codec

MESSAGE_BYTES = codec.CHUNK_BYTES


class Sized(Protocol):
    """A protobuf message, as far as packing looks at it."""

    def ByteSize(self) -> int:  # noqa: N802  # protobuf's own name
        """Returns the bytes on the wire."""


E = TypeVar("E", bound=Sized)


def packed(events: Iterable[E]) -> Iterator[list[E]]:
    """Yields the events in groups that fit a message together.

    A group stays under twice `MESSAGE_BYTES` as long as no single event is larger than a chunk.
    """
    group: list[E] = []
    size = 0
    for event in events:
        if group and size + event.ByteSize() > MESSAGE_BYTES:
            yield group
            group, size = [], 0
        group.append(event)
        size += event.ByteSize()
    if group:
        yield group
