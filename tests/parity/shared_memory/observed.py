"""What shared memory shows from outside: where a value lies, what a server shares, and what a chain gives."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

Servers = Callable[..., AbstractContextManager[str]]
ROWS = 40_000  # of three float32: 480 kB a value


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


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_shared(value: Any) -> bool:
    """Returns whether an array lies in a block, which the system knows."""
    place = value.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= place < end:
            return "memfd:onnxscope" in line
    return False


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Waits until something is so, which another process or thread brings about."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def expected(x: np.ndarray) -> dict[str, np.ndarray]:
    """What each value of a chain is, by numpy."""
    a = x + np.float32(1)
    b = np.maximum(a, 0)
    return {"a": a, "b": b, "y": b * np.float32(2)}


def check(acts: Any, x: np.ndarray) -> None:
    """Compares what was captured of a chain, and its output, with numpy."""
    for name, value in expected(x).items():
        if name in acts:
            np.testing.assert_array_equal(acts[name], value)
    np.testing.assert_array_equal(acts.outputs["y"], expected(x)["y"])


def descriptors() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
