"""One client with which the server shares memory, and what a call of its gets of that."""

from __future__ import annotations

import array
import asyncio
import contextlib
import functools
import math
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from onnxscope.v1 import sharing
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.codec import CodecError
from onnxscope.v1.sharing import Lying, Record
from onnxscope_server.domain import Array, Value
from onnxscope_server.result_domain import Destination
from onnxscope_server.wire.blocks import Allowance, Block, Blocks

# what may be sent before the client has taken it, as gRPC's flow control does for what lies in messages
AHEAD_BYTES = 16 << 20
_CALLS_KEPT = 4096


class Location(NamedTuple):
    """Where an array lies: number of the block, bytes before it there, and its bytes."""

    block: int
    offset: int
    byte_count: int


class Share:
    """What one call gets of the memory that its client shares with the server. Thread-safe.

    Args:
        connection: with the client.
        sent: what the client was told of in this call.
    """

    def __init__(self, connection: Connection, sent: _Sent) -> None:
        self._connection = connection
        self._sent = sent

    def empty(self, destination: Destination) -> Array | None:
        """Returns an array for an output to be written into, which need not be copied then: a `result_domain.Memory`.

        The memory is used again when the last array in it has died, whether it was given or not.

        Returns:
            The array, the server's own for what is small; None for text and for types of several elements a byte, and
            where all memory is in use or the client has gone.
        """
        dtype, is_shared = _dtype(destination)
        if is_shared:
            return self._connection.empty(destination.shape, dtype, destination)
        return None if dtype is None else np.empty(destination.shape, dtype)

    def put(self, value: Array) -> Array | None:
        """Returns a copy of an array that `give` can give; None as `empty`."""
        can = sharing.is_shareable(value.dtype, value.nbytes)
        copy = self._connection.empty(value.shape, value.dtype) if can else None
        if copy is not None:
            np.copyto(copy, value)
        return copy

    def give(self, values: Mapping[str, Value]) -> dict[str, Location]:
        """Gives arrays to the client, which may write there at once: nobody may read or write them here afterwards.

        Called in the order in which the values are sent.

        Returns:
            Where they lie, without those that lie elsewhere, or in a block of which something was given before; nothing
            where the client has gone.
        """
        return self._connection.give(values, self._sent)

    def block_of(self, value: Array) -> int | None:
        """Returns the number of the block that an array lies in; None where it lies elsewhere, or was given."""
        return self._connection.block_of(value)

    def held(self, start: pb.ValueStart) -> Array:
        """Returns the array that the client has put into a block that it holds, where a message says; to be read only.

        Raises:
            CodecError: the client holds no such block, or there can be no such array.
        """
        memory = self._connection.held(start.shared.block)
        if memory is None:
            raise CodecError(f"{start.name!r} lies in block {start.shared.block}, which the client does not hold")
        try:
            array = Lying.of(start).array(memory)
        except ValueError as error:
            raise CodecError(str(error)) from error
        array.flags.writeable = False
        return array

    async def room(self) -> None:
        """Waits as long as the client has not taken what was given it, but for `AHEAD_BYTES`."""
        while (waiter := self._connection.waiter(self._sent)) is not None:
            await waiter

    def close(self) -> None:
        """Says that the server sends nothing more in this call."""
        self._connection.finish(self._sent)


@functools.lru_cache(4096)
def _dtype(destination: Destination) -> tuple[Any, bool]:
    """Returns the dtype of what is written there, and whether it is to lie in a block; None for what can't be."""
    dtype = sharing.DTYPES.get(destination.data_type)
    if dtype is None:
        return None, False
    return dtype, sharing.is_shareable(dtype, math.prod(destination.shape) * dtype.itemsize)


class _Sent:
    """What the client was told of in one call, and how much of that it has taken. Used under the connection's lock."""

    def __init__(self, call: int) -> None:
        self.call = call
        self.is_over = False
        self._open: deque[tuple[Block, int, int]] = deque()
        self._taken_count = 0
        self._open_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the client has taken all of it."""
        return not self._open

    def add(self, block: Block, byte_count: int) -> None:
        """Counts a value that is sent."""
        self._open.append((block, block.sent_count, byte_count))
        self._open_bytes += byte_count

    def take(self, count: int) -> bool:
        """Takes the client's word that this many have come; returns whether that can be."""
        if count > self._taken_count + len(self._open):
            return False
        while self._taken_count < count:
            self._open_bytes -= self._open.popleft()[2]
            self._taken_count += 1
        self._wake()
        return True

    def end(self) -> list[Block]:
        """Ends the call on the client's side; returns the blocks that it never took."""
        self.is_over = True
        self._wake()
        held = [block for block, sent_count, _ in self._open if block.is_held and block.sent_count == sent_count]
        # whoever still knows this call keeps no memory by that
        self._open.clear()
        return held

    def waiter(self) -> asyncio.Future[None] | None:
        """Returns what to wait for; None where there is room."""
        if self._has_room():
            return None
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _has_room(self) -> bool:
        return self.is_over or self._open_bytes <= AHEAD_BYTES

    def _wake(self) -> None:
        if self._waiter is not None and self._has_room():
            # RuntimeError: its loop is closed
            with contextlib.suppress(RuntimeError):
                self._waiter.get_loop().call_soon_threadsafe(_resolve, self._waiter)
            self._waiter = None


def _is_as_sent(value: Array) -> bool:
    return value.flags.c_contiguous and value.dtype in sharing.DATA_TYPES


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Connection:
    """A client on this host that shares memory with the server. Thread-safe.

    Args:
        client: the connected socket, which this owns.
        allowance: what the blocks of all clients may take.
    """

    def __init__(self, client: socket.socket, allowance: Allowance) -> None:
        client.setblocking(False)
        self._client = client
        self._lock = threading.Lock()
        self._blocks = Blocks(allowance, self._tell)
        self._calls: dict[int, _Sent] = {}
        # calls that the client ended before they began
        self._stillborn: OrderedDict[int, None] = OrderedDict()
        self._is_closed = False

    @property
    def is_empty(self) -> bool:
        """Whether no array lies in a block of it any more, after `close`."""
        with self._lock:
            self._blocks.settle()
            return self._blocks.is_empty

    def welcome(self) -> None:
        """Tells the client that it is one."""
        self._tell(Record.WELCOME, 1, 0, None)

    def share(self, call: int) -> Share | None:
        """Returns what a call gets; None where it gets nothing."""
        with self._lock:
            if self._is_closed or call in self._calls or call in self._stillborn or len(self._calls) >= _CALLS_KEPT:
                return None
            sent = self._calls[call] = _Sent(call)
            return Share(self, sent)

    def hear(self) -> bool:
        """Takes in what the client has said; returns False when it has gone or broken the protocol."""
        with self._lock:
            return self._hear()

    def sweep(self, before: float) -> None:
        """Gives back memory that has been free since before a time, `time.monotonic`."""
        with self._lock:
            self._blocks.settle()
            idle = list(self._blocks.idle(before))
        # unmapping takes a while: not under the lock
        del idle

    def close(self) -> None:
        """Lets go of the client, and of all its blocks but those in which arrays lie."""
        with self._lock:
            self._is_closed = True
            self._client.close()
            for sent in self._calls.values():
                sent.end()
            self._calls.clear()
            self._blocks.close()

    def empty(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], destination: Destination | None = None
    ) -> Array | None:
        """Returns an array in a block; None where there is none. Arguments are as of `Blocks.reused`."""
        with self._lock:
            found = self._blocks.reused(shape, dtype, destination)
            if found is None and self._hear():
                # the client may just have released one, and memory that was written before is worth a look
                found = self._blocks.reused(shape, dtype, destination)
                return self._blocks.made(shape, dtype, destination) if found is None else found
            return found

    def give(self, values: Mapping[str, Value], sent: _Sent) -> dict[str, Location]:
        """As `Share.give`."""
        given: dict[str, Location] = {}
        with self._lock:
            if sent.is_over:
                return given
            for name, value in values.items():
                if not isinstance(value, np.ndarray):
                    continue
                block, offset = self._blocks.find(value) or (None, 0)
                if block is None or block.is_sent or not _is_as_sent(value):
                    continue
                block.is_sent = block.is_held = True
                block.sent_count += 1
                sent.add(block, value.nbytes)
                given[name] = Location(block.number, offset, value.nbytes)
        return given

    def held(self, number: int) -> memoryview | None:
        """Returns the memory of a block that the client holds; None where it does not."""
        with self._lock:
            return self._blocks.held(number)

    def block_of(self, value: Array) -> int | None:
        """As `Share.block_of`."""
        found = self._blocks.find(value)
        return None if found is None or found[0].is_sent else found[0].number

    def waiter(self, sent: _Sent) -> asyncio.Future[None] | None:
        """Returns what to wait for until a call has room."""
        with self._lock:
            return sent.waiter()

    def finish(self, sent: _Sent) -> None:
        """Forgets a call of which the client has nothing more to say."""
        with self._lock:
            if sent.is_taken:
                self._calls.pop(sent.call, None)

    def _tell(self, kind: Record, number: int, count: int, descriptor: int | None) -> bool:
        beside = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        try:
            self._client.sendmsg([sharing.pack(kind, number, count)], beside, socket.MSG_NOSIGNAL)
        except OSError:
            # it has gone, or does not read: then this is said later or never
            return False
        return True

    def _hear(self) -> bool:
        while not self._is_closed:
            try:
                data = self._client.recv(sharing.PACKET_BYTES)
                if not data or not all(self._take(*record) for record in sharing.unpack(data)):
                    break
            except BlockingIOError:
                return True
            except (OSError, ValueError):
                break
        if not self._is_closed:
            # whoever hears next hears the end
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
        return False

    def _take(self, kind: int, number: int, count: int) -> bool:
        """Takes a record; returns whether it has a meaning."""
        match kind:
            case Record.RELEASED | Record.KEPT:
                return self._blocks.release(number, for_ever=kind == Record.KEPT)
            case Record.TAKEN:
                # a call that has ended needs to know no more
                return number not in self._calls or self._calls[number].take(count)
            case Record.ENDED:
                return self._end(number, count)
            case Record.WANTED:
                self._lend(count)
                return True
        return False

    def _lend(self, byte_count: int) -> None:
        block = self._blocks.lend(byte_count) if byte_count > 0 else None
        if block is not None and not self._tell(Record.LENT, block.number, 0, None):
            self._blocks.let_go(block)

    def _end(self, call: int, count: int) -> bool:
        sent = self._calls.pop(call, None)
        if sent is None:
            self._stillborn[call] = None
            while len(self._stillborn) > _CALLS_KEPT:
                self._stillborn.popitem(last=False)
            return True
        is_possible = sent.take(count)
        for block in sent.end():
            self._blocks.let_go(block)
        return is_possible
