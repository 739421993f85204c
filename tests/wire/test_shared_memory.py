"""The server's side of shared memory: who comes in, what a call gets, and what is given back."""

from __future__ import annotations

import array
import asyncio
import gc
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from onnxscope.v1 import sharing
from onnxscope.v1.sharing import Record
from onnxscope_server.domain import DataType, Result
from onnxscope_server.wire import share as share_module
from onnxscope_server.wire import shared_memory as door
from onnxscope_server.wire.packing import value_parts
from onnxscope_server.wire.share import Share
from onnxscope_server.wire.shared_memory import SharedMemory
from onnxscope_server.wire.shared_values import placed

MIB = 1 << 20
SHAPE = (256, 1024)


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
    assert client.hear() == (Record.WELCOME, 0, 0)
    yield client
    client.socket.close()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _made(share: Share, value: float = 1.0) -> Any:
    made = share.empty(DataType.FLOAT32, SHAPE)
    assert made is not None
    made[:] = value
    return made


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "onnxscope-sharing"]


def test_nothing_is_opened_before_someone_asks() -> None:
    """Neither thread nor socket; and nothing at all where the limit is 0."""
    before = len(_threads())
    SharedMemory(MIB).close()
    off = SharedMemory(0)
    assert off.offer() is None
    off.close()
    assert len(_threads()) == before


def test_a_block_reaches_the_client(client: Client) -> None:
    """What is written on one side is read on the other; the location says where."""
    _, share = client.call()
    made = _made(share)
    kind, number, size = client.hear() or (0, 0, 0)
    assert (kind, size >= made.nbytes) == (Record.BLOCK, True)
    made[3, 4] = 42
    location = share.give(made[2:])
    assert location == (number, 2 * 1024 * 4, 254 * 1024 * 4)
    seen = np.frombuffer(client.mapped, np.float32, 254 * 1024, location.offset).reshape(254, 1024)
    np.testing.assert_array_equal(seen, made[2:])


@pytest.mark.parametrize("token", [b"", b"x" * 16, b"y" * 4096], ids=["none", "wrong", "long"])
def test_without_the_token_nobody_comes_in(memory: SharedMemory, token: bytes) -> None:
    """A guest is shown out; the next one is not the worse for it."""
    guest = Client(memory, token)
    if not token:
        guest.socket.shutdown(socket.SHUT_WR)
    assert guest.hear() is None
    assert Client(memory).hear() == (Record.WELCOME, 0, 0)


def test_a_token_is_good_once(client: Client, memory: SharedMemory) -> None:
    """Who brings one that was used is shown out."""
    assert Client(memory, client.token).hear() is None


def test_a_token_does_not_last(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time it opens nothing."""
    monkeypatch.setattr(door, "_TOKEN_SECONDS", -1.0)
    assert Client(memory).hear() is None


def test_another_user_is_turned_away(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one who has the token."""
    monkeypatch.setattr(sharing, "same_user", lambda _: False)
    assert Client(memory).hear() is None


def test_a_guest_who_says_nothing_is_shown_out(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a short time."""
    monkeypatch.setattr(door, "_GREETING_SECONDS", 0.1)
    offer = memory.offer()
    assert offer is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
        guest.settimeout(5)
        guest.connect(sharing.address(offer.socket_id))
        assert guest.recv(1) == b""


def test_a_block_is_used_again_when_both_sides_let_go(client: Client, memory: SharedMemory) -> None:
    """Not while the server's array lives, and not before the client says so."""
    _, share = client.call()
    first = _made(share)
    location = share.give(first)
    assert location is not None
    del first
    second = _made(share)
    other = share.give(second)
    assert other is not None
    assert other.block != location.block
    client.say(Record.RELEASED, location.block)
    third = _made(share)
    assert share.block_of(third) == location.block
    client.say(Record.RELEASED, other.block)
    fourth = _made(share)
    assert share.block_of(fourth) not in (location.block, other.block)
    assert memory.byte_count == 3 * MIB


def test_what_is_never_given_comes_back(client: Client, memory: SharedMemory) -> None:
    """The arrays of a call that was cancelled leave nothing behind, and idle memory is given back; the client knows."""
    _, share = client.call()
    made = _made(share)
    view = made[5:]
    del made
    time.sleep(0.5)
    assert memory.byte_count == MIB
    del view
    _until(lambda: memory.byte_count == 0)
    assert [(client.hear() or (0,))[0] for _ in range(2)] == [Record.BLOCK, Record.DROPPED]


def test_of_a_call_that_ended_early_the_rest_comes_back(client: Client, memory: SharedMemory) -> None:
    """The client took one of three: the others are the server's again, the one is the client's; later ones stay."""
    number, share = client.call()
    locations = [share.give(_made(share)) for _ in range(3)]
    client.say(Record.ENDED, number, 1)
    _until(lambda: memory.byte_count == MIB)
    made = _made(share)
    assert share.give(made) is None
    del made
    assert locations[0] is not None
    client.say(Record.RELEASED, locations[0].block)
    _until(lambda: memory.byte_count == 0)


def test_a_call_may_be_over_before_it_begins(client: Client, memory: SharedMemory) -> None:
    """Cancelled at once: it gets nothing, unlike the next one; and no number serves two calls."""
    client.say(Record.ENDED, 5, 0)
    time.sleep(0.1)
    assert memory.share(client.token, 5) is None
    assert memory.share(client.token, 6) is not None
    assert memory.share(client.token, 6) is None


def test_a_kept_block_is_never_written_again(client: Client, memory: SharedMemory) -> None:
    """It is the client's alone, and not the server's to count."""
    _, share = client.call()
    made = _made(share)
    location = share.give(made)
    assert location is not None
    client.say(Record.KEPT, location.block)
    del made
    again = _made(share)
    assert share.block_of(again) != location.block
    assert memory.byte_count == MIB


@pytest.mark.parametrize(
    "record",
    [
        (Record.RELEASED, 99, 0),
        (Record.RELEASED, 1, 0),
        (Record.KEPT, 1, 0),
        (Record.TAKEN, 1, 1),
        (Record.ENDED, 1, 7),
        (Record.BLOCK, 1, 1),
        (1234, 0, 0),
    ],
    ids=str,
)
def test_a_client_that_says_what_cannot_be_is_let_go(client: Client, memory: SharedMemory, record: Any) -> None:
    """Its memory comes back, and its calls go on without."""
    _, share = client.call()
    made = _made(share)
    client.say(*record)
    _until(lambda: memory.share(client.token, 99) is None)
    assert share.give(made) is None
    assert share.empty(DataType.FLOAT32, SHAPE) is None
    assert made[0, 0] == 1
    del made
    _until(lambda: memory.byte_count == 0)


@pytest.mark.parametrize("packet", [b"x", b"x" * 25, b"x" * 5000], ids=len)
def test_bytes_that_are_no_records_end_it(client: Client, memory: SharedMemory, packet: bytes) -> None:
    """As they do from whoever."""
    client.socket.send(packet)
    _until(lambda: memory.share(client.token, 1) is None)


def test_a_client_that_dies_leaves_nothing(client: Client, memory: SharedMemory) -> None:
    """All its blocks go at once, but one that is being written: that goes with its array."""
    _, share = client.call()
    for _ in range(3):
        share.give(_made(share))
    made = _made(share)
    client.socket.close()
    _until(lambda: memory.byte_count == MIB)
    made[:] = 5
    del made
    _until(lambda: memory.byte_count == 0)


def test_the_limit_holds_and_free_blocks_make_room(client: Client, memory: SharedMemory) -> None:
    """Of 8 MiB the ninth has no place, until one is free; then another size gets it."""
    _, share = client.call()
    held = [_made(share) for _ in range(8)]
    assert share.empty(DataType.FLOAT32, SHAPE) is None
    assert share.put(np.zeros(SHAPE, np.float32)) is None
    held.pop()
    small = share.empty(DataType.UINT8, (100_000,))
    assert small is not None
    assert memory.byte_count <= 8 * MIB


@pytest.mark.parametrize(
    ("data_type", "shape"),
    [
        (DataType.FLOAT32, (100,)),
        (DataType.FLOAT32, (0, 1 << 20)),
        (DataType.STRING, (1 << 20,)),
        (DataType.INT4, (1 << 20,)),
        (DataType.UINT2, (1 << 20,)),
    ],
    ids=str,
)
def test_what_no_block_is_for(client: Client, data_type: DataType, shape: tuple[int, ...]) -> None:
    """Small arrays, text, and types of several elements a byte."""
    _, share = client.call()
    assert share.empty(data_type, shape) is None


async def _room(share: Share) -> None:
    await asyncio.wait_for(share.room(), 5)


def test_no_more_is_sent_than_the_client_takes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bytes that may be ahead it waits: for the client to take some, for the call's end, or for its death."""
    monkeypatch.setattr(share_module, "AHEAD_BYTES", 2 * MIB)

    async def check() -> None:
        number, share = client.call()
        for _ in range(2):
            share.give(_made(share))
        await _room(share)
        share.give(_made(share))
        waiting = asyncio.ensure_future(_room(share))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        client.say(Record.TAKEN, number, 1)
        await waiting
        share.give(_made(share))
        waiting = asyncio.ensure_future(_room(share))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        client.say(Record.ENDED, number, 1)
        await waiting
        _, other = client.call()
        for _ in range(3):
            other.give(_made(other))
        waiting = asyncio.ensure_future(_room(other))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        client.socket.close()
        await waiting

    asyncio.run(check())


def test_values_of_a_result_are_told_where_they_lie(client: Client) -> None:
    """In a block already, copied into one, or in the message; what lies in one block twice is copied once."""
    _, share = client.call()
    bound = _made(share, 7.0)
    other = np.full(SHAPE, 3, np.float32)
    small = np.arange(3)
    result = Result({"bound": bound, "half": bound[:128], "other": other, "small": small}, {"y": bound})
    result = asyncio.run(placed(result, share))
    parts = list(value_parts(result, share))
    shared = {part.header.name: part.header.shared.block for part in parts if part.header and part.header.shared.block}
    assert set(shared) == {"bound", "half", "other", "y"}
    assert len(set(shared.values())) == 4
    assert [bytes(part.data) for part in parts if part.header and part.header.name == "small"] == [small.tobytes()]
    np.testing.assert_array_equal(result.outputs["y"], np.full(SHAPE, 7, np.float32))
    assert not np.may_share_memory(result.outputs["y"], bound)


def test_lists_never_point_to_what_is_given(client: Client) -> None:
    """An array of which a list holds a part is copied: the list's bytes are read after the array was given."""
    _, share = client.call()
    bound = _made(share)
    result = asyncio.run(placed(Result({"whole": bound, "list": [bound[:1], bound[1:]]}, {}), share))
    assert not np.may_share_memory(result.activations["whole"], bound)


def test_without_room_a_shared_value_is_copied_elsewhere(client: Client) -> None:
    """Two values in one block and no other block: the second is the server's own, and travels in messages."""
    _, share = client.call()
    held = [_made(share) for _ in range(8)]
    bound = held.pop()
    result = asyncio.run(placed(Result({"a": bound, "b": bound}, {}), share))
    assert share.block_of(result.activations["a"]) is not None
    assert not np.may_share_memory(result.activations["b"], bound)
    parts = list(value_parts(result, share))
    assert [bool(part.header.shared.block) for part in parts if part.header] == [True, False]


def test_noncontiguous_arrays_are_copied(client: Client) -> None:
    """They are given in C order."""
    _, share = client.call()
    bound = _made(share)
    bound[:] = np.arange(bound.size, dtype=np.float32).reshape(SHAPE)
    result = asyncio.run(placed(Result({"t": bound.T}, {}), share))
    assert share.give(bound.T) is None
    made: Any = result.activations["t"]
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(made, bound.T)


def test_threads_may_share_a_client(client: Client, memory: SharedMemory) -> None:
    """No two arrays that live at the same time lie in one block."""
    failures: list[str] = []

    def work(seed: int) -> None:
        share = memory.share(client.token, 1000 + seed)
        assert share is not None
        for index in range(200):
            value = float(seed * 1000 + index)
            made = share.empty(DataType.FLOAT32, (128, 128))
            if made is None:
                continue
            made[:] = value
            copy = share.put(made)
            if not (made == value).all() or (copy is not None and not (copy == value).all()):
                failures.append(f"{seed} {index}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_descriptors_do_not_pile_up(client: Client) -> None:
    """Neither side keeps one for a block."""
    _, share = client.call()
    before = len(os.listdir("/proc/self/fd"))
    held = [share.empty(DataType.UINT8, (sharing.SMALLEST_BYTES,)) for _ in range(100)]
    assert all(made is not None for made in held)
    # those in flight are the socket's
    assert len(os.listdir("/proc/self/fd")) == before
