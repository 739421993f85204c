"""Inputs in memory that the server lends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.parity.shared_memory.observed import Served, check, until

import onnxscope
import onnxscope.aio
from onnxscope import encode
from onnxscope.sharing import SharedCall
from onnxscope_server.wire.shared_memory import SharedMemory


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of the message of each capture."""
    sizes: list[int] = []
    at_once = encode.at_once

    def noting(messages: Any) -> Any:
        found = at_once(messages)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(encode, "at_once", noting)
    return sizes


def _lends(capture: Callable[[], Any], sent: list[int]) -> None:
    """Captures until the server has lent memory for the input."""
    capture()

    def is_lent() -> bool:
        sent.clear()
        capture()
        return max(sent) < 2000

    until(is_lent)


def test_inputs_lie_in_memory_that_the_server_lends(
    served: Served, chain: bytes, x: np.ndarray, sent: list[int]
) -> None:
    """From the second call or so on, also where only outputs are asked for; nobody's array is written."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        kept = model.capture(x, at="*")
        assert min(sent) > x.nbytes
        _lends(lambda: model.run(x), sent)
        sent.clear()
        for index in range(5):
            check(model.capture(x - np.float32(index), at="*"), x - np.float32(index))
        assert max(sent) < 2000
        check(kept, x)
        del kept
        until(lambda: served.shared_bytes == 0)
        check(model.capture(x, at="*"), x)


def test_coroutines_and_threads_have_inputs_of_their_own(
    served: Served, chain: bytes, x: np.ndarray, sent: list[int]
) -> None:
    """Side by side, each gets what its own inputs give."""

    async def one(model: Any, seed: int) -> None:
        for index in range(20):
            value = x + np.float32(100 * seed + index)
            check(await model.capture(value, at="*"), value)

    async def coroutines() -> None:
        async with onnxscope.aio.connect(served.target) as scope:
            model = await scope.load(chain)
            await asyncio.gather(*(one(model, seed) for seed in range(6)))

    asyncio.run(coroutines())
    assert min(sent) < 2000
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)

        def work(seed: int) -> None:
            for index in range(20):
                value = x + np.float32(100 * seed + index)
                check(model.capture(value, at="*"), value)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))


def test_a_captured_input_is_not_the_block_that_it_came_in(served: Served, parsed: Any, x: np.ndarray) -> None:
    """A model that passes its input through gives a copy, which later inputs leave alone."""
    model_bytes = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        passes (float[rows, 3] x) => (float[rows, 3] y, float[rows, 3] z) { y = Identity(x)  z = Neg(x) }"""
    )
    with onnxscope.connect(served.target) as scope:
        model = scope.load(model_bytes)
        kept = []
        for index in range(6):
            kept.append((index, model.capture(x + np.float32(index), at=["x", "y"])))
            model.capture(x - np.float32(50 + index), at="*")
        for index, acts in kept:
            for name in ("x", "y"):
                np.testing.assert_array_equal(acts[name], x + np.float32(index))
            np.testing.assert_array_equal(acts.outputs["z"], -(x + np.float32(index)))


def test_what_the_server_has_let_go_of_is_sent(
    served: Served, chain: bytes, x: np.ndarray, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose input lies in memory that the server no longer knows goes on without, for threads and coroutines."""

    async def coroutine() -> None:
        async with onnxscope.aio.connect(served.target) as scope:
            model = await scope.load(chain)
            while not sent or sent[-1] > x.nbytes:
                check(await model.capture(x, at="*"), x)
            with monkeypatch.context() as patch:
                patch.setattr(SharedMemory, "share", lambda *_: None)
                sent.clear()
                check(await model.capture(x, at="*"), x)

    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        _lends(lambda: model.capture(x, at="*"), sent)
        with monkeypatch.context() as patch:
            patch.setattr(SharedMemory, "share", lambda *_: None)
            sent.clear()
            check(model.capture(x, at="*"), x)
        assert [size > x.nbytes for size in sent] == [False, True]
    sent.clear()
    asyncio.run(coroutine())
    assert [size > x.nbytes for size in sent] == [False, True]


def test_a_block_that_is_not_the_clients_is_refused(
    served: Served, chain: bytes, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reason, and the next call works."""
    with onnxscope.connect(served.target) as scope:
        model = scope.load(chain)
        for place in ((10**6, 0, x.nbytes), (0, 0, x.nbytes)):
            with monkeypatch.context() as patch:
                patch.setattr(SharedCall, "place", lambda *_, place=place: place)
                with pytest.raises(onnxscope.ValueInvalidError, match="does not hold"):
                    model.capture(x, at="*")
        check(model.capture(x, at="*"), x)
