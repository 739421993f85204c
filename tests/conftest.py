"""Models and servers that tests share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import onnxscope
from onnxscope.v1 import sharing
from onnxscope_server.app import Server
from onnxscope_server.settings import EmbeddedSettings


@contextmanager
def _running_server(**settings: Any) -> Iterator[str]:
    """Runs a real gRPC server in a thread of this process; gives its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=60)

    async def make() -> Server:
        defaults = {"port": 0, "http_port": 0, "drain_seconds": 0.0, "grace_seconds": 5.0}
        return Server(EmbeddedSettings(**(defaults | settings)))

    server = wait(make())
    try:
        wait(server.start())
        yield f"localhost:{server.port}"
    finally:
        wait(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def digits_path() -> Path:
    """The demo's CNN: image [batch, 1, 8, 8] -> logits [batch, 10]."""
    return Path(str(files("onnxscope.demo") / "digits.onnx"))


@pytest.fixture(scope="session")
def parsed() -> Callable[[str], bytes]:
    """Turns ONNX's text form into the bytes of a model."""

    def parse(text: str) -> bytes:
        return onnx.parser.parse_model(text).SerializeToString()

    return parse


@pytest.fixture(scope="session")
def chain(parsed: Callable[[str], bytes]) -> bytes:
    """Gives x [row, 3] -> a = x + 1 -> b = relu(a) -> y = b * 2; nothing to fuse."""
    return parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        chain (float[row, 3] x) => (float[row, 3] y)
        <float one = {1.0}, float two = {2.0}>
        { a = Add(x, one)  b = Relu(a)  y = Mul(b, two) }"""
    )


@pytest.fixture(scope="session")
def gelu(parsed: Callable[[str], bytes]) -> bytes:
    """Gives a GELU of x [row, 4], written out so that onnxruntime fuses it: exposing its inside blocks that."""
    return parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        gelu (float[row, 4] x) => (float[row, 4] y)
        <float root = {1.41421356237}, float one = {1.0}, float half = {0.5}>
        {
            divided = Div(x, root)
            erf = Erf(divided)
            plus = Add(erf, one)
            product = Mul(x, plus)
            y = Mul(product, half)
        }"""
    )


@pytest.fixture(scope="session")
def running_server() -> Callable[..., AbstractContextManager[str]]:
    """Runs servers with settings of the test's own; a with statement gives the address."""
    return _running_server


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a server that the session's tests share."""
    with _running_server() as target:
        yield target


@pytest.fixture(params=["embedded", "remote", "shared"])
def scope(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same scope, embedded, over gRPC and with whatever can lie there in shared memory: same call, same result."""
    if request.param == "embedded":
        with onnxscope.local() as embedded:
            yield embedded
        return
    monkeypatch.setattr(sharing, "SMALLEST_BYTES", 1)
    target = request.getfixturevalue("server")
    with onnxscope.connect(target, shared_memory=request.param == "shared") as remote:
        yield remote


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
