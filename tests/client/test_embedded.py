"""Calls of a server in this process that their caller gives up."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnxscope
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.pipeline.probing.fitting import Fitting

ROWS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
LABELS = ROWS[:, 0] > 0


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Makes fits go on until they are told to stop, and take a while to do so."""
    event = threading.Event()

    def endless(self: Fitting, spec: Any, subject: Any, data_set: Any, tell: Any, stopped: Callable[[], bool]) -> None:
        event.set()
        while not stopped():
            time.sleep(0.001)
        time.sleep(0.1)
        raise DataInvalidError("stopped")

    monkeypatch.setattr(Fitting, "fit", endless)
    return event


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lets SIGINT through, which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def model_bytes() -> bytes:
    """Returns x [row, 3] -> h -> y."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["row", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["row", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_fit_is_an_interrupt(begun: threading.Event) -> None:
    """Ctrl-C in a notebook ends the fit, and is no failure of the server."""
    waits = threading.get_ident()

    def interrupt() -> None:
        if begun.wait(20):
            signal.pthread_kill(waits, signal.SIGINT)

    with onnxscope.local() as scope:
        model = scope.load(model_bytes(), name="m")
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            model.fit_probe("p", ROWS, LABELS, at="h")
        thread.join()
        assert not list(model.probes())


def test_a_cancelled_fit_or_sweep_is_cancelled(begun: threading.Event) -> None:
    """The task ends as cancelled tasks do."""

    async def main() -> None:
        async with onnxscope.aio.local() as scope:
            model = await scope.load(model_bytes(), name="m")
            for call in (
                model.fit_probe("p", ROWS, LABELS, at="h"),
                model.sweep(ROWS, LABELS, at="*", name="s"),
            ):
                begun.clear()
                task = asyncio.create_task(call)
                assert await asyncio.to_thread(begun.wait, 20)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert not list(await model.probes())

    asyncio.run(main())
