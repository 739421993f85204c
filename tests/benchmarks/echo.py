"""The least that a call can cost: a gRPC server that answers bytes with bytes, in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

_SERVICE = "bench.Echo"
_METHOD = f"/{_SERVICE}/Call"


@contextmanager
def echoing(answer_bytes: int) -> Iterator[Callable[[bytes], bytes]]:
    """Runs the server and gives a function that calls it.

    Args:
        answer_bytes: length of each answer.
    """
    command = [sys.executable, "-m", "tests.benchmarks.echo", str(answer_bytes)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline()) if process.stdout else 0
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary(_METHOD)
    finally:
        process.kill()
        process.communicate()


async def _serve(answer_bytes: int) -> None:
    answer = bytes(answer_bytes)

    async def call(request: bytes, context: object) -> bytes:
        return answer

    handler = grpc.method_handlers_generic_handler(_SERVICE, {"Call": grpc.unary_unary_rpc_method_handler(call)})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
