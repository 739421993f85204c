"""The messages that carry values, written and read by hand: bytes are copied once out of an array, once into one.

protobuf copies them when a field is set, when the message is serialised, when it is parsed and when the field is read.
What is written here is what protobuf would write, byte for byte. What is read here is what protobuf would read: bytes
in any other order than protobuf's own are left to it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.message import Message

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as probe_pb
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.codec import CHUNK_BYTES, Array, Buffer, Part, array_header
from onnxscope.v1.sharing import Lying

MESSAGE_BYTES = CHUNK_BYTES + (64 << 10)  # a chunk, and small items around it

# below this, what Python does to keep bytes from being copied costs more than copying them
_LEAST_BYTES = 4096
_LOCATIONS_KEPT = 16_384
# of an item that says where a value lies: most of that is its name
_LYING_BYTES = 512
_LYING_KEPT = 8192
_NONE: Mapping[int, memoryview] = MappingProxyType({})
_KINDS, _NUMBER, _BYTES = 7, 0, 2  # a key's lowest bits
_CONTINUED = 0x80  # this bit says that a number goes on; seven bits a byte, lowest first
_VARINT_BYTES = 5  # of a size, at most


def _key(number: int) -> int:
    """Returns the byte that stands before a field of bytes or a message."""
    return number << 3 | _BYTES


_START, _CHUNK = (_key(pb.ValuePart.DESCRIPTOR.fields_by_name[name].number) for name in ("start", "chunk"))
_DATA = {
    _START: _key(pb.ValueStart.DESCRIPTOR.fields_by_name["data"].number),
    _CHUNK: _key(pb.ValueChunk.DESCRIPTOR.fields_by_name["data"].number),
}


_SHARED = _key(pb.ValueStart.DESCRIPTOR.fields_by_name["shared"].number)
_SHARED_KEYS = [
    bytes([pb.SharedBytes.DESCRIPTOR.fields_by_name[name].number << 3 | _NUMBER])
    for name in ("block", "offset", "byte_count")
]
# what an item ends with that says where a value lies; to look closer, and to keep what was found, is for those alone
_LIES = re.compile(re.escape(bytes([_SHARED])) + rb"." + re.escape(_SHARED_KEYS[0]), re.DOTALL)
_LIES_BYTES = 36
_EMPTY = {key: bytes([key, 0]) for key in map(_key, range(1, 16))}
_ONE_BYTE = [bytes([number]) for number in range(_CONTINUED)]


class Carried(NamedTuple):
    """A message as it came.

    Attributes:
        message: the message, without the bytes that stand beside it.
        data: bytes of a start or a chunk, by the index of the item that it is in: views of what was received.
        lying: what lies in shared memory, by the index of an item that the message has empty.
        byte_count: bytes of all of it, as it came; 0 if unknown.
    """

    message: Any
    data: Mapping[int, memoryview] = _NONE
    lying: Mapping[int, Lying] = MappingProxyType({})
    byte_count: int = 0


class Envelope:
    """A kind of message with a repeated field of items, each of which may hold a part of a value.

    Args:
        message: the kind.
        path: the repeated field, and the field of an item that holds the part, if the item is no part itself.
        finds_lying: whether `Carried.lying` has what lies in shared memory; if not, all of that is in the message.
    """

    def __init__(self, message: type[Message], *path: str, finds_lying: bool = False) -> None:
        self._message = message
        self._finds_lying = finds_lying
        keys = []
        descriptor: Any = message.DESCRIPTOR
        for name in path:
            field = descriptor.fields_by_name[name]
            keys.append(_key(field.number))
            descriptor = field.message_type
        self._keys = tuple(keys)
        self._start_keys = (*keys, _START)

    def packed(self, items: Iterable[Message | Part], opening: bytes = b"", closing: bytes = b"") -> Iterator[bytes]:
        """Yields messages whose items are these, in order, serialised; small ones share a message.

        A message stays within `MESSAGE_BYTES` as long as no single item is larger.

        Args:
            items: messages of the repeated field, and parts, whose bytes are copied once.
            opening: bytes of the message that are no items; they go ahead of the first.
            closing: the same, behind the last.
        """
        waiting: list[Buffer] = [opening] if opening else []
        size = len(opening)
        for item in items:
            buffers = self.part(item) if isinstance(item, Part) else self.item(item)
            byte_count = sum(map(len, buffers))
            if waiting and size + byte_count > MESSAGE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
            waiting += buffers
            size += byte_count
        if waiting or closing:
            yield b"".join((*waiting, closing))

    def alone(self, item: Message) -> bytes:
        """Returns a message that holds one item, or the bytes of it within a larger message."""
        return b"".join(self.item(item))

    def item(self, item: Message) -> tuple[Buffer, ...]:
        """Returns an item as bytes of the message."""
        raw = item.SerializeToString()
        return (_within(self._keys[:1], b"", len(raw)), raw)

    def part(self, part: Part) -> tuple[Buffer, ...]:
        """Returns an item that holds a part, as bytes of the message; the part's data is not copied."""
        size = len(part.data)
        if part.header is None:
            return (_before(self._keys, _CHUNK, pb.ValueChunk(offset=part.offset).SerializeToString(), size), part.data)
        if isinstance(part.header, bytes):
            before = _before_start(self._keys, part.header, size)
            return (before, part.data) if size else (before,)
        return (_before(self._keys, _START, part.header.SerializeToString(), size), part.data)

    def parse(self, raw: bytes) -> Carried:
        """Reads a message.

        Raises:
            DecodeError: the bytes are no such message.
        """
        if len(raw) >= _LEAST_BYTES:
            try:
                return self._cut(raw)
            except _UnusualError:
                pass
        return Carried(self._message.FromString(raw), byte_count=len(raw))

    def _cut(self, raw: bytes) -> Carried:
        """Reads a message: large data and what lies in shared memory come beside it."""
        view, pieces, kept, index = memoryview(raw), [], 0, 0
        data: dict[int, memoryview] = {}
        lies: dict[int, Lying] = {}
        for key, start, payload, end in _fields(raw, 0, len(raw)):
            if key != self._keys[0]:
                continue
            if end - payload >= _LEAST_BYTES:
                found = self._data(raw, _Field(key, start, payload, end))
                if found is not None:
                    keys, head, where = found
                    pieces += [raw[kept:start], _within(keys, head)]
                    data[index] = view[where.payload : where.end]
                    kept = end
            elif self._finds_lying and end - payload <= _LYING_BYTES and _LIES.search(raw, end - _LIES_BYTES, end):
                lying = _lying(self._keys, raw[payload:end])
                if lying is not None:
                    pieces += [raw[kept:start], _EMPTY[key]] if kept < start else [_EMPTY[key]]
                    lies[index] = lying
                    kept = end
            index += 1
        rest = b"".join((*pieces, raw[kept:])) if pieces else raw
        return Carried(self._message.FromString(rest), data, lies, len(raw))

    def _data(self, raw: bytes, item: _Field) -> tuple[tuple[int, ...], bytes, _Field] | None:
        """Finds the one part of an item: where its data stands, and what stands around it."""
        keys, inner = [item.key], item
        for key in self._keys[1:]:
            only = _only(raw, inner)
            if only is None or only.key != key:
                return None
            keys, inner = [*keys, key], only
        part = _only(raw, inner)
        if part is None or part.key not in _DATA:
            return None
        fields = [_Field(*field) for field in _fields(raw, part.payload, part.end)]
        found = [field for field in fields if field.key == _DATA[part.key]]
        if len(found) != 1:
            return None
        (data,) = found
        head = raw[part.payload : data.start] + raw[data.end : part.end]
        return (*keys, part.key), head, data


CAPTURE_REQUEST = Envelope(capture_pb.CaptureRequest, "inputs")
CAPTURE_RESPONSE = Envelope(capture_pb.CaptureResponse, "events", "value", finds_lying=True)
CAPTURE_SMALL_REQUEST = Envelope(capture_pb.CaptureSmallRequest, "inputs")
CAPTURE_SMALL_RESPONSE = Envelope(capture_pb.CaptureSmallResponse, "events", "value")
STREAM_CAPTURE_REQUEST = Envelope(capture_pb.StreamCaptureRequest, "items", "input")
STREAM_CAPTURE_RESPONSE = Envelope(capture_pb.StreamCaptureResponse, "events", "value", finds_lying=True)
FIT_PROBE_REQUEST = Envelope(probe_pb.FitProbeRequest, "items", "input")
SWEEP_REQUEST = Envelope(probe_pb.SweepRequest, "items", "input")


class _UnusualError(Exception):
    """Bytes that protobuf would not write like this; it may read them all the same."""


class _Field(NamedTuple):
    """Where a field stands: its key, where that is, and from where to where its payload."""

    key: int
    start: int
    payload: int
    end: int


def _fields(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields what a `_Field` has."""
    while at < end:
        start, key = at, raw[at]
        payload = at + 1
        if key & _KINDS == _BYTES and key < _CONTINUED and payload < end and raw[payload] < _CONTINUED:
            # most are short
            at = payload + 1 + raw[payload]
            payload += 1
        else:
            if key >= _CONTINUED or key & _KINDS not in (_NUMBER, _BYTES):
                raise _UnusualError
            number, at = _read_varint(raw, payload, end)
            if key & _KINDS == _BYTES:
                payload, at = at, at + number
        if at > end:
            raise _UnusualError
        yield key, start, payload, at


@functools.lru_cache(_LYING_KEPT)
def _lying(keys: tuple[int, ...], item: bytes) -> Lying | None:
    """Reads an item that says where a value lies: often the same, run after run; None for any other."""
    inner = _Field(keys[0], 0, 0, len(item))
    for key in (*keys[1:], _START):
        only = _only(item, inner)
        if only is None or only.key != key:
            return None
        inner = only
    start = pb.ValueStart.FromString(item[inner.payload : inner.end])
    if not start.HasField("shared") or start.data:
        return None
    try:
        return Lying.of(start)
    except ValueError:
        return None  # whoever reads the message says so


def _only(raw: bytes, outer: _Field) -> _Field | None:
    """Returns the one field inside of another; None where there are none or several."""
    fields = _fields(raw, outer.payload, outer.end)
    first = next(fields, None)
    return None if first is None or next(fields, None) is not None else _Field(*first)


def _read_varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    for index in range(at, min(end, at + _VARINT_BYTES)):
        byte = raw[index]
        number |= (byte & ~_CONTINUED) << shift
        if byte < _CONTINUED:
            return number, index + 1
        shift += 7
    raise _UnusualError


def shared_part(role: pb.ValueRole, name: str, array: Array, location: tuple[int, int, int]) -> Part:
    """Returns the one piece of an array that lies in shared memory: it says where.

    Args:
        role: of the value.
        name: of the value.
        array: the array, of which shape and dtype are told.
        location: number of the block, bytes before the array there, and its bytes.
    """
    return _located(array_header(role, name, array.dtype, array.shape), *location)


@functools.lru_cache(_LOCATIONS_KEPT)
def _located(header: bytes, *location: int) -> Part:
    """Returns the piece of an array of which the header says the rest: often the same, run after run."""
    numbers = zip(_SHARED_KEYS, location, strict=True)
    lies = _within((_SHARED,), b"".join(key + _varint(number) for key, number in numbers if number))
    # a message's bytes behind another's are both in one
    return Part(header + lies, 0, b"")


def _varint(number: int) -> bytes:
    if number < _CONTINUED:
        return _ONE_BYTE[number]
    written = bytearray()
    while number >= _CONTINUED:
        written.append(number & ~_CONTINUED & 0xFF | _CONTINUED)
        number >>= 7
    written.append(number)
    return bytes(written)


@functools.lru_cache(_LOCATIONS_KEPT)
def _before_start(keys: tuple[int, ...], head: bytes, size: int) -> bytes:
    """Does what `_before` does for the start of an array: the same for all its runs."""
    return _before(keys, _START, head, size)


def _before(keys: tuple[int, ...], key: int, head: bytes, size: int) -> bytes:
    """Returns what stands before a part's data."""
    if size:
        head += bytes([_DATA[key]]) + _varint(size)
    return _within((*keys, key), head, size)


def _within(keys: Iterable[int], head: bytes, size: int = 0) -> bytes:
    """Returns what opens a field within fields, outermost first, up to `size` bytes that follow."""
    for key in reversed(tuple(keys)):
        head = _ONE_BYTE[key] + _varint(len(head) + size) + head
    return head
