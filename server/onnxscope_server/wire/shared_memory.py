"""Memory that the server shares with clients on its host: how they come to it, and when it is given back.

A client gets a token over gRPC and brings it to a Unix socket in Linux's abstract namespace, which reaches no other
host and no other network namespace. Blocks have no names anywhere: when both processes have gone, so has the memory.
"""

from __future__ import annotations

import functools
import logging
import secrets
import selectors
import socket
import threading
import time
from typing import NamedTuple

from onnxscope.v1 import sharing
from onnxscope_server.wire.blocks import Allowance
from onnxscope_server.wire.share import Connection, Share

_log = logging.getLogger(__name__)
_TOKEN_SECONDS = 10.0
_TOKENS_KEPT = 1024
_GREETING_SECONDS = 2.0
_GUESTS_KEPT = 64
# somebody who works step by step comes back within that; to make memory again takes longer than most runs
_IDLE_SECONDS = 10.0
_SHORT_SECONDS = 0.05


class Offer(NamedTuple):
    """What a client needs to come: see OpenSharedMemoryResponse."""

    socket_id: str
    token: bytes


class SharedMemory:
    """Shares memory with clients. Nothing is opened before one asks. Thread-safe.

    Args:
        limit: bytes that all blocks may have together; 0 shares none.
        idle_seconds: how long memory may be unused before it is given back. Default: ten seconds.
    """

    def __init__(self, limit: int, idle_seconds: float | None = None) -> None:
        self._allowance = Allowance(limit)
        self._is_off = limit == 0 or not sharing.IS_SUPPORTED
        self._idle_seconds = _IDLE_SECONDS if idle_seconds is None else idle_seconds
        self._lock = threading.Lock()
        self._tokens: dict[bytes, float] = {}
        self._connections: dict[bytes, Connection] = {}
        self._door: _Door | None = None

    @property
    def byte_count(self) -> int:
        """Bytes of all blocks there are."""
        return self._allowance.byte_count

    def offer(self) -> Offer | None:
        """Lets one more client come; None where no memory is shared."""
        with self._lock:
            if self._is_off:
                return None
            if self._door is None:
                try:
                    self._door = _Door(self, self._idle_seconds)
                except OSError as error:
                    _log.warning("no shared memory: %s", error)
                    self._is_off = True
                    return None
            now = time.monotonic()
            for token in [token for token, until in self._tokens.items() if until < now]:
                del self._tokens[token]
            if len(self._tokens) >= _TOKENS_KEPT:
                return None
            token = secrets.token_bytes(sharing.TOKEN_BYTES)
            self._tokens[token] = now + _TOKEN_SECONDS
            return Offer(self._door.socket_id, token)

    def share(self, token: bytes, call: int) -> Share | None:
        """Returns what a call gets of its client's memory; None where there is none."""
        with self._lock:
            connection = self._connections.get(token)
        return connection.share(call) if connection is not None else None

    def admit(self, client: socket.socket, token: bytes) -> Connection | None:
        """Takes a client in; None where it was not let come."""
        with self._lock:
            if self._is_off or self._tokens.pop(token, 0.0) < time.monotonic():
                return None
            connection = self._connections[token] = Connection(client, self._allowance)
            return connection

    def dismiss(self, token: bytes) -> None:
        """Forgets a client."""
        with self._lock:
            self._connections.pop(token, None)

    def close(self) -> None:
        """Lets go of all clients and gives back their memory; that in which arrays lie goes with them."""
        with self._lock:
            self._is_off = True
            door, self._door = self._door, None
        if door is not None:
            door.close()


class _Door:
    """The socket to which clients come, and the thread that listens to them.

    Args:
        memory: whose door it is.
        idle_seconds: how long memory may be unused.

    Raises:
        OSError: there is no such socket here.
    """

    def __init__(self, memory: SharedMemory, idle_seconds: float) -> None:
        self._memory = memory
        self._idle_seconds = idle_seconds
        self.socket_id = secrets.token_hex(16)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._bell, self._closing = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        try:
            self._listener.bind(sharing.address(self.socket_id))
            self._listener.listen(_GUESTS_KEPT)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ, self._open)
            self._selector.register(self._bell, selectors.EVENT_READ, None)
        except OSError:
            self._shut()
            raise
        self._guests: dict[socket.socket, float] = {}
        self._clients: dict[socket.socket, tuple[bytes, Connection]] = {}
        # gone, while arrays lie in their memory
        self._fading: list[Connection] = []
        self._swept = time.monotonic()
        self._thread = threading.Thread(target=self._listen, name="onnxscope-sharing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, and lets go of all who came."""
        self._closing.send(b"\0")
        self._thread.join()

    def _listen(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select(self._pause()):
                    if key.data is None:
                        return
                    key.data()
                self._sweep()
        finally:
            for guest in [*self._guests, *self._clients]:
                self._drop(guest)
            self._shut()

    def _pause(self) -> float | None:
        return self._idle_seconds / 4 if self._guests or self._clients or self._fading else None

    def _open(self) -> None:
        try:
            guest, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # out of descriptors: the guest stays at the door, which would wake us again at once
            _log.warning("shared memory: %s", error)
            time.sleep(_SHORT_SECONDS)
            return
        if len(self._guests) >= _GUESTS_KEPT or not sharing.same_user(guest):
            _log.debug("shared memory: a process of another user, or one too many, was turned away")
            guest.close()
            return
        guest.setblocking(False)
        self._guests[guest] = time.monotonic() + _GREETING_SECONDS
        self._selector.register(guest, selectors.EVENT_READ, functools.partial(self._greet, guest))

    def _greet(self, guest: socket.socket) -> None:
        try:
            token = guest.recv(sharing.TOKEN_BYTES + 1)
        except OSError:
            token = b""
        connection = self._memory.admit(guest, token)
        if connection is None:
            self._drop(guest)
            return
        del self._guests[guest]
        self._clients[guest] = token, connection
        self._selector.modify(guest, selectors.EVENT_READ, functools.partial(self._hear, guest))
        connection.welcome()

    def _hear(self, client: socket.socket) -> None:
        _, connection = self._clients[client]
        if not connection.hear():
            self._drop(client)

    def _drop(self, guest: socket.socket) -> None:
        self._selector.unregister(guest)
        if self._guests.pop(guest, None) is not None:
            guest.close()
            return
        token, connection = self._clients.pop(guest)
        self._memory.dismiss(token)
        connection.close()
        if not connection.is_empty:
            self._fading.append(connection)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now < self._swept + self._idle_seconds / 4:
            return
        self._swept = now
        for guest in [guest for guest, until in self._guests.items() if until < now]:
            self._drop(guest)
        for _, connection in self._clients.values():
            connection.sweep(now - self._idle_seconds)
        self._fading = [connection for connection in self._fading if not connection.is_empty]

    def _shut(self) -> None:
        for one in (self._listener, self._bell, self._closing, self._selector):
            one.close()
