"""A client of shared memory that says what a test wants it to say."""

from __future__ import annotations

import array
import contextlib
import gc
import mmap
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from onnxscope.v1 import sharing
from onnxscope.v1.sharing import Record
from onnxscope_server.wire.share import Share
from onnxscope_server.wire.shared_memory import SharedMemory

MIB = 1 << 20


class Client:
    """A client that says what a test wants it to say."""

    def __init__(self, memory: SharedMemory, token: bytes | None = None) -> None:
        offer = memory.offer()
        assert offer is not None
        self.token = offer.token if token is None else token
        self._memory = memory
        self._calls = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5)
        self.socket.connect(sharing.address(offer.socket_id))
        # who is turned away may be so before the token is out
        with contextlib.suppress(BrokenPipeError):
            self.socket.send(self.token)

    def hear(self) -> tuple[int, int, int] | None:
        """Returns the next record, and takes its block in; None at the end."""
        try:
            data, beside, _, _ = self.socket.recvmsg(sharing.PACKET_BYTES, socket.CMSG_LEN(4))
        except ConnectionResetError:
            return None
        descriptors = array.array("i")
        for _, _, content in beside:
            descriptors.frombytes(content)
        for descriptor in descriptors:
            self.mapped = mmap.mmap(descriptor, 0)
            os.close(descriptor)
        return next(sharing.unpack(data), None) if data else None

    def say(self, kind: Record, number: int, count: int = 0) -> None:
        """Says a record."""
        self.socket.send(sharing.pack(kind, number, count))

    def call(self) -> tuple[int, Share]:
        """Begins a call."""
        self._calls += 1
        share = self._memory.share(self.token, self._calls)
        assert share is not None
        return self._calls, share


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Memory of up to 8 MiB that is given back soon."""
    memory = SharedMemory(8 * MIB, idle_seconds=0.2)
    yield memory
    memory.close()
    gc.collect()
    assert memory.byte_count == 0


@pytest.fixture
def client(memory: SharedMemory) -> Iterator[Client]:
    """A client that was let in."""
    client = Client(memory)
    assert client.hear() == (Record.WELCOME, 1, 0)
    yield client
    client.socket.close()


@pytest.fixture
def come() -> Callable[..., Client]:
    """Lets another client come, with a token of its own or with the one that is given."""
    return Client
