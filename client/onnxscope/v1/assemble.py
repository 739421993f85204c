"""Values put together from the messages in which they arrive: the way in of `codec.py`."""

from __future__ import annotations

import functools
import math
import struct
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.codec import (
    BITS,
    DTYPES,
    MAX_CHUNK_BYTES,
    Array,
    Buffer,
    CodecError,
    TooLargeError,
    Value,
    byte_count,
)

MAX_RANK = 64
# up to here what keeps large arrays from being copied twice takes longer than that
_SMALL_BYTES = 64 << 10


class Received(NamedTuple):
    """A complete value, and what it is in the call."""

    role: pb.ValueRole
    name: str
    value: Value


class Assembler:
    """Puts values together from their parts, straight into the arrays that the caller gets.

    Args:
        limit: bytes that all values may have together; None for no limit.
        empty: makes an array of a shape and a dtype, with arbitrary contents.
        shared: returns the array that lies in shared memory where a start says; None where nothing is shared.
    """

    def __init__(
        self,
        limit: int | None = None,
        empty: Callable[..., Array] = np.empty,
        shared: Callable[[pb.ValueStart], Array] | None = None,
    ) -> None:
        self._limit = limit
        self._empty = empty
        self._shared = shared
        self._total = 0
        self._open: _OpenValue | None = None

    @property
    def pending(self) -> str | None:
        """Name of the value whose bytes have not all come; None between values."""
        return self._open.start.name if self._open else None

    @property
    def total(self) -> int:
        """Bytes that all values so far have, by their layouts."""
        return self._total

    def feed(self, part: pb.ValuePart, data: Buffer | None = None) -> Received | None:
        """Takes the next part; returns the value that it completes.

        Args:
            part: a start or a chunk.
            data: its bytes, where they came beside the message (see `envelope.py`).

        Raises:
            CodecError: the part contradicts the layout, comes out of order or leaves a gap.
            TooLargeError: the values go beyond the limit.
        """
        which = part.WhichOneof("part")
        if which == "start":
            if self._open is not None:
                raise CodecError(f"{part.start.name!r} starts before {self.pending!r} has all its bytes")
            start, data = part.start, part.start.data if data is None else data
            if start.HasField("shared"):
                return self._lying(start)
            if start.layout.WhichOneof("layout") == "array":
                buffer = _Buffer(start.name, start.layout.array)
                if buffer.size == len(data):
                    self._count(start.name, buffer.size)
                    return Received(start.role, start.name, buffer.filled(data, self._empty))
            self._open = _OpenValue(start, self._count, self._empty)
            self._open.write(data)
        elif which == "chunk":
            self._chunk(part.chunk.offset, part.chunk.data if data is None else data)
        else:
            raise CodecError("a part must be a start or a chunk")
        if self._open is None or self._open.filled < self._open.size:
            return None
        done, self._open = self._open, None
        return Received(done.start.role, done.start.name, done.finish())

    def _lying(self, start: pb.ValueStart) -> Received:
        if self._shared is None:
            raise CodecError(f"{start.name!r} lies in shared memory, and the call shares none; send its bytes")
        self._count(start.name, start.shared.byte_count)
        return Received(start.role, start.name, self._shared(start))

    def _chunk(self, offset: int, data: Buffer) -> None:
        if self._open is None:
            raise CodecError("a chunk belongs to no value; send the value's start first")
        if offset != self._open.filled:
            raise CodecError(f"a chunk of {self.pending!r} starts at byte {offset}, not at {self._open.filled}")
        if len(data) > MAX_CHUNK_BYTES:
            raise CodecError(f"a chunk of {self.pending!r} has {len(data)} bytes, above {MAX_CHUNK_BYTES}")
        self._open.write(data)

    def _count(self, name: str, size: int) -> None:
        self._total += size
        if self._limit is not None and self._total > self._limit:
            raise TooLargeError(name, self._total, self._limit)


@functools.lru_cache(4096)
def _fault(data_type: int, shape: tuple[int, ...], announced: int) -> str:
    """Returns what is wrong with the layout of an array; nothing where it is right."""
    if data_type not in DTYPES:
        return f"has the unknown data type {data_type}"
    # numpy counts the other axes of an empty array too
    extent = math.prod(size or 1 for size in shape) * DTYPES[data_type].itemsize
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or extent > sys.maxsize:
        return f"has the impossible shape {list(shape)}"
    least = byte_count(data_type, shape)
    if announced < least or (announced != least and data_type != pb.DATA_TYPE_STRING):
        return f"announces {announced} bytes; its shape {list(shape)} needs {least}"
    return ""


class _Buffer:
    """The bytes of one array, and how they become the array."""

    def __init__(self, name: str, layout: pb.ArrayLayout) -> None:
        self.data_type = layout.data_type
        self.shape = tuple(layout.shape)
        self.size = layout.byte_count
        # what can't be is not kept: it may be of any length
        find = _fault if len(self.shape) <= MAX_RANK else _fault.__wrapped__
        fault = find(self.data_type, self.shape, self.size)
        if fault:
            raise CodecError(f"{name!r} {fault}")
        self.is_text = self.data_type == pb.DATA_TYPE_STRING
        self.bits = BITS.get(self.data_type)
        self.name = name

    def allocate(self, empty: Callable[..., Array]) -> None:
        whole = not self.is_text and not self.bits
        self.array = empty(self.shape, DTYPES[self.data_type]) if whole else None
        flat = np.empty(self.size, np.uint8) if self.array is None else self.array.reshape(-1).view(np.uint8)
        self.raw = flat
        self.view = flat.data

    def filled(self, data: Buffer, empty: Callable[..., Array]) -> Array:
        """Returns the array, whose bytes have all come."""
        if 0 < self.size <= _SMALL_BYTES and not self.is_text and not self.bits:
            small: Array = np.frombuffer(data, DTYPES[self.data_type]).reshape(self.shape).copy()
            return small
        self.allocate(empty)
        self.view[:] = data
        return self.finish()

    def finish(self) -> Array:
        if self.array is not None:
            return self.array
        if self.bits:
            count = math.prod(self.shape)
            return _unpack(self.raw, self.bits, self.data_type, count).reshape(self.shape)
        return self._strings()

    def _strings(self) -> Array:
        raw, at, texts = self.raw.tobytes(), 0, np.empty(math.prod(self.shape), object)
        for index in range(len(texts)):
            if at + 4 > len(raw):
                raise CodecError(f"{self.name!r} ends within its text {index}")
            (length,) = struct.unpack_from("<I", raw, at)
            if at + 4 + length > len(raw):
                raise CodecError(f"{self.name!r} ends within its text {index}")
            try:
                texts[index] = raw[at + 4 : at + 4 + length].decode()
            except UnicodeDecodeError as error:
                raise CodecError(f"{self.name!r}: text {index} is not UTF-8") from error
            at += 4 + length
        if at != len(raw):
            raise CodecError(f"{self.name!r} has {len(raw) - at} bytes after its last text")
        return texts.reshape(self.shape)


class _OpenValue:
    """A value that is being filled."""

    def __init__(self, start: pb.ValueStart, count: Callable[[str, int], None], empty: Callable[..., Array]) -> None:
        self.start = start
        self.filled = 0
        self._buffers: list[_Buffer] = []
        self._collect(start.layout)
        self.size = sum(buffer.size for buffer in self._buffers)
        count(start.name, self.size)
        for buffer in self._buffers:
            buffer.allocate(empty)
        self._at = (0, 0)

    def _collect(self, layout: pb.ValueLayout) -> None:
        which = layout.WhichOneof("layout")
        if which == "array":
            self._buffers.append(_Buffer(self.start.name, layout.array))
        elif which == "sequence":
            for item in layout.sequence.items:
                self._collect(item)
        elif which == "map":
            keys, values = (_Buffer(self.start.name, side) for side in (layout.map.keys, layout.map.values))
            if len(keys.shape) != 1 or keys.shape != values.shape:
                raise CodecError(f"{self.start.name!r} is a map whose keys and values don't pair")
            self._buffers += [keys, values]
        elif which is None:
            raise CodecError(f"{self.start.name!r} has no layout")

    def write(self, data: Buffer) -> None:
        if self.filled + len(data) > self.size:
            raise CodecError(f"{self.start.name!r} has more bytes than the {self.size} of its layout")
        self.filled += len(data)
        view, (index, offset) = memoryview(data), self._at
        while view:
            buffer = self._buffers[index]
            take = min(len(view), buffer.size - offset)
            buffer.view[offset : offset + take] = view[:take]
            view, offset = view[take:], offset + take
            if offset == buffer.size:
                index, offset = index + 1, 0
        self._at = (index, offset)

    def finish(self) -> Value:
        return self._build(self.start.layout, iter(self._buffers))

    def _build(self, layout: pb.ValueLayout, buffers: Iterator[_Buffer]) -> Value:
        which = layout.WhichOneof("layout")
        if which == "array":
            return next(buffers).finish()
        if which == "sequence":
            return [self._build(item, buffers) for item in layout.sequence.items]
        if which == "map":
            keys, values = next(buffers).finish(), next(buffers).finish()
            return dict(zip(keys.tolist(), values.tolist(), strict=True))
        return None


def _unpack(packed: Array, bits: int, data_type: int, count: int) -> Array:
    per_byte = 8 // bits
    lanes = np.empty((len(packed), per_byte), np.uint8)
    for lane in range(per_byte):
        lanes[:, lane] = (packed >> np.uint8(lane * bits)) & np.uint8((1 << bits) - 1)
    flat = lanes.reshape(-1)[:count]
    if data_type in (pb.DATA_TYPE_INT4, pb.DATA_TYPE_INT2):
        sign = 1 << (bits - 1)
        return ((flat.astype(np.int8) ^ sign) - sign).astype(DTYPES[data_type])
    if data_type == pb.DATA_TYPE_FLOAT4E2M1:
        return flat.view(DTYPES[data_type])
    return flat.astype(DTYPES[data_type])
