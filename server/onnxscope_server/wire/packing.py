"""Events -> messages: small events share a message, and no message nears gRPC's limit of 4 MiB."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from onnxscope.v1 import codec

MESSAGE_BYTES = codec.CHUNK_BYTES
R = TypeVar("R")


class Entry(NamedTuple):
    """An event that is not a message yet: it is written straight into the one that carries it.

    Attributes:
        byte_count: about how many bytes it takes.
        write: fills an empty event.
    """

    byte_count: int
    write: Callable[[Any], None]


def entry_of(event: Message) -> Entry:
    """Returns an entry of a small event that is a message already."""
    return Entry(event.ByteSize(), lambda into: into.CopyFrom(event))


def entry_of_part(part: codec.Part) -> Entry:
    """Returns an entry of a piece of a value, for events with a field `value`."""
    return Entry(part.byte_count, lambda into: part.write(into.value))


def packed(response: Callable[[], R], entries: Iterable[Entry]) -> Iterator[R]:
    """Yields responses whose `events` are the entries, in order.

    A response stays under twice `MESSAGE_BYTES` as long as no single entry is larger than a chunk.

    Args:
        response: makes an empty one, with a repeated field `events`.
        entries: what to send.
    """
    current: Any = response()
    size = 0
    for entry in entries:
        if size and size + entry.byte_count > MESSAGE_BYTES:
            yield current
            current, size = response(), 0
        entry.write(current.events.add())
        size += entry.byte_count
    if size:
        yield current
