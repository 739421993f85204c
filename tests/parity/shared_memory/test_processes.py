"""Shared memory when a process forks or is killed: nothing is left behind, and what is held stays."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.parity.shared_memory.observed import ROWS, Served, check, descriptors, free_port, is_shared, until

import onnxscope

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
            assert all(map(is_shared, again.values()))
            check(again, x + 1)
        to_child.send(b"x")
        assert os.waitpid(child, 0)[1] == 0
        to_child.close()
        to_parent.close()
    del again
    gc.collect()
    until(lambda: served.shared_bytes == 0)


def test_clients_that_are_killed_leave_nothing(served: Served, chain: bytes, x: np.ndarray) -> None:
    """At random moments of captures and streams, while another client goes on and gets no wrong byte."""
    rand = random.Random(0)
    with onnxscope.connect(served.target) as scope:
        name = scope.load(chain, name="chain").name
        model = scope.load(name)
        check(model.capture(x, at="*"), x)
        gc.collect()
        before = descriptors()
        for _ in range(4):
            clients = [_client(served.target, name) for _ in range(2)]
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.readline() == "ready\n"
            end = time.monotonic() + rand.uniform(0.05, 0.6)
            while time.monotonic() < end:
                value = x + np.float32(rand.random())
                check(model.capture(value, at="*"), value)
            for client in clients:
                client.kill()
                client.communicate()
        gc.collect()
        until(lambda: served.shared_bytes == 0)
        until(lambda: descriptors() <= before)
        check(model.capture(x, at="*"), x)


def test_arrays_outlive_a_server_that_is_killed(chain: bytes, x: np.ndarray) -> None:
    """They can be read; the next call fails as without sharing; a new server at the same place is shared with anew."""
    port = free_port()
    target = f"127.0.0.1:{port}"
    server = _server(port)
    scope = onnxscope.connect(target)
    try:
        model = _retried(lambda: scope.load(chain))
        acts = model.capture(x, at="*")
        acts = model.capture(x, at="*")
        assert all(map(is_shared, acts.values()))
        server.send_signal(signal.SIGKILL)
        server.wait()
        check(acts, x)
        with pytest.raises(onnxscope.UnavailableError):
            model.capture(x, at="*")
        server = _server(port)
        model = _retried(lambda: scope.load(chain))
        again = model.capture(x, at="*")
        assert all(map(is_shared, again.values()))
        check(again, x)
        check(acts, x)
    finally:
        scope.close()
        server.kill()
        server.wait()
    check(again, x)


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
