"""Whether a scope shares memory with its server: found out by itself, and never a reason for a call to fail."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.errors import DeadlineExceededError, OnnxscopeError, UnavailableError
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.codec import Array
from onnxscope.v1.envelope import Carried
from onnxscope.v1.sharing import IS_SUPPORTED, TAKEN_BYTES, Lying, Record, is_shareable

if TYPE_CHECKING:
    from onnxscope.shared_blocks import Connection

_log = logging.getLogger(__name__)
_METHOD = "CaptureService/OpenSharedMemory"
_SECONDS = 1.0


class SharedCall:
    """A call whose answer may lie in shared memory.

    Args:
        connection: with the server.
        whole: whether nothing of the answer is used before all of it has come.

    Attributes:
        sharing: what the call's first message says of it.
        has_placed: whether values lie there that the server is to read.
    """

    def __init__(self, connection: Connection, *, whole: bool) -> None:
        self._connection = connection
        self.sharing = connection.begin(whole=whole)
        self._count = 0
        self._untold_bytes = 0
        self._lent: list[int] = []
        self.has_placed = False

    def array(self, lying: Lying) -> Array:
        """As `Connection.array`."""
        array = self._connection.array(lying)
        self._count += 1
        self._untold_bytes += lying.end - lying.offset
        return array

    def place(self, value: Array) -> tuple[int, int, int] | None:
        """Puts a copy of an array where the server can read it until the call ends.

        Returns:
            Number of the block, bytes before the array there, and its bytes; None where there is no room.
        """
        if not is_shareable(value.dtype, value.nbytes):
            return None
        found = self._connection.lend(value.nbytes)
        if found is None:
            return None
        number, memory = found
        self._lent.append(number)
        self.has_placed = True
        np.copyto(np.ndarray(value.shape, value.dtype, memory), value)
        return number, 0, value.nbytes

    def tell(self) -> None:
        """Tells the server how far the call has come, where it may wait for that: after every response but the last."""
        if self._untold_bytes >= TAKEN_BYTES:
            self._untold_bytes = 0
            self._connection.say(Record.TAKEN, self.sharing.call, self._count)

    async def arrival(self, response: Carried) -> None:
        """Waits for the memory that a response names, so that `array` has nothing to wait for.

        Raises:
            StreamCutError: it doesn't come.
        """
        numbers = blocks_of(response)
        if not all(map(self._connection.has, numbers)):
            await asyncio.to_thread(self._connection.wait_for, numbers)

    def end(self) -> None:
        """Says that nothing more of the answer will be read; arrays live on."""
        self._connection.say(Record.ENDED, self.sharing.call, self._count)
        while self._lent:
            self._connection.give_back(self._lent.pop())


class Sharing:
    """What a link knows of the memory that it shares with its server.

    The server is asked before the first call that may use it, and again when the connection has broken.

    Args:
        wanted: whether to share any.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._is_off = not (wanted and IS_SUPPORTED)
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._async_lock = asyncio.Lock()

    def begin(self, unary: Callable[..., Any], timeout: float | None, *, whole: bool = False) -> SharedCall | None:
        """Returns what a call may share; None for nothing.

        Args:
            unary: the link's.
            timeout: the call's.
            whole: whether nothing of the answer is used before all of it has come.
        """
        if self._asks:
            with self._lock:
                if self._asks:
                    try:
                        self._connect(unary(_METHOD, pb.OpenSharedMemoryRequest(), timeout=_limited(timeout)))
                    except OnnxscopeError as error:
                        self._failed(error)
        return self._call(whole=whole)

    async def begin_async(
        self,
        unary: Callable[..., Awaitable[Any]],
        timeout: float | None,  # noqa: ASYNC109  # gRPC keeps it
        *,
        whole: bool = False,
    ) -> SharedCall | None:
        """As `begin`, with an asynchronous link's `unary`."""
        if self._asks:
            async with self._async_lock:
                if self._asks:
                    try:
                        offer = await unary(_METHOD, pb.OpenSharedMemoryRequest(), timeout=_limited(timeout))
                        await asyncio.to_thread(self._connect, offer)
                    except OnnxscopeError as error:
                        self._failed(error)
        return self._call(whole=whole)

    def close(self) -> None:
        """Ends the connection; arrays live on."""
        self._is_off = True
        if self._connection is not None:
            self._connection.close()

    @property
    def _asks(self) -> bool:
        return not self._is_off and (self._connection is None or self._connection.is_over)

    def _call(self, *, whole: bool) -> SharedCall | None:
        connection = self._connection
        return None if connection is None or connection.is_over else SharedCall(connection, whole=whole)

    def _connect(self, offer: pb.OpenSharedMemoryResponse) -> None:
        from onnxscope.shared_blocks import connect  # noqa: PLC0415  # for Linux alone

        self._connection = connect(offer.socket_id, offer.token) if offer.socket_id else None
        if self._connection is None:
            self._is_off = True
            _log.debug("the server shares no memory, or is on another host: values come over the network")

    def _failed(self, error: OnnxscopeError) -> None:
        # a server that is away may come back; one that doesn't know the call will not learn it
        self._is_off = not isinstance(error, UnavailableError | DeadlineExceededError)
        _log.debug("no memory is shared: %s", error)


def blocks_of(response: Carried) -> list[int]:
    """Returns the numbers of the blocks that an answer names."""
    starts = [event.value.start for event in response.message.events if event.value.start.HasField("shared")]
    return [*(start.shared.block for start in starts), *(lying.block for lying in response.lying.values())]


def _limited(timeout: float | None) -> float:
    return _SECONDS if timeout is None else min(timeout, _SECONDS)
