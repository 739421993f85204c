"""The least that values can cost over TCP: onnxruntime in a process of its own, and a plain socket.

`python -m tests.benchmarks.plain_socket MODEL INPUTS.npz NAME...` is that process: it prints its port and answers each
byte with the values of these names. It computes, then sends: both take all of two cores.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tests.benchmarks.limit import Exposed

_BUFFER_BYTES = 4 << 20


@contextmanager
def plain_socket(path: Path, limit: Exposed, feeds: dict[str, np.ndarray]) -> Iterator[Callable[[], object]]:
    """Runs the process and gives a function that gets all values once, into the same memory every time.

    Args:
        path: of the model.
        limit: has the values that are wanted.
        feeds: its inputs.
    """
    memory = memoryview(bytearray(sum(value.nbytes for value in limit.run(feeds))))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.npz"
        np.savez(file, **feeds)
        command = [sys.executable, "-m", "tests.benchmarks.plain_socket", str(path), str(file), *limit.names]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            port = int(process.stdout.readline()) if process.stdout else 0
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                yield lambda: _get(connection, memory)
        finally:
            process.kill()
            process.communicate()


def _get(connection: socket.socket, memory: memoryview) -> object:
    connection.sendall(b"\0")
    count = 0
    while count < len(memory):
        received = connection.recv_into(memory[count:])
        if not received:
            raise RuntimeError("the plain socket's process has ended")
        count += received
    return memory


def _serve(path: Path, file: Path, names: Sequence[str]) -> None:
    model, feeds = Exposed(path, names), dict(np.load(file))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        while connection.recv(1):
            for value in model.run(feeds):
                connection.sendall(memoryview(value).cast("B"))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
