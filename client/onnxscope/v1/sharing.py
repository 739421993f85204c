"""What client and server say to each other about memory that they share on one host.

Part of the protocol, described in docs/sharing.md. A block is memory without a name: the server makes it, and hands it
to the client as a descriptor beside a `Record.BLOCK`. Neither side keeps descriptors: the mapping holds the memory.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import os
import socket
import struct
import sys
import weakref
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.assemble import MAX_RANK
from onnxscope.v1.codec import Array

IS_SUPPORTED = sys.platform == "linux" and sys.byteorder == "little" and hasattr(os, "memfd_create")
SMALLEST_BYTES = 64 << 10
TOKEN_BYTES = 16
# records travel in packets of one or more
RECORD_BYTES = 24
PACKET_RECORDS = 64
PACKET_BYTES = PACKET_RECORDS * RECORD_BYTES
# who has read this much of a call says so
TAKEN_BYTES = 4 << 20
_RECORD = struct.Struct("<QQQ")
_CREDENTIALS = struct.Struct("3i")
_NOT_WHOLE_BYTES = (
    pb.DATA_TYPE_STRING,
    pb.DATA_TYPE_UINT4,
    pb.DATA_TYPE_INT4,
    pb.DATA_TYPE_FLOAT4E2M1,
    pb.DATA_TYPE_UINT2,
    pb.DATA_TYPE_INT2,
)

# types whose arrays lie in memory as they do on the wire
DTYPES = {number: dtype for number, dtype in codec.DTYPES.items() if number not in _NOT_WHOLE_BYTES}
DATA_TYPES: dict[np.dtype[Any], Any] = {dtype: number for number, dtype in DTYPES.items()}


class Record(IntEnum):
    """What a record says; each has a number and a count."""

    # from the server
    WELCOME = 1  # the token was right; `number` is 1 where WANTED is known
    BLOCK = 2  # block `number` has `count` bytes; its descriptor is beside
    DROPPED = 3  # block `number` is not used any more
    LENT = 9  # block `number` is the client's to write in, until it is released
    # from the client
    RELEASED = 4  # block `number` may be written again
    KEPT = 5  # block `number` is the client's for ever
    TAKEN = 6  # of the shared values of call `number`, `count` have come
    ENDED = 7  # nothing more of call `number` will be read; `count` have come
    WANTED = 8  # a block of `count` bytes would be of use


def pack(kind: Record, number: int = 0, count: int = 0) -> bytes:
    """Returns a record's bytes."""
    return _RECORD.pack(kind, number, count)


def unpack(packet: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields kind, number and count of every record.

    Raises:
        ValueError: the bytes are no records.
    """
    if len(packet) % RECORD_BYTES:
        raise ValueError(f"{len(packet)} bytes are no records, which have {RECORD_BYTES}")
    yield from _RECORD.iter_unpack(packet)


def address(socket_id: str) -> str:
    """Returns where the socket of a server is; nobody but onnxscope listens at such an address."""
    return f"\0onnxscope-{socket_id}"


def same_user(connection: socket.socket) -> bool:
    """Returns whether the process at the other end runs as the user of this one."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return bool(user == os.geteuid())


def is_shareable(dtype: np.dtype[Any], byte_count: int) -> bool:
    """Returns whether arrays of this type and size may lie in a block."""
    return byte_count >= SMALLEST_BYTES and dtype in DATA_TYPES


class Lying(NamedTuple):
    """An array that lies in a block, as a message says.

    Attributes:
        role: of the value.
        name: of the value.
        block: number of the block.
        shape: of the array.
        dtype: of the array.
        offset: bytes before it in the block.
        end: bytes up to its end.
    """

    role: pb.ValueRole
    name: str
    block: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    end: int

    @classmethod
    def of(cls, start: pb.ValueStart) -> Lying:
        """Reads a message that has `shared`.

        Raises:
            ValueError: there can be no such array.
        """
        shared, layout = start.shared, start.layout.array
        dtype, shape = DTYPES.get(layout.data_type), tuple(layout.shape)
        if dtype is None or len(shape) > MAX_RANK or min(shape, default=0) < 0:
            raise ValueError(f"{start.name!r} has a layout that no shared memory has")
        byte_count = math.prod(shape) * dtype.itemsize
        if not shared.byte_count == layout.byte_count == byte_count > 0 or shared.offset % dtype.itemsize:
            raise ValueError(f"{start.name!r} has an extent that no shared memory has")
        return cls(start.role, start.name, shared.block, shape, dtype, shared.offset, shared.offset + byte_count)

    def array(self, memory: memoryview) -> Array:
        """Returns the array, where it lies.

        Args:
            memory: all of its block.

        Raises:
            ValueError: the block is smaller.
        """
        if self.end > memory.nbytes:
            raise ValueError(f"{self.name!r} has an extent that its shared memory does not have")
        return np.ndarray(self.shape, self.dtype, memory, self.offset)


def mapped(descriptor: int, byte_count: int) -> memoryview:
    """Maps a block, writable; arrays made from the result keep it mapped. The descriptor may be closed afterwards.

    Raises:
        OSError: the system refuses.
    """
    libc = _libc()
    # Python's own `mmap` would keep a descriptor open for every block
    where = libc.mmap(None, byte_count, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if where == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # no array of numpy's: what is made from an array in the block then has that one as its base
    memory = (ctypes.c_ubyte * byte_count).from_address(where)
    weakref.finalize(memory, libc.munmap, where, byte_count).atexit = False
    return memoryview(memory)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc
