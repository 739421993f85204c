"""Shared memory between two processes: the same values, whoever writes to them, forks, cancels, goes or is killed."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxscope
import onnxscope.aio
from onnxscope.channel import Address, GrpcLink
from onnxscope.encode import SentValue
from onnxscope.receive import Arrived, Completed
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import sharing
from onnxscope.v1.tensor_pb2 import VALUE_ROLE_INPUT
from onnxscope_server.wire import shared_memory

Servers = Callable[..., AbstractContextManager[str]]
ROWS = 40_000  # of three float32: 480 kB a value
_CLIENT = """
import sys, numpy as np, onnxscope
target, name, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = np.random.default_rng(0).random((rows, 3), dtype=np.float32)
with onnxscope.connect(target) as scope:
    model = scope.load(name)
    model.capture(x, at="*")
    print("ready", flush=True)
    while True:
        model.capture(x, at="*")
        for _ in model.stream((x for _ in range(3)), at="*"):
            pass
        for _ in model.capture_iter(x, at="*"):
            break
"""


class Served:
    """A server whose metrics can be read.

    Args:
        target: where it listens.
        port: of the metrics.
    """

    def __init__(self, target: str, port: int) -> None:
        self.target = target
        self._port = port

    @property
    def shared_bytes(self) -> int:
        """What it shares with clients now."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10).read().decode()
        (line,) = (line for line in text.splitlines() if line.startswith("onnxscope_shared_memory_bytes "))
        return int(float(line.split()[1]))


@pytest.fixture
def served(running_server: Servers) -> Iterator[Served]:
    """A server of the test's own."""
    port = _free_port()
    with running_server(http_port=port) as target:
        yield Served(target, port)


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    """Rows of a chain."""
    return rng.random((ROWS, 3), dtype=np.float32)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_shared(value: Any) -> bool:
    """Returns whether an array lies in a block, which the system knows."""
    place = value.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= place < end:
            return "memfd:onnxscope" in line
    return False


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _expected(x: np.ndarray) -> dict[str, np.ndarray]:
    a = x + np.float32(1)
    b = np.maximum(a, 0)
    return {"a": a, "b": b, "y": b * np.float32(2)}


def _check(acts: Any, x: np.ndarray) -> None:
    for name, value in _expected(x).items():
        if name in acts:
            np.testing.assert_array_equal(acts[name], value)
    np.testing.assert_array_equal(acts.outputs["y"], _expected(x)["y"])


def test_large_values_are_shared_and_small_ones_sent(server: str, chain: bytes, x: np.ndarray) -> None:
    """From the first call on, copied and then written by onnxruntime; without, and below 64 KiB, over the network."""
    with onnxscope.connect(server) as scope, onnxscope.connect(server, shared_memory=False) as apart:
        model = scope.load(chain)
        for _ in range(3):
            acts = model.capture(x, at="*")
            assert all(map(_is_shared, [*acts.values(), acts.outputs["y"]]))
            _check(acts, x)
        few = model.capture(x[:10], at="*")
        assert not any(map(_is_shared, few.values()))
        acts = apart.load(chain).capture(x, at="*")
        assert not any(map(_is_shared, acts.values()))
        _check(acts, x)


async def _aio(target: str, model: bytes, x: np.ndarray) -> list[Any]:
    async with onnxscope.aio.connect(target) as scope:
        loaded = await scope.load(model)
        got = [await loaded.capture(x, at="*") for _ in range(3)]
        return [*got, *[acts async for acts in loaded.stream(iter([x, x]), at="*")]]


def test_coroutines_share_too(server: str, chain: bytes, x: np.ndarray) -> None:
    """The same values, captured and streamed, and kept after the scope is closed."""
    got = asyncio.run(_aio(server, chain, x))
    assert len(got) == 5
    for acts in got:
        assert all(map(_is_shared, acts.values()))
        _check(acts, x)


def test_arrays_are_the_callers_own(server: str, chain: bytes, x: np.ndarray) -> None:
    """Writing to one changes no other: not the output that is the same value, not an earlier nor a later result."""
    with onnxscope.connect(server) as scope:
        model = scope.load(chain)
        kept = []
        for _ in range(4):
            acts = model.capture(x, at="*")
            _check(acts, x)
            for value in acts.values():
                value[:] = -1
            np.testing.assert_array_equal(acts.outputs["y"], _expected(x)["y"])
            kept.append(acts)
        for acts in kept:
            assert all((value == -1).all() for value in acts.values())


def test_who_writes_at_once_disturbs_no_run(server: str, rng: np.random.Generator, parsed: Any) -> None:
    """What a later segment, a carried state or a comparison of outputs reads, the caller cannot reach."""
    lines = "".join(f"v{i} = Add(v{i - 1}, one)  " for i in range(1, 12))
    model = parsed(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        long (float[250000, 4] x, float[250000, 4] state) => (float[250000, 4] y, float[250000, 4] stateN)
        <float one = {{1.0}}> {{ v0 = Add(x, state)  {lines} y = Erf(v11)  stateN = Add(state, one) }}"""
    )
    x = rng.random((250_000, 4), dtype=np.float32)
    state = np.zeros_like(x)
    with onnxscope.connect(server) as scope:
        loaded = scope.load(model)
        for _ in range(3):
            for address, value in loaded.capture_iter({"x": x, "state": state}, at="*"):
                if address.startswith("v"):
                    np.testing.assert_allclose(value, x + int(address[1:]), rtol=1e-5)
                value[:] = np.nan
        seen = []
        for acts in loaded.stream(({"x": x, "state": state} if not i else {"x": x} for i in range(4)), at="*",
                                  carry={"stateN": "state"}, batch_size=len(x)):  # fmt: skip
            seen.append(float(acts.outputs["stateN"][0, 0]))
            for value in [*acts.values(), *acts.outputs.values()]:
                value[:] = np.nan
        assert seen == [1, 2, 3, 4]


def test_outputs_are_compared_before_anybody_writes_to_them(server: str, gelu: bytes, rng: np.random.Generator) -> None:
    """The difference that watching makes is the same, though the caller overwrites each value as it arrives."""
    x = rng.standard_normal((50_000, 4), dtype=np.float32)
    with onnxscope.connect(server) as scope:
        digest = scope.load(gelu).digest
    spec = pb.CaptureSpec(model=digest, selectors=["*"])
    found = []
    for shared in (False, True):
        link = GrpcLink(Address(server), shared_memory=shared)
        for _ in range(3):
            for event in link.capture(spec, [SentValue(VALUE_ROLE_INPUT, "x", x)], timeout=None):
                if isinstance(event, Arrived):
                    assert _is_shared(event.value) is shared
                    event.value[:] = np.nan
                elif isinstance(event, Completed):
                    found.append(event.fidelity.max_output_difference)
        link.close()
    assert len(set(found)) == 1
    assert found[0] is not None
    assert np.isfinite(found[0])


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_where_the_limit_is_reached_values_are_sent(
    running_server: Servers, chain: bytes, x: np.ndarray, limit: int
) -> None:
    """The same call, the same result; with nothing to share the server says so."""
    with running_server(shared_memory_bytes=limit) as target, onnxscope.connect(target) as scope:
        model = scope.load(chain)
        held = [model.capture(x, at="*") for _ in range(4)]
        for acts in held:
            _check(acts, x)
        shared = sum(_is_shared(value) for acts in held for value in (*acts.values(), *acts.outputs.values()))
        assert shared == limit // (500 << 10)


def test_a_process_of_another_user_shares_nothing(
    server: str, chain: bytes, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is served all the same."""
    monkeypatch.setattr(sharing, "same_user", lambda _: False)
    with onnxscope.connect(server) as scope:
        acts = scope.load(chain).capture(x, at="*")
    assert not any(map(_is_shared, acts.values()))
    _check(acts, x)


def test_where_there_is_no_such_memory(
    server: str, chain: bytes, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On other systems neither side tries."""
    monkeypatch.setattr(sharing, "IS_SUPPORTED", False)
    assert shared_memory.SharedMemory(1 << 20).offer() is None
    monkeypatch.setattr("onnxscope.sharing.IS_SUPPORTED", False)
    with onnxscope.connect(server) as scope:
        acts = scope.load(chain).capture(x, at="*")
    assert not any(map(_is_shared, acts.values()))
    _check(acts, x)


def test_arrays_that_are_kept_are_never_written_again(served: Served, chain: bytes, x: np.ndarray) -> None:
    """A thousand calls later, from four threads and by streams, they hold what they held."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        first = model.capture(x, at="*")
        small = x[: 1 << 13]

        def work(seed: int) -> None:
            for index in range(200):
                value = small + np.float32(seed * 200 + index)
                _check(model.capture(value, at="*"), value)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, acts in enumerate(model.stream((small + np.float32(i) for i in range(200)), at="*")):
            _check(acts, small + np.float32(index))
        _check(first, x)


def test_memory_that_nobody_uses_is_given_back(served: Served, chain: bytes, x: np.ndarray) -> None:
    """Within seconds, by both sides, while the scope stays open; descriptors stay as many as they were."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        model.capture(x[:10], at="*")
        assert served.shared_bytes == 0
        before = _descriptors()
        for _ in range(5):
            acts = model.capture(x, at="*")
        assert served.shared_bytes > 1 << 20
        del acts
        gc.collect()
        _until(lambda: served.shared_bytes == 0)
        _until(lambda: "memfd:onnxscope" not in Path("/proc/self/maps").read_text())
        _until(lambda: _descriptors() <= before)
        _check(model.capture(x, at="*"), x)


def test_calls_that_are_not_read_to_their_end_leave_nothing(served: Served, chain: bytes, x: np.ndarray) -> None:
    """Closed after one value, or after one batch of many, over and over: the values never read go back."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        for _ in range(30):
            values = model.capture_iter(x, at="*")
            next(values)
            values.close()
            batches = model.stream((x for _ in range(50)), at="*", batch_size=ROWS)
            _check(next(batches), x)
            batches.close()
        del values, batches
        gc.collect()
        _until(lambda: served.shared_bytes == 0)
        _check(model.capture(x, at="*"), x)


def test_an_unread_stream_stops(served: Served, chain: bytes, rng: np.random.Generator) -> None:
    """The server computes no further than somebody reads, though nothing of it is in messages."""
    x = rng.random((400_000, 3), dtype=np.float32)
    taken = 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield x

    with onnxscope.connect(served.target) as scope:
        stream = scope.load(chain).stream(batches(), at="*", batch_size=len(x))
        next(stream)
        time.sleep(1.5)
        assert taken < 12
        assert served.shared_bytes < 200 << 20
        stream.close()


def test_a_fork_keeps_its_arrays_and_leaves_the_connection(served: Served, chain: bytes, x: np.ndarray) -> None:
    """What the child holds is not written to when the parent lets go, and the parent goes on sharing."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        acts = model.capture(x, at="*")
        wanted = {name: value.copy() for name, value in acts.items()}
        to_child, to_parent = socket.socketpair()
        child = os.fork()
        if child == 0:
            # nothing of the parent's may run here but this
            to_parent.recv(1)
            same = all(np.array_equal(acts[name], value) for name, value in wanted.items())
            os._exit(0 if same else 1)
        del acts
        for _ in range(20):
            again = model.capture(x + 1, at="*")
            assert all(map(_is_shared, again.values()))
            _check(again, x + 1)
        to_child.send(b"x")
        assert os.waitpid(child, 0)[1] == 0
        to_child.close()
        to_parent.close()
    del again
    gc.collect()
    _until(lambda: served.shared_bytes == 0)


def test_clients_that_are_killed_leave_nothing(served: Served, chain: bytes, x: np.ndarray) -> None:
    """At random moments of captures and streams, while another client goes on and gets no wrong byte."""
    rand = random.Random(0)
    with onnxscope.connect(served.target) as scope:
        name = scope.load(chain, name="chain").name
        model = scope.load(name)
        _check(model.capture(x, at="*"), x)
        gc.collect()
        before = _descriptors()
        for _ in range(4):
            clients = [_client(served.target, name) for _ in range(2)]
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.readline() == "ready\n"
            end = time.monotonic() + rand.uniform(0.05, 0.6)
            while time.monotonic() < end:
                value = x + np.float32(rand.random())
                _check(model.capture(value, at="*"), value)
            for client in clients:
                client.kill()
                client.communicate()
        gc.collect()
        _until(lambda: served.shared_bytes == 0)
        _until(lambda: _descriptors() <= before)
        _check(model.capture(x, at="*"), x)


def test_arrays_outlive_a_server_that_is_killed(chain: bytes, x: np.ndarray) -> None:
    """They can be read; the next call fails as without sharing; a new server at the same place is shared with anew."""
    port = _free_port()
    target = f"127.0.0.1:{port}"
    server = _server(port)
    scope = onnxscope.connect(target)
    try:
        model = _retried(lambda: scope.load(chain))
        acts = model.capture(x, at="*")
        acts = model.capture(x, at="*")
        assert all(map(_is_shared, acts.values()))
        server.send_signal(signal.SIGKILL)
        server.wait()
        _check(acts, x)
        with pytest.raises(onnxscope.UnavailableError):
            model.capture(x, at="*")
        server = _server(port)
        model = _retried(lambda: scope.load(chain))
        again = model.capture(x, at="*")
        assert all(map(_is_shared, again.values()))
        _check(again, x)
        _check(acts, x)
    finally:
        scope.close()
        server.kill()
        server.wait()
    _check(again, x)


def _client(target: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _CLIENT, target, name, str(ROWS)], stdout=subprocess.PIPE, text=True)


def _server(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "onnxscope_server", "--port", str(port), "--http-port", "0"], stderr=subprocess.DEVNULL
    )


def _retried(call: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while True:
        try:
            return call()
        except onnxscope.UnavailableError:
            assert time.monotonic() < end
            time.sleep(0.2)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
