"""The types and layouts of values in `onnxscope.v1` messages, and values in pieces: arrays on their way out.

Part of the protocol, so client and server share it; `assemble.py` is the way in, `envelope.py` the messages around the
pieces. A value is a numpy array in its own dtype (`ml_dtypes` for what
numpy lacks; strings are object arrays of `str`), a list of values, a dict, or None.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np

from onnxscope.v1 import tensor_pb2 as pb

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Value: TypeAlias = "Array | list[Value] | dict[Any, Any] | None"

Buffer: TypeAlias = "bytes | memoryview"

CHUNK_BYTES = 1 << 20
MAX_CHUNK_BYTES = 2 << 20

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
# up to here copying is quicker than what keeps a value from being copied
_SMALL_BYTES = 16 << 10
BITS: dict[int, int] = {
    pb.DATA_TYPE_UINT4: 4,
    pb.DATA_TYPE_INT4: 4,
    pb.DATA_TYPE_FLOAT4E2M1: 4,
    pb.DATA_TYPE_UINT2: 2,
    pb.DATA_TYPE_INT2: 2,
}


# types whose arrays are on the wire what `tobytes` gives
_COPIED = frozenset(
    dtype
    for dtype, number in DATA_TYPES.items()
    if number not in BITS and dtype.kind != "O" and (sys.byteorder == "little" or dtype.itemsize == 1)
)


class CodecError(ValueError):
    """Bytes and layout contradict each other, or a value has no place on the wire."""


class TooLargeError(CodecError):
    """A value goes beyond the receiver's limit."""

    def __init__(self, name: str, byte_count: int, limit: int) -> None:
        super().__init__(f"{name!r} brings the call to {byte_count} bytes, above the limit of {limit}")
        self.byte_count = byte_count
        self.limit = limit


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
    bits = BITS.get(data_type)
    return -(-count * bits // 8) if bits else count * DTYPES[data_type].itemsize


class Part(NamedTuple):
    """A piece of a value on its way out, not copied yet.

    Attributes:
        header: role, name and layout, for the first piece of a value, as a message or serialised; None for the others.
        offset: bytes of the value before this piece.
        data: the piece; of an array it is the array's own memory.
    """

    header: pb.ValueStart | bytes | None
    offset: int
    data: Buffer


def parts(role: pb.ValueRole, name: str, value: Value) -> Iterator[Part]:
    """Yields the pieces of a value: a start, and chunks of 1 MiB where it is larger."""
    buffers: list[memoryview] = []
    header: pb.ValueStart | bytes
    if isinstance(value, np.ndarray) and value.nbytes <= _SMALL_BYTES and value.dtype in _COPIED:
        yield Part(array_header(role, name, value.dtype, value.shape), 0, value.tobytes())
        return
    if isinstance(value, np.ndarray) and value.dtype in DATA_TYPES and value.dtype.kind != "O":
        buffers.append(_encode(value, DATA_TYPES[value.dtype]))
        header = array_header(role, name, value.dtype, value.shape)
    else:
        header = pb.ValueStart(role=role, name=name, layout=_layout(value, buffers))
    pending = _pieces(buffers)
    first = next(pending, b"")
    yield Part(header, 0, first)
    offset = len(first)
    for piece in pending:
        yield Part(None, offset, piece)
        offset += len(piece)


@functools.lru_cache(4096)
def array_header(role: pb.ValueRole, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Returns the `ValueStart` of an array of numbers, serialised, but for its data; the same for all its runs."""
    data_type = DATA_TYPES[dtype]
    layout = pb.ArrayLayout(data_type=data_type, shape=shape, byte_count=byte_count(data_type, shape))
    return pb.ValueStart(role=role, name=name, layout=pb.ValueLayout(array=layout)).SerializeToString()


def _pieces(buffers: list[memoryview]) -> Iterator[Buffer]:
    """Yields all bytes in pieces of at most a chunk; those of several buffers share pieces."""
    if len(buffers) == 1:
        (buffer,) = buffers
        yield from (buffer[at : at + CHUNK_BYTES] for at in range(0, len(buffer), CHUNK_BYTES))
        return
    waiting = bytearray()
    for buffer in buffers:
        for at in range(0, len(buffer), CHUNK_BYTES):
            waiting += buffer[at : at + CHUNK_BYTES]
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
    bits = BITS.get(data_type)
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
