"""Whether memory is shared: asked once, asked again when it was lost, and never a reason to fail."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from onnxscope import shared_blocks, sharing
from onnxscope.errors import DeadlineExceededError, NotImplementedYet, OnnxscopeError, UnavailableError
from onnxscope.sharing import Sharing
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.sharing import Record

OFFER = pb.OpenSharedMemoryResponse(socket_id="a" * 32, token=b"t" * 16)


class Connection:
    """A connection that only says whether it is over."""

    def __init__(self) -> None:
        self.is_over = False
        self.said: list[tuple[Record, int, int]] = []

    def begin(self, *, whole: bool) -> pb.Sharing:
        """Begins a call."""
        return pb.Sharing(token=b"t" * 16, call=1)

    def say(self, kind: Record, number: int, count: int) -> None:
        """Keeps what is said."""
        self.said.append((kind, number, count))

    def close(self) -> None:
        """Ends it."""
        self.is_over = True


class Server:
    """Answers, or raises, and counts; for either kind of link."""

    def __init__(self, answer: Any = OFFER) -> None:
        self.answer = answer
        self.timeouts: list[float] = []

    def unary(self, method: str, request: Any, *, timeout: float) -> Any:
        """As `Link.unary`."""
        assert method == "CaptureService/OpenSharedMemory"
        self.timeouts.append(timeout)
        if isinstance(self.answer, OnnxscopeError):
            raise self.answer
        return self.answer

    async def unary_async(self, method: str, request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109
        """As `AsyncLink.unary`."""
        await asyncio.sleep(0.01)
        return self.unary(method, request, timeout=timeout)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were made."""
    made: list[Any] = []

    def connect(socket_id: str, token: bytes) -> Any:
        assert (socket_id, token) == (OFFER.socket_id, OFFER.token)
        made.append(Connection())
        return made[-1]

    monkeypatch.setattr(shared_blocks, "connect", connect)
    return made


def test_the_server_is_asked_once(connections: list[Any]) -> None:
    """By many threads too; each call gets its part."""
    server, link = Server(), Sharing(wanted=True)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(link.begin(server.unary, 30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert None not in got
    assert len(server.timeouts) == len(connections) == 1


def test_coroutines_ask_once(connections: list[Any]) -> None:
    """However many wait for the answer."""
    server, link = Server(), Sharing(wanted=True)

    async def calls() -> list[Any]:
        return await asyncio.gather(*(link.begin_async(server.unary_async, None) for _ in range(8)))

    assert None not in asyncio.run(calls())
    assert len(server.timeouts) == len(connections) == 1


@pytest.mark.parametrize(("timeout", "asked"), [(None, 1.0), (30.0, 1.0), (0.2, 0.2)])
def test_asking_takes_no_longer_than_the_call_may(connections: list[Any], timeout: Any, asked: float) -> None:
    """A second at most."""
    server = Server()
    Sharing(wanted=True).begin(server.unary, timeout)
    assert server.timeouts == [asked]


@pytest.mark.parametrize(
    "answer",
    [pb.OpenSharedMemoryResponse(), NotImplementedYet("an older server")],
    ids=["none to share", "unknown call"],
)
def test_a_server_that_shares_nothing_is_not_asked_again(connections: list[Any], answer: Any) -> None:
    """Neither one that says so, nor one that doesn't know what is asked."""
    server, link = Server(answer), Sharing(wanted=True)
    for _ in range(3):
        assert link.begin(server.unary, None) is None
    assert len(server.timeouts) == 1
    assert connections == []


@pytest.mark.parametrize("error", [UnavailableError("away"), DeadlineExceededError("slow")], ids=["away", "slow"])
def test_a_server_that_is_away_may_come_back(connections: list[Any], error: OnnxscopeError) -> None:
    """Each call asks it once."""
    server, link = Server(error), Sharing(wanted=True)
    for _ in range(2):
        assert link.begin(server.unary, None) is None
    assert len(server.timeouts) == 2
    server.answer = OFFER
    assert link.begin(server.unary, None) is not None


def test_what_is_lost_is_asked_for_again(connections: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: a server that can't be reached on the second way is left alone."""
    server, link = Server(), Sharing(wanted=True)
    assert link.begin(server.unary, None) is not None
    connections[0].is_over = True
    assert link.begin(server.unary, None) is not None
    assert len(connections) == 2
    connections[1].is_over = True
    monkeypatch.setattr(shared_blocks, "connect", lambda *_: None)
    for _ in range(3):
        assert link.begin(server.unary, None) is None
    assert len(server.timeouts) == 3


def test_nobody_is_asked_where_nothing_is_wanted(connections: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor after the scope is closed, nor on a system without such memory."""
    server = Server()
    assert Sharing(wanted=False).begin(server.unary, None) is None
    closed = Sharing(wanted=True)
    closed.close()
    assert closed.begin(server.unary, None) is None
    monkeypatch.setattr(sharing, "IS_SUPPORTED", False)
    assert Sharing(wanted=True).begin(server.unary, None) is None
    assert server.timeouts == []


def test_closing_ends_the_connection(connections: list[Any]) -> None:
    """And a call that goes on can still say that it is over."""
    link = Sharing(wanted=True)
    call = link.begin(Server().unary, None)
    link.close()
    assert connections[0].is_over
    assert call is not None
    call.end()
    assert connections[0].said == [(Record.ENDED, 1, 0)]
