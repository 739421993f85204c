"""The client's side of shared memory: what it believes a server, and who owns an array."""

from __future__ import annotations

import array
import fcntl
import gc
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxscope import shared_blocks
from onnxscope.errors import InternalError, StreamCutError
from onnxscope.receive import Receiver
from onnxscope.shared_blocks import Connection
from onnxscope.sharing import SharedCall
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import sharing
from onnxscope.v1 import tensor_pb2 as pb
from onnxscope.v1.envelope import CAPTURE_RESPONSE
from onnxscope.v1.sharing import Lying, Record

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
SIZE = 1 << 16


class Server:
    """A server that does what a test wants it to do."""

    def __init__(self) -> None:
        self.socket, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5)
        self.connection = Connection(client, b"t" * sharing.TOKEN_BYTES)

    def say(self, kind: int, number: int, count: int = 0, descriptors: tuple[int, ...] = ()) -> None:
        """Says a record."""
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([sharing.pack(kind, number, count)], beside)  # type: ignore[arg-type]

    def block(self, number: int, said: int = SIZE, size: int = SIZE, seals: int = SEALS) -> Any:
        """Makes a block and hands it over; returns its bytes."""
        descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        memory = np.frombuffer(sharing.mapped(descriptor, size), np.uint8)
        self.say(Record.BLOCK, number, said, (descriptor,))
        os.close(descriptor)
        return memory

    def hear(self) -> list[tuple[int, int, int]]:
        """Returns the records of the next packet."""
        return list(sharing.unpack(self.socket.recv(sharing.PACKET_BYTES)))


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with a client."""
    server = Server()
    yield server
    server.connection.close()
    server.socket.close()


def _start(number: int, shape: tuple[int, ...] = (4, 8), data_type: int = 1, offset: int = 0, **other: Any) -> Any:
    itemsize = sharing.DTYPES[data_type].itemsize if data_type in sharing.DTYPES else 1
    size = int(np.prod(shape)) * itemsize
    layout = pb.ArrayLayout(data_type=data_type, shape=shape, byte_count=other.get("layout", size))  # type: ignore[arg-type]
    shared = pb.SharedBytes(block=number, offset=offset, byte_count=other.get("shared", size))
    return pb.ValueStart(name="v", layout=pb.ValueLayout(array=layout), shared=shared)


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_array_lies_in_the_servers_memory(server: Server) -> None:
    """Nothing is copied; it can be written to; its type and shape are those of the message."""
    memory = server.block(1)
    got = server.connection.array(Lying.of(_start(1, offset=64)))
    memory[64:68] = np.float32(1.5).reshape(1).view(np.uint8)
    assert (got.shape, got.dtype, got[0, 0]) == ((4, 8), np.float32, 1.5)
    got[0, 1] = 2.5
    assert memory[68:72].view(np.float32) == 2.5


@pytest.mark.parametrize("data_type", sharing.DTYPES, ids=pb.DataType.Name)
def test_every_type_of_whole_bytes(server: Server, data_type: int) -> None:
    """Bit for bit."""
    memory = server.block(1)
    memory[:] = np.random.default_rng(0).integers(0, 2, SIZE)
    got = server.connection.array(Lying.of(_start(1, (3, 5), data_type)))
    assert got.dtype == sharing.DTYPES[data_type]
    assert got.tobytes() == memory[: got.nbytes].tobytes()


def test_the_server_learns_when_the_last_array_has_died(server: Server) -> None:
    """Views keep a block, and one packet tells of many."""
    for number in (1, 2, 3):
        server.block(number)
    first, second, third = (server.connection.array(Lying.of(_start(number))) for number in (1, 2, 3))
    view = first[1:].T
    del first, second, third
    server.connection.begin()
    assert server.hear() == [(Record.RELEASED, 2, 0), (Record.RELEASED, 3, 0)]
    del view
    assert server.hear() == [(Record.RELEASED, 1, 0)]


def test_arrays_that_die_with_nothing_else_to_say_are_told_of_soon(server: Server) -> None:
    """Within some seconds, and before if there are many."""
    held = []
    for number in range(1, 101):
        server.block(number)
        held.append(server.connection.array(Lying.of(_start(number))))
    start = time.monotonic()
    del held
    assert len(server.hear()) == sharing.PACKET_RECORDS
    assert time.monotonic() - start < 0.5
    assert len(server.hear()) == 100 - sharing.PACKET_RECORDS


def test_a_server_that_does_not_listen_keeps_nobody_waiting(server: Server) -> None:
    """What cannot be said now is said later, and nothing of it is lost."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    numbers = range(1, 2001)
    start = time.monotonic()
    for number in numbers:
        server.connection.say(Record.TAKEN, number, 0)
    assert time.monotonic() - start < 2
    heard: list[int] = []
    while len(heard) < len(numbers):
        heard += [number for _, number, _ in server.hear()]
    assert sorted(heard) == list(numbers)


def test_a_block_may_come_after_the_message_that_names_it(server: Server) -> None:
    """The two travel on different ways."""
    threading.Timer(0.2, server.block, (7,)).start()
    assert not server.connection.has(7)
    assert server.connection.array(Lying.of(_start(7))).shape == (4, 8)


def test_a_block_that_never_comes_cuts_the_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds; at once where the connection breaks."""
    monkeypatch.setattr(shared_blocks, "_BLOCK_SECONDS", 0.1)
    with pytest.raises(StreamCutError, match="ask again"):
        server.connection.array(Lying.of(_start(7)))
    monkeypatch.undo()
    threading.Timer(0.1, server.socket.close).start()
    start = time.monotonic()
    with pytest.raises(StreamCutError, match="ask again"):
        server.connection.wait_for([7])
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    "start",
    [
        _start(1, (4, 8), offset=SIZE - 127),
        _start(1, (4, 8), offset=SIZE),
        _start(1, (4, 8), offset=(1 << 64) - 128),
        _start(1, (4, 8), offset=2),
        _start(1, (1 << 40,)),
        _start(1, (1 << 62, 1 << 62), layout=0, shared=0),
        _start(1, (-4, -8)),
        _start(1, (0, 1 << 62)),
        _start(1, (4, 8), layout=64),
        _start(1, (4, 8), shared=64),
        _start(1, (1,) * 65),
        _start(1, (4, 8), pb.DATA_TYPE_STRING),
        _start(1, (4, 8), pb.DATA_TYPE_INT4),
        _start(1, (4, 8), 99),
    ],
    ids=lambda start: f"{start.shared.offset} {list(start.layout.array.shape)[:3]} {start.layout.array.data_type}",
)
@pytest.mark.parametrize("count", [1, 200])
def test_extents_beyond_a_block_are_refused(server: Server, start: Any, count: int) -> None:
    """Whatever the server says, in messages that are read in either way, no array reaches out of its block."""
    server.block(1)
    receiver = Receiver(SharedCall(server.connection, whole=False))
    event = capture_pb.CaptureEvent(value=pb.ValuePart(start=start))
    with pytest.raises(InternalError, match="'v'"):
        list(receiver.feed(CAPTURE_RESPONSE.parse(count * CAPTURE_RESPONSE.alone(event))))


def test_a_block_has_one_value_at_a_time(server: Server) -> None:
    """A second value in it while the first lives is refused: writing to one would change the other."""
    server.block(1)
    held = server.connection.array(Lying.of(_start(1)))
    with pytest.raises(InternalError, match="in use"):
        server.connection.array(Lying.of(_start(1)))
    del held
    assert server.connection.array(Lying.of(_start(1))).shape == (4, 8)


@pytest.mark.parametrize(
    "block",
    [
        {"seals": 0},
        {"seals": fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL},
        {"seals": fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW},
        {"said": SIZE + 1},
        {"said": 0},
        {"said": 1 << 63},
    ],
    ids=str,
)
def test_memory_that_might_go_away_is_not_mapped(server: Server, block: dict[str, int]) -> None:
    """Blocks without seals, or smaller than they are said to be, end the connection."""
    server.block(1, **block)
    _until(lambda: server.connection.is_over)


def test_descriptors_that_are_no_memory_end_the_connection(tmp_path: Path) -> None:
    """Files, none and two of them; and the same number twice."""
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    os.ftruncate(file, SIZE)
    for descriptors in ((file,), (), (file, file)):
        server = Server()
        server.say(Record.BLOCK, 1, SIZE, descriptors)
        _until(lambda server=server: server.connection.is_over)  # type: ignore[misc]
        server.socket.close()
    os.close(file)
    server = Server()
    server.block(1)
    server.block(1)
    _until(lambda: server.connection.is_over)
    server.socket.close()


def test_what_a_newer_server_says_is_let_pass(server: Server) -> None:
    """Records of an unknown kind change nothing."""
    server.say(77, 1, 1)
    server.block(1)
    assert server.connection.array(Lying.of(_start(1))).shape == (4, 8)


def test_a_dropped_block_is_forgotten_but_not_taken_away(server: Server) -> None:
    """Its mapping goes, or stays with the array in it."""
    memory = server.block(1)
    got = server.connection.array(Lying.of(_start(1)))
    server.say(Record.DROPPED, 1)
    _until(lambda: not server.connection.has(1))
    memory[:4] = 9
    assert got.view(np.uint8)[0, 0] == 9


def test_arrays_outlive_the_server_and_the_connection(server: Server) -> None:
    """Their memory is theirs; nothing is left when they have died."""
    before = _mappings()
    memory = server.block(1)
    server.block(2)
    memory[:] = 3
    got = server.connection.array(Lying.of(_start(1)))
    server.socket.close()
    _until(lambda: server.connection.is_over)
    del memory
    assert (got.view(np.uint8) == 3).all()
    got[:] = 1
    assert _mappings() == before + 1
    del got
    gc.collect()
    assert _mappings() == before


def test_a_connection_that_nobody_has_ends() -> None:
    """Its thread and its socket too, without being closed."""
    server = Server()
    threads = threading.active_count()
    del server.connection
    gc.collect()
    assert server.socket.recv(1) == b""
    _until(lambda: threading.active_count() == threads - 1)
    server.socket.close()


def test_nobody_listens_where_a_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, no exception."""
    assert shared_blocks.connect(secrets.token_hex(16), b"t" * 16) is None
    assert shared_blocks.connect("a" * 500, b"t" * 16) is None


@pytest.mark.parametrize("answer", [b"", b"what?", sharing.pack(Record.DROPPED)], ids=["none", "noise", "no welcome"])
def test_a_listener_that_is_no_server_of_ours(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """It is left; as is one that runs as another user, who doesn't even get the token."""
    socket_id = secrets.token_hex(16)
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(sharing.address(socket_id))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                guest, _ = listener.accept()
                with guest:
                    heard.append(guest.recv(100))
                    if answer and heard[-1]:
                        guest.send(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert shared_blocks.connect(socket_id, b"token") is None
        monkeypatch.setattr(sharing, "same_user", lambda _: False)
        assert shared_blocks.connect(socket_id, b"token") is None
        thread.join()
    assert heard == [b"token", b""]


def _mappings() -> int:
    return sum("memfd:test" in line for line in Path("/proc/self/maps").read_text().splitlines())


def _lent(server: Server, byte_count: int) -> tuple[int, int] | None:
    """Number and size of a block that is lent."""
    found = server.connection.lend(byte_count)
    return None if found is None else (found[0], len(found[1]))


def test_blocks_are_lent_for_what_is_sent(server: Server) -> None:
    """The server is asked for one of the size, once; it is this process's until it was not used for a while."""
    assert _lent(server, SIZE) is None
    assert _lent(server, SIZE) is None
    assert server.hear() == [(Record.WANTED, 0, SIZE)]
    server.block(1)
    server.say(Record.LENT, 1)
    _until(lambda: server.connection._state._spares)  # type: ignore[arg-type, return-value]
    assert _lent(server, 8 * SIZE) is None
    assert server.hear() == [(Record.WANTED, 0, 8 * SIZE)]
    assert _lent(server, SIZE // 4) == (1, SIZE)
    assert _lent(server, SIZE) is None
    assert server.hear() == [(Record.WANTED, 0, SIZE)]
    server.connection.give_back(1)
    assert _lent(server, SIZE) == (1, SIZE)
    server.connection.give_back(1)
    assert server.hear() == [(Record.RELEASED, 1, 0)]


def test_few_blocks_are_kept_for_what_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many were in use at the same time."""
    monkeypatch.setattr(shared_blocks, "_SPARES", 2)
    for number in range(1, 4):
        server.block(number)
        server.connection.give_back(number)
    server.connection.begin()
    assert server.hear() == [(Record.RELEASED, 1, 0)]


def test_a_server_that_lends_nothing_is_not_asked() -> None:
    """It does not know the question, and would let go of who asks it."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(other, b"t" * sharing.TOKEN_BYTES, lends=False)
    assert connection.lend(SIZE) is None
    connection.close()
    assert one.recv(sharing.PACKET_BYTES) == b""
    one.close()
