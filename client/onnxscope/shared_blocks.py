"""Memory that a server on this host shares: the connection over which blocks come, and the arrays that lie in them.

An array owns its block: the server writes there again only after the last array in it has died and the server was told.
When the server goes, arrays stay as they are. For Linux alone, so imported late.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import itertools
import math
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from onnxscope.errors import InternalError, StreamCutError
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import sharing
from onnxscope.v1.codec import Array
from onnxscope.v1.sharing import Lying, Record

_CONNECT_SECONDS = 1.0
_BLOCK_SECONDS = 5.0
_TICK_MS = 1000
_MOST_BLOCKS = 32_768
# blocks kept for values that are sent, and for how long; a server that lends none is not asked again at once
_SPARES = 16
_SPARE_SECONDS = 2.0
_ASK_SECONDS = 1.0
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def connect(socket_id: str, token: bytes) -> Connection | None:
    """Connects to a server's socket; None where it can't be reached, runs as another user or doesn't want us."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        server.settimeout(_CONNECT_SECONDS)
        server.connect(sharing.address(socket_id))
        if sharing.same_user(server):
            server.send(token)
            kind, number, _ = next(sharing.unpack(server.recv(sharing.PACKET_BYTES)), (0, 0, 0))
            if kind == Record.WELCOME:
                return Connection(server, token, lends=number > 0)
    except (OSError, ValueError, RuntimeError):
        # RuntimeError: no thread can be started
        pass
    server.close()
    return None


class Connection:
    """A server that shares memory with this process. Thread-safe; it ends when nobody refers to it any more.

    Args:
        server: the connected socket, which this owns.
        token: what it was opened with.
        lends: whether the server lends blocks.
    """

    def __init__(self, server: socket.socket, token: bytes, *, lends: bool = True) -> None:
        server.setblocking(False)
        self._token = token
        self._calls = itertools.count(1)
        self._state = _State(server, lends=lends)
        # the thread knows the state alone, and ends with the socket
        threading.Thread(target=self._state.listen, name="onnxscope-sharing", daemon=True).start()
        self._end = weakref.finalize(self, self._state.shut)

    @property
    def is_over(self) -> bool:
        """Whether it was ended, by either side; in a process that was forked off it always is."""
        return self._state.is_over

    def begin(self, *, whole: bool = False) -> pb.Sharing:
        """Returns what the first message of a call says; before, the server learns what it may use again."""
        self._state.flush()
        return pb.Sharing(token=self._token, call=next(self._calls), whole=whole)

    def say(self, kind: Record, number: int, count: int) -> None:
        """Says something to the server."""
        self._state.say(kind, number, count)

    def has(self, number: int) -> bool:
        """Returns whether a block has come; it was sent before the message that names it, on another way."""
        return number in self._state.blocks

    def wait_for(self, numbers: Iterable[int]) -> None:
        """Waits until blocks have come.

        Raises:
            StreamCutError: one doesn't, or the connection has broken.
        """
        for number in numbers:
            self._state.block(number)

    def array(self, lying: Lying) -> Array:
        """Returns an array that lies in a block. It is this process's, to write to as well, until it dies.

        Raises:
            StreamCutError: its block doesn't come, or the connection has broken.
            InternalError: the server broke the protocol.
        """
        return self._state.array_of(lying)

    def lend(self, byte_count: int) -> tuple[int, memoryview] | None:
        """Returns number and memory of a block that the server has lent to this process.

        Returns:
            None where there is none of about that size: the server is asked for one, for the next time.
        """
        return self._state.lend(byte_count)

    def give_back(self, number: int) -> None:
        """Says that a block that was lent is not needed any more."""
        self._state.put_by(number)

    def close(self) -> None:
        """Ends it; arrays live on."""
        self._end()


def _suits(block_bytes: int, byte_count: int) -> bool:
    """Returns whether a block is large enough for a value, and not much too large."""
    return byte_count <= block_bytes <= 4 * byte_count


class _Block(NamedTuple):
    byte_count: int
    memory: memoryview


class _Use(weakref.ref[Array]):
    """An array in a block, which every array made from it keeps alive."""

    __slots__ = ("number",)
    number: int


class _State:
    """What the thread, the arrays and the connection have in common."""

    def __init__(self, server: socket.socket, *, lends: bool) -> None:
        self._server = server
        self._lends = lends
        self._news = threading.Condition()
        self._outbox: deque[bytes] = deque()
        self._uses: dict[int, _Use] = {}
        # blocks that are lent and not in use: number, and since when; for which sizes the server was asked, and when
        self._spares: deque[tuple[int, float]] = deque()
        self._asked: dict[int, float] = {}
        self.blocks: dict[int, _Block] = {}
        self.is_over = False
        _states.add(self)

    def listen(self) -> None:
        """Takes in what the server says, until it ends."""
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        try:
            while self._hear() if poll.poll(_TICK_MS) else self._tidy():
                pass
        finally:
            self.is_over = True
            self.blocks.clear()
            with self._news:
                self._news.notify_all()
            self._server.close()

    def block(self, number: int) -> _Block:
        """Returns a block, which may still be on its way."""
        block = self.blocks.get(number)
        if block is None:
            with self._news:
                self._news.wait_for(lambda: self.is_over or number in self.blocks, _BLOCK_SECONDS)
            block = self.blocks.get(number)
        if block is None:
            raise StreamCutError("the memory that the server shared is gone; ask again")
        return block

    def array_of(self, lying: Lying) -> Array:
        """As `Connection.array`. The array's end, which is that of all arrays made from it, is told to the server."""
        number = lying.block
        block = self.blocks.get(number) or self.block(number)
        if number in self._uses:
            raise InternalError("the server sent a value in shared memory that is in use")
        try:
            array = lying.array(block.memory)
        except ValueError as error:
            raise InternalError(f"the server broke the protocol: {error}") from error
        use = self._uses[number] = _Use(array, self._died)
        use.number = number
        return array

    def lend(self, byte_count: int) -> tuple[int, memoryview] | None:
        """As `Connection.lend`."""
        for _ in range(len(self._spares)):
            try:
                spare = self._spares.popleft()
            except IndexError:
                break
            block = self.blocks.get(spare[0])
            if block is not None and _suits(block.byte_count, byte_count):
                return spare[0], block.memory
            self._spares.append(spare)
        self._ask(byte_count)
        return None

    def put_by(self, number: int) -> None:
        """Keeps a block that is lent and not in use."""
        self._spares.append((number, time.monotonic()))
        with contextlib.suppress(IndexError):
            while len(self._spares) > _SPARES:
                self._release(self._spares.popleft()[0])

    def _ask(self, byte_count: int) -> None:
        now = time.monotonic()
        if not self._lends or now < self._asked.get(byte_count, -math.inf) + _ASK_SECONDS:
            return
        if len(self._asked) >= _SPARES:
            self._asked.clear()
        self._asked[byte_count] = now
        self.say(Record.WANTED, 0, byte_count)

    def say(self, kind: Record, number: int, count: int = 0) -> None:
        """Says something to the server, as soon as it listens."""
        self._outbox.append(sharing.pack(kind, number, count))
        self.flush()

    def flush(self) -> bool:
        """Sends what waits to be said, as far as the server listens."""
        while packet := self._packet():
            try:
                self._server.send(b"".join(packet), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._outbox.extendleft(reversed(packet))
                break
            except OSError:
                self._outbox.clear()
        return True

    def shut(self) -> None:
        """Ends the connection, and with it the thread."""
        self.is_over = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    def keep(self) -> None:
        """Keeps the memory of arrays for ever: a process that is forked off has them too, and nobody says when not."""
        for number in list(self._uses):
            if self._uses.pop(number, None) is not None:
                self.blocks.pop(number, None)
                self.say(Record.KEPT, number)

    def abandon(self) -> None:
        """Leaves the connection to the process that this was forked from."""
        self.is_over = True
        self.blocks.clear()
        self._server.close()

    def _died(self, use: _Use) -> None:
        # runs wherever an array dies: takes no lock, and raises nothing
        if self._uses.pop(use.number, None) is not None and not sys.is_finalizing():
            self._release(use.number)

    def _release(self, number: int) -> None:
        # many die together: they share a packet, which goes with the next call or tick at the latest
        self._outbox.append(sharing.pack(Record.RELEASED, number))
        if len(self._outbox) >= sharing.PACKET_RECORDS:
            self.flush()

    def _tidy(self) -> bool:
        """Says what waits to be said, and releases blocks that are lent and were not used for a while."""
        before = time.monotonic() - _SPARE_SECONDS
        with contextlib.suppress(IndexError):
            while self._spares[0][1] < before:
                self._release(self._spares.popleft()[0])
        return self.flush()

    def _packet(self) -> list[bytes]:
        packet: list[bytes] = []
        # not by its length: an array that dies meanwhile may empty it
        with contextlib.suppress(IndexError):
            while len(packet) < sharing.PACKET_RECORDS:
                packet.append(self._outbox.popleft())
        return packet

    def _hear(self) -> bool:
        """Takes a record; returns whether there may be more."""
        descriptors = array.array("i")
        try:
            data, beside, _, _ = self._server.recvmsg(
                sharing.PACKET_BYTES, socket.CMSG_LEN(descriptors.itemsize), socket.MSG_CMSG_CLOEXEC
            )
            for level, kind, content in beside:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(content)
            return bool(data) and all(self._take(*record, descriptors) for record in sharing.unpack(data))
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _take(self, kind: int, number: int, count: int, descriptors: array.array[int]) -> bool:
        if kind == Record.BLOCK:
            (descriptor,) = descriptors
            is_whole = os.fstat(descriptor).st_size >= count > 0
            is_sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            if not is_whole or not is_sealed or number in self.blocks or len(self.blocks) >= _MOST_BLOCKS:
                return False
            self.blocks[number] = _Block(count, sharing.mapped(descriptor, count))
            with self._news:
                self._news.notify_all()
        elif kind == Record.DROPPED:
            self.blocks.pop(number, None)
        elif kind == Record.LENT and number in self.blocks:
            # a copy: callers may ask meanwhile
            for byte_count in list(self._asked):
                if _suits(self.blocks[number].byte_count, byte_count):
                    self._asked.pop(byte_count, None)
            self.put_by(number)
        return True


_states: weakref.WeakSet[_State] = weakref.WeakSet()


def _before_fork() -> None:
    for state in list(_states):
        state.keep()


def _in_child() -> None:
    for state in list(_states):
        state.abandon()


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
