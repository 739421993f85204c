"""The server's side of shared memory: who comes in, what a call gets, and what is given back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.wire.giving import give

from onnxscope.v1 import sharing
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.codec import CodecError
from onnxscope.v1.sharing import Record
from onnxscope_server.domain import DataType
from onnxscope_server.result_domain import Destination
from onnxscope_server.wire import share as share_module
from onnxscope_server.wire import shared_memory as door
from onnxscope_server.wire.share import Share
from onnxscope_server.wire.shared_memory import SharedMemory

MIB = 1 << 20
SHAPE = (256, 1024)


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _made(share: Share, value: float = 1.0) -> Any:
    made = share.empty(Destination(DataType.FLOAT32, SHAPE))
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


def test_a_block_reaches_the_client(client: Any) -> None:
    """What is written on one side is read on the other; the location says where."""
    _, share = client.call()
    made = _made(share)
    kind, number, size = client.hear() or (0, 0, 0)
    assert (kind, size >= made.nbytes) == (Record.BLOCK, True)
    made[3, 4] = 42
    location = give(share, made[2:])
    assert location == (number, 2 * 1024 * 4, 254 * 1024 * 4)
    seen = np.frombuffer(client.mapped, np.float32, 254 * 1024, location.offset).reshape(254, 1024)
    np.testing.assert_array_equal(seen, made[2:])


@pytest.mark.parametrize("token", [b"", b"x" * 16, b"y" * 4096], ids=["none", "wrong", "long"])
def test_without_the_token_nobody_comes_in(come: Any, memory: SharedMemory, token: bytes) -> None:
    """A guest is shown out; the next one is not the worse for it."""
    guest = come(memory, token)
    if not token:
        guest.socket.shutdown(socket.SHUT_WR)
    assert guest.hear() is None
    assert come(memory).hear() == (Record.WELCOME, 1, 0)


def test_a_token_is_good_once(come: Any, client: Any, memory: SharedMemory) -> None:
    """Who brings one that was used is shown out."""
    assert come(memory, client.token).hear() is None


def test_a_token_does_not_last(come: Any, memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time it opens nothing."""
    monkeypatch.setattr(door, "_TOKEN_SECONDS", -1.0)
    assert come(memory).hear() is None


def test_another_user_is_turned_away(come: Any, memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one who has the token."""
    monkeypatch.setattr(sharing, "same_user", lambda _: False)
    assert come(memory).hear() is None


def test_a_guest_who_says_nothing_is_shown_out(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a short time."""
    monkeypatch.setattr(door, "_GREETING_SECONDS", 0.1)
    offer = memory.offer()
    assert offer is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
        guest.settimeout(5)
        guest.connect(sharing.address(offer.socket_id))
        assert guest.recv(1) == b""


def test_a_block_is_used_again_when_both_sides_let_go(client: Any, memory: SharedMemory) -> None:
    """Not while the server's array lives, and not before the client says so."""
    _, share = client.call()
    first = _made(share)
    location = give(share, first)
    assert location is not None
    del first
    second = _made(share)
    other = give(share, second)
    assert other is not None
    assert other.block != location.block
    client.say(Record.RELEASED, location.block)
    third = _made(share)
    assert share.block_of(third) == location.block
    client.say(Record.RELEASED, other.block)
    fourth = _made(share)
    assert share.block_of(fourth) not in (location.block, other.block)
    assert memory.byte_count == 3 * MIB


def test_what_is_never_given_comes_back(client: Any, memory: SharedMemory) -> None:
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


def test_of_a_call_that_ended_early_the_rest_comes_back(client: Any, memory: SharedMemory) -> None:
    """The client took one of three: the others are the server's again, the one is the client's; later ones stay."""
    number, share = client.call()
    locations = [give(share, _made(share)) for _ in range(3)]
    client.say(Record.ENDED, number, 1)
    _until(lambda: memory.byte_count == MIB)
    made = _made(share)
    assert give(share, made) is None
    del made
    assert locations[0] is not None
    client.say(Record.RELEASED, locations[0].block)
    _until(lambda: memory.byte_count == 0)


def test_a_call_may_be_over_before_it_begins(client: Any, memory: SharedMemory) -> None:
    """Cancelled at once: it gets nothing, unlike the next one; and no number serves two calls."""
    client.say(Record.ENDED, 5, 0)
    time.sleep(0.1)
    assert memory.share(client.token, 5) is None
    assert memory.share(client.token, 6) is not None
    assert memory.share(client.token, 6) is None


def test_a_kept_block_is_never_written_again(client: Any, memory: SharedMemory) -> None:
    """It is the client's alone, and not the server's to count."""
    _, share = client.call()
    made = _made(share)
    location = give(share, made)
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
def test_a_client_that_says_what_cannot_be_is_let_go(client: Any, memory: SharedMemory, record: Any) -> None:
    """Its memory comes back, and its calls go on without."""
    _, share = client.call()
    made = _made(share)
    client.say(*record)
    _until(lambda: memory.share(client.token, 99) is None)
    assert give(share, made) is None
    assert share.empty(Destination(DataType.FLOAT32, SHAPE)) is None
    assert made[0, 0] == 1
    del made
    _until(lambda: memory.byte_count == 0)


@pytest.mark.parametrize("packet", [b"x", b"x" * 25, b"x" * 5000], ids=len)
def test_bytes_that_are_no_records_end_it(client: Any, memory: SharedMemory, packet: bytes) -> None:
    """As they do from whoever."""
    client.socket.send(packet)
    _until(lambda: memory.share(client.token, 1) is None)


def test_a_client_that_dies_leaves_nothing(client: Any, memory: SharedMemory) -> None:
    """All its blocks go at once, but one that is being written: that goes with its array."""
    _, share = client.call()
    for _ in range(3):
        give(share, _made(share))
    made = _made(share)
    client.socket.close()
    _until(lambda: memory.byte_count == MIB)
    made[:] = 5
    del made
    _until(lambda: memory.byte_count == 0)


def test_the_limit_holds_and_free_blocks_make_room(client: Any, memory: SharedMemory) -> None:
    """Of 8 MiB the ninth has no place, until one is free; then another size gets it."""
    _, share = client.call()
    held = [_made(share) for _ in range(8)]
    assert share.empty(Destination(DataType.FLOAT32, SHAPE)) is None
    assert share.put(np.zeros(SHAPE, np.float32)) is None
    held.pop()
    small = share.empty(Destination(DataType.UINT8, (100_000,)))
    assert small is not None
    assert memory.byte_count <= 8 * MIB


@pytest.mark.parametrize(
    ("data_type", "shape"),
    [
        (DataType.STRING, (1 << 20,)),
        (DataType.INT4, (1 << 20,)),
        (DataType.UINT2, (1 << 20,)),
    ],
    ids=str,
)
def test_what_no_block_is_for(client: Any, data_type: DataType, shape: tuple[int, ...]) -> None:
    """Text, and types of several elements a byte."""
    _, share = client.call()
    assert share.empty(Destination(data_type, shape)) is None


@pytest.mark.parametrize("shape", [(100,), (0, 1 << 20), ()], ids=str)
def test_small_arrays_lie_in_no_block(client: Any, memory: SharedMemory, shape: tuple[int, ...]) -> None:
    """They are the server's own, so that a run may write all that it brings where it is told to."""
    _, share = client.call()
    made = share.empty(Destination(DataType.FLOAT32, shape))
    assert made is not None
    assert (made.shape, made.dtype) == (shape, np.float32)
    assert give(share, made) is None
    assert memory.byte_count == 0


async def _room(share: Share) -> None:
    await asyncio.wait_for(share.room(), 5)


def test_no_more_is_sent_than_the_client_takes(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bytes that may be ahead it waits: for the client to take some, for the call's end, for its death."""
    monkeypatch.setattr(share_module, "AHEAD_BYTES", 2 * MIB)

    async def check() -> None:
        number, share = client.call()
        for _ in range(2):
            give(share, _made(share))
        await _room(share)
        give(share, _made(share))
        waiting = asyncio.ensure_future(_room(share))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        client.say(Record.TAKEN, number, 1)
        await waiting
        give(share, _made(share))
        waiting = asyncio.ensure_future(_room(share))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        client.say(Record.ENDED, number, 1)
        await waiting
        _, other = client.call()
        for _ in range(3):
            give(other, _made(other))
        waiting = asyncio.ensure_future(_room(other))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        client.socket.close()
        await waiting

    asyncio.run(check())


def test_threads_may_share_a_client(client: Any, memory: SharedMemory) -> None:
    """No two arrays that live at the same time lie in one block."""
    failures: list[str] = []

    def work(seed: int) -> None:
        share = memory.share(client.token, 1000 + seed)
        assert share is not None
        for index in range(200):
            value = float(seed * 1000 + index)
            made = share.empty(Destination(DataType.FLOAT32, (128, 128)))
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


def test_descriptors_do_not_pile_up(client: Any) -> None:
    """Neither side keeps one for a block."""
    _, share = client.call()
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    held = [share.empty(Destination(DataType.UINT8, (sharing.SMALLEST_BYTES,))) for _ in range(100)]
    assert all(made is not None for made in held)
    # those in flight are the socket's
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_what_the_client_holds_can_be_read(client: Any) -> None:
    """Until it says that it lets go; only within the block, and as long as the mapping is needed."""
    _, share = client.call()
    made = share.empty(Destination(DataType.FLOAT32, SHAPE))
    assert made is not None
    made[:] = 3
    location = give(share, made)
    assert location is not None

    def start(block: int, offset: int = 0, byte_count: int = made.nbytes, shape: Any = SHAPE) -> Any:
        layout = pb.ArrayLayout(data_type=pb.DATA_TYPE_FLOAT32, shape=shape, byte_count=byte_count)
        shared = pb.SharedBytes(block=block, offset=offset, byte_count=byte_count)
        return pb.ValueStart(name="x", layout=pb.ValueLayout(array=layout), shared=shared)

    read = share.held(start(location.block))
    assert (read == 3).all()
    assert not read.flags.writeable
    for wrong in (
        start(location.block + 1),
        start(location.block, 4096),
        start(location.block, 2, 4, (1,)),
        start(location.block, 0, 4),
        start(location.block, 0, 0, (0,)),
    ):
        with pytest.raises(CodecError, match="'x'"):
            share.held(wrong)
    client.say(Record.RELEASED, location.block)
    _until(lambda: _refused(share, start(location.block)))
    assert (read == 3).all()


def _refused(share: Share, start: Any) -> bool:
    try:
        share.held(start)
    except CodecError:
        return True
    return False
