"""Callers who ask without pause, and cost as little as Python's gRPC can: the server is to be the bottleneck.

`python -m tests.benchmarks.load` is such a process: it reads lines of TARGET, DIGEST, CALLERS and SECONDS and answers
each with the number of calls that it got done.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from tests.benchmarks import protocol
from tests.benchmarks.process import Process
from tests.benchmarks.serving import Served


@dataclass(frozen=True, slots=True)
class Rate:
    """What was got done together.

    Attributes:
        calls_per_second: of all callers.
        server_cores: that the server kept busy.
        client_cores: that the callers did.
    """

    calls_per_second: float
    server_cores: float
    client_cores: float


class Callers:
    """Processes that call when told."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def call(self, server: Served, digest: str, count: int, seconds: float) -> Rate:
        """Lets so many callers ask for one hook point of one row, each anew as soon as it has its answer."""
        share, rest = divmod(count, len(self._processes))
        counts = [share + (index < rest) for index in range(len(self._processes))]
        busy = [(process, callers) for process, callers in zip(self._processes, counts, strict=True) if callers]
        watched = [Process(process.pid) for process, _ in busy]
        server_before, clients_before = server.process.cpu_seconds(), sum(one.cpu_seconds() for one in watched)
        start = time.perf_counter()
        for process, callers in busy:
            _tell(process, f"{server.target} {digest} {callers} {seconds}")
        calls = sum(int(_answer(process)) for process, _ in busy)
        took = time.perf_counter() - start
        return Rate(
            calls / took,
            (server.process.cpu_seconds() - server_before) / took,
            (sum(one.cpu_seconds() for one in watched) - clients_before) / took,
        )


@contextmanager
def calling(processes: int) -> Iterator[Callers]:
    """Starts processes of callers."""
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    try:
        for process in started:
            _answer(process)
        yield Callers(started)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is None:
        raise RuntimeError("a caller listens to its standard input")
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError("a caller ended")
    return line


async def _call(target: str, digest: str, callers: int, seconds: float) -> int:
    """Calls without reading what comes; returns how many calls ended."""
    request = protocol.request(digest)
    end = time.monotonic() + seconds
    async with grpc.aio.insecure_channel(target) as channel:
        capture = channel.unary_unary(protocol.METHOD)

        async def call() -> int:
            done = 0
            while time.monotonic() < end:
                await capture(request)
                done += 1
            return done

        return sum(await asyncio.gather(*(call() for _ in range(callers))))


def _listen() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        target, digest, callers, seconds = line.split()
        print(asyncio.run(_call(target, digest, int(callers), float(seconds))), flush=True)


if __name__ == "__main__":
    _listen()
