"""Arrays in and out of `onnxscope.v1` messages: the one place that knows how bytes are laid out.

Part of the protocol, so client and server share it. A value is a numpy array in its own dtype (`ml_dtypes` for what
numpy lacks; strings are object arrays of `str`), a list of values, a dict, or None.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from onnxscope.v1 import tensor_pb2 as pb

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Value: TypeAlias = "Array | list[Value] | dict[Any, Any] | None"

CHUNK_BYTES = 1 << 20
_FRAME_BYTES = 32
MAX_CHUNK_BYTES = 2 << 20
MAX_RANK = 64

DTYPES: dict[int, np.dtype[Any]] = {
    pb.DATA_TYPE_FLOAT32: np.dtype(np.float32),
    pb.DATA_TYPE_UINT8: np.dtype(np.uint8),
    pb.DATA_TYPE_INT8: np.dtype(np.int8),
    pb.DATA_TYPE_UINT16: np.dtype(np.uint16),
    pb.DATA_TYPE_INT16: np.dtype(np.int16),
    pb.DATA_TYPE_INT32: np.dtype(np.int32),
    pb.DATA_TYPE_INT64: np.dtype(np.int64),
    pb.DATA_TYPE_STRING: np.dtype(object),
    pb.DATA_TYPE_BOOL: np.dtype(np.bool_),
    pb.DATA_TYPE_FLOAT16: np.dtype(np.float16),
    pb.DATA_TYPE_FLOAT64: np.dtype(np.float64),
    pb.DATA_TYPE_UINT32: np.dtype(np.uint32),
    pb.DATA_TYPE_UINT64: np.dtype(np.uint64),
    pb.DATA_TYPE_COMPLEX64: np.dtype(np.complex64),
    pb.DATA_TYPE_COMPLEX128: np.dtype(np.complex128),
    pb.DATA_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    pb.DATA_TYPE_FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    pb.DATA_TYPE_FLOAT8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    pb.DATA_TYPE_FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    pb.DATA_TYPE_FLOAT8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    pb.DATA_TYPE_UINT4: np.dtype(ml_dtypes.uint4),
    pb.DATA_TYPE_INT4: np.dtype(ml_dtypes.int4),
    pb.DATA_TYPE_FLOAT4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    pb.DATA_TYPE_FLOAT8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    pb.DATA_TYPE_UINT2: np.dtype(ml_dtypes.uint2),
    pb.DATA_TYPE_INT2: np.dtype(ml_dtypes.int2),
}
DATA_TYPES: dict[np.dtype[Any], Any] = {dtype: number for number, dtype in DTYPES.items()}
_BITS: dict[int, int] = {
    pb.DATA_TYPE_UINT4: 4,
    pb.DATA_TYPE_INT4: 4,
    pb.DATA_TYPE_FLOAT4E2M1: 4,
    pb.DATA_TYPE_UINT2: 2,
    pb.DATA_TYPE_INT2: 2,
}


class CodecError(ValueError):
    """Bytes and layout contradict each other, or a value has no place on the wire."""


class TooLargeError(CodecError):
    """A value goes beyond the receiver's limit."""

    def __init__(self, name: str, byte_count: int, limit: int) -> None:
        super().__init__(f"{name!r} brings the call to {byte_count} bytes, above the limit of {limit}")
        self.byte_count = byte_count
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Received:
    """A complete value, and what it is in the call."""

    role: pb.ValueRole
    name: str
    value: Value


def dtype_name(data_type: int) -> str:
    """Returns the name that users see: numpy's or ml_dtypes' own, and `string`."""
    return "string" if data_type == pb.DATA_TYPE_STRING else DTYPES[data_type].name


def data_type_of(array: Array) -> Any:
    """Returns the wire type of an array's dtype; text of any numpy kind is STRING."""
    if array.dtype.kind in "OUST":
        return pb.DATA_TYPE_STRING
    dtype = array.dtype.newbyteorder("=") if array.dtype.isbuiltin == 1 or array.dtype.byteorder == ">" else array.dtype
    found = DATA_TYPES.get(dtype)
    if found is None:
        raise CodecError(f"dtype {array.dtype} has no ONNX type")
    return found


def byte_count(data_type: int, shape: tuple[int, ...]) -> int:
    """Returns the bytes of an array on the wire; of a string array its smallest size."""
    count = math.prod(shape)
    if data_type == pb.DATA_TYPE_STRING:
        return 4 * count
    bits = _BITS.get(data_type)
    return -(-count * bits // 8) if bits else count * DTYPES[data_type].itemsize


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a value on its way out: written straight into the message that carries it, copied once.

    Attributes:
        header: role, name and layout, for the first piece of a value; None for the others.
        offset: bytes of the value before this piece.
        data: the piece.
    """

    header: pb.ValueStart | None
    offset: int
    data: bytes

    @property
    def byte_count(self) -> int:
        """About how many bytes it takes on the wire."""
        return len(self.data) + (self.header.ByteSize() if self.header is not None else 0) + _FRAME_BYTES

    def write(self, into: pb.ValuePart) -> None:
        """Fills an empty message."""
        if self.header is not None:
            into.start.CopyFrom(self.header)
            into.start.data = self.data
        else:
            into.chunk.offset = self.offset
            into.chunk.data = self.data

    def message(self) -> pb.ValuePart:
        """Returns a message of its own."""
        part = pb.ValuePart()
        self.write(part)
        return part


def parts(role: pb.ValueRole, name: str, value: Value) -> Iterator[Part]:
    """Yields the pieces of a value: a start, and chunks of 1 MiB where it is larger."""
    buffers: list[memoryview] = []
    header = pb.ValueStart(role=role, name=name, layout=_layout(value, buffers))
    pending = _pieces(buffers)
    first = next(pending, b"")
    yield Part(header, 0, first)
    offset = len(first)
    for piece in pending:
        yield Part(None, offset, piece)
        offset += len(piece)


def _pieces(buffers: list[memoryview]) -> Iterator[bytes]:
    """Yields all bytes in pieces of at most a chunk; small buffers share a piece."""
    waiting = bytearray()
    for buffer in buffers:
        for at in range(0, len(buffer), CHUNK_BYTES):
            piece = buffer[at : at + CHUNK_BYTES]
            if not waiting and len(piece) == CHUNK_BYTES:
                yield bytes(piece)
                continue
            waiting += piece
            if len(waiting) >= CHUNK_BYTES:
                yield bytes(waiting[:CHUNK_BYTES])
                del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


def _layout(value: Value, buffers: list[memoryview]) -> pb.ValueLayout:
    if value is None:
        return pb.ValueLayout(absent=pb.AbsentLayout())
    if isinstance(value, list | tuple):
        return pb.ValueLayout(sequence=pb.SequenceLayout(items=[_layout(item, buffers) for item in value]))
    if isinstance(value, dict):
        keys, values = _column(list(value)), _column(list(value.values()))
        return pb.ValueLayout(
            map=pb.MapLayout(keys=_array_layout(keys, buffers), values=_array_layout(values, buffers))
        )
    return pb.ValueLayout(array=_array_layout(np.asarray(value), buffers))


def _column(items: list[Any]) -> Array:
    if items and isinstance(items[0], str):
        return np.array(items, dtype=object)
    return np.array(items)


def _array_layout(array: Array, buffers: list[memoryview]) -> pb.ArrayLayout:
    data_type = data_type_of(array)
    buffer = _encode(array, data_type)
    buffers.append(buffer)
    return pb.ArrayLayout(data_type=data_type, shape=array.shape, byte_count=len(buffer))


def _encode(array: Array, data_type: int) -> memoryview:
    if data_type == pb.DATA_TYPE_STRING:
        encoded = [_text(item) for item in array.reshape(-1).tolist()]
        return memoryview(b"".join(struct.pack("<I", len(item)) + item for item in encoded))
    little = array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.byteorder == ">" else array
    raw = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    bits = _BITS.get(data_type)
    return (_pack(raw, bits) if bits else raw).data


def _text(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise CodecError(f"an array of objects must hold str, not {type(item).__name__}")


def _pack(raw: Array, bits: int) -> Array:
    per_byte = 8 // bits
    lanes = np.zeros(-(-len(raw) // per_byte) * per_byte, np.uint8)
    lanes[: len(raw)] = raw & ((1 << bits) - 1)
    packed = np.zeros(len(lanes) // per_byte, np.uint8)
    for lane in range(per_byte):
        packed |= lanes[lane::per_byte] << np.uint8(lane * bits)
    return packed


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


class Assembler:
    """Puts values together from their parts, straight into the arrays that the caller gets.

    Args:
        limit: bytes that all values may have together; None for no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
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

    def feed(self, part: pb.ValuePart) -> Received | None:
        """Takes the next part; returns the value that it completes.

        Raises:
            CodecError: the part contradicts the layout, comes out of order or leaves a gap.
            TooLargeError: the values go beyond the limit.
        """
        which = part.WhichOneof("part")
        if which == "start":
            if self._open is not None:
                raise CodecError(f"{part.start.name!r} starts before {self.pending!r} has all its bytes")
            self._open = _OpenValue(part.start, self._count)
            self._open.write(part.start.data)
        elif which == "chunk":
            if self._open is None:
                raise CodecError("a chunk belongs to no value; send the value's start first")
            if part.chunk.offset != self._open.filled:
                raise CodecError(
                    f"a chunk of {self.pending!r} starts at byte {part.chunk.offset}, not at {self._open.filled}"
                )
            if len(part.chunk.data) > MAX_CHUNK_BYTES:
                raise CodecError(
                    f"a chunk of {self.pending!r} has {len(part.chunk.data)} bytes, above {MAX_CHUNK_BYTES}"
                )
            self._open.write(part.chunk.data)
        else:
            raise CodecError("a part must be a start or a chunk")
        if self._open.filled < self._open.size:
            return None
        done, self._open = self._open, None
        return Received(done.start.role, done.start.name, done.finish())

    def _count(self, name: str, size: int) -> None:
        self._total += size
        if self._limit is not None and self._total > self._limit:
            raise TooLargeError(name, self._total, self._limit)


class _Buffer:
    """The bytes of one array, and how they become the array."""

    def __init__(self, name: str, layout: pb.ArrayLayout) -> None:
        self.data_type = layout.data_type
        self.shape = tuple(layout.shape)
        if self.data_type not in DTYPES:
            raise CodecError(f"{name!r} has the unknown data type {self.data_type}")
        # numpy counts the other axes of an empty array too
        extent = math.prod(size or 1 for size in self.shape) * DTYPES[self.data_type].itemsize
        if len(self.shape) > MAX_RANK or any(size < 0 for size in self.shape) or extent > sys.maxsize:
            raise CodecError(f"{name!r} has the impossible shape {list(self.shape)}")
        least = byte_count(self.data_type, self.shape)
        self.is_text = self.data_type == pb.DATA_TYPE_STRING
        if layout.byte_count < least or (layout.byte_count != least and not self.is_text):
            raise CodecError(
                f"{name!r} announces {layout.byte_count} bytes; its shape {list(self.shape)} needs {least}"
            )
        self.size = int(layout.byte_count)
        self.bits = _BITS.get(self.data_type)
        self.name = name

    def allocate(self) -> None:
        whole = not self.is_text and not self.bits
        self.array = np.empty(self.shape, DTYPES[self.data_type]) if whole else None
        flat = np.empty(self.size, np.uint8) if self.array is None else self.array.reshape(-1).view(np.uint8)
        self.raw = flat
        self.view = flat.data

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

    def __init__(self, start: pb.ValueStart, count: Any) -> None:
        self.start = start
        self.filled = 0
        self._buffers: list[_Buffer] = []
        self._collect(start.layout)
        self.size = sum(buffer.size for buffer in self._buffers)
        count(start.name, self.size)
        for buffer in self._buffers:
            buffer.allocate()
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

    def write(self, data: bytes) -> None:
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
