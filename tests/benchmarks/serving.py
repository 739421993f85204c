"""Servers as processes of their own, and the ways to them."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.process import Process

import onnxscope

_SECONDS = 60
_READY = re.compile(r"serving on port (\d+)")


class Served:
    """A server that runs."""

    def __init__(self, target: str, pid: int) -> None:
        self.target = target
        self.pid = pid
        self.process = Process(pid)


@contextmanager
def serving(*flags: str) -> Iterator[Served]:
    """Runs a server in a process of its own.

    Args:
        *flags: as of `onnxscope serve`.
    """
    command = [sys.executable, "-m", "onnxscope_server", "--port", "0", "--http-port", "0", "--drain-seconds", "0"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen([*command, *flags], stderr=file)
        try:
            yield Served(f"127.0.0.1:{_port(process, log)}", process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    end = time.monotonic() + _SECONDS
    while not (ready := _READY.search(log.read_text())):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server did not start: {log.read_text()}")
        time.sleep(0.02)
    return int(ready[1])


def over_tcp(target: str) -> onnxscope.Scope:
    """Returns a scope whose activations come over TCP."""
    return onnxscope.connect(target, shared_memory=False)
