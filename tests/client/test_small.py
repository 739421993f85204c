"""Captures whose request and answer are one message each: there is a quicker call for what was small the last time."""

from __future__ import annotations

import _thread
import asyncio
import signal
import threading
from typing import Any

import numpy as np
import pytest

import onnxscope
import onnxscope.aio
from onnxscope.encode import SentValue
from onnxscope.small import SmallCaptures
from onnxscope.v1.capture_service_pb2 import CaptureSpec

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def small(fake: Any) -> Any:
    """A server whose answers are single messages."""
    fake.answers_in_one = True
    return fake


def _same(acts: Any, x: np.ndarray = ROWS) -> None:
    np.testing.assert_array_equal(acts["a"], x + 1)
    np.testing.assert_array_equal(acts.outputs["y"], x + 1)
    assert acts.timings == {"run": 0.25}
    assert acts.fidelity.fusion_blocked


def test_what_was_small_is_asked_in_the_quicker_way(small: Any, echo: Any) -> None:
    """The same spec on inputs of the same shapes, from the second time on; the same values, and any others."""
    for index in range(3):
        _same(echo.capture(ROWS * index, "a"), ROWS * index)
    assert small.small_count == 2
    echo.capture(ROWS[:1], "a")
    echo.capture(ROWS, "b")
    echo.run(ROWS)
    assert small.small_count == 2
    echo.run(ROWS)
    assert small.small_count == 3
    assert dict(echo.capture_iter(ROWS, "a"))["a"].shape == ROWS.shape
    assert small.small_count == 3


def test_coroutines_ask_so_too(small: Any) -> None:
    """Each link learns for itself."""

    async def work() -> None:
        async with onnxscope.aio.connect(small.target, timeout=20) as scope:
            model = await scope.load("echo")
            for index in range(3):
                _same(await model.capture(ROWS * index, "a"), ROWS * index)

    asyncio.run(work())
    assert small.small_count == 2


def test_answers_of_several_messages_are_not_small(fake: Any, echo: Any) -> None:
    """However few bytes they have."""
    for _ in range(3):
        _same(echo.capture(ROWS, "a"))
    assert fake.small_count == 0


@pytest.mark.parametrize("large", [np.ones((2, 20_000), np.float32), [np.ones(2)]], ids=["array", "list"])
def test_large_requests_and_those_that_are_no_arrays_are_not_small(large: Any) -> None:
    """They are never asked in that way."""
    links = SmallCaptures()
    values = [SentValue(1, "x", large)]
    assert links.key(CaptureSpec(), values) is None
    assert links.request(None, CaptureSpec(), values) is None


def test_what_has_grown_is_asked_as_any_other(small: Any, echo: Any) -> None:
    """The result is there all the same, and the next one is asked for in the right way at once."""
    echo.capture(ROWS, "a")
    small.answers_in_one = False
    for _ in range(2):
        _same(echo.capture(ROWS, "a"))
    assert small.small_count == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_server_that_does_not_know_the_call_is_asked_as_ever(small: Any, *, is_async: bool) -> None:
    """An older one, for one."""
    small.refuses_small = True

    async def work() -> None:
        async with onnxscope.aio.connect(small.target, timeout=20) as scope:
            model = await scope.load("echo")
            for _ in range(3):
                _same(await model.capture(ROWS, "a"))

    if is_async:
        asyncio.run(work())
    else:
        with onnxscope.connect(small.target, timeout=20) as scope:
            model = scope.load("echo")
            for _ in range(3):
                _same(model.capture(ROWS, "a"))
    assert small.small_count == 1


def _is_small_and_slow(small: Any, model: Any, **more: Any) -> Any:
    """Has a capture known as small; returns the next of its kind, which takes for ever."""
    small.release.set()
    model.capture(ROWS, ["a", "slow"])
    small.release.clear()
    small.cancelled.clear()
    return lambda: model.capture(ROWS, ["a", "slow"], **more)


def test_an_interrupt_ends_it(small: Any, echo: Any) -> None:
    """On the server too."""
    capture = _is_small_and_slow(small, echo)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        capture()
    signal.signal(signal.SIGINT, before)
    assert small.cancelled.wait(5)
    timer.join()


def test_its_time_is_limited(small: Any, echo: Any) -> None:
    """By the deadline of the call."""
    with pytest.raises(onnxscope.DeadlineExceededError):
        _is_small_and_slow(small, echo, timeout=0.2)()
    assert small.cancelled.wait(5)


def test_closing_the_scope_ends_it(small: Any) -> None:
    """From another thread."""
    scope = onnxscope.connect(small.target)
    capture = _is_small_and_slow(small, scope.load("echo"))
    timer = threading.Timer(0.3, scope.close)
    timer.start()
    with pytest.raises(onnxscope.UnavailableError, match="closed"):
        capture()
    timer.join()
    with pytest.raises(onnxscope.UnavailableError, match="closed"):
        capture()


@pytest.mark.parametrize("by_closing", [True, False])
def test_closing_and_cancelling_end_it_for_coroutines(small: Any, *, by_closing: bool) -> None:
    """Who waits is told which."""

    async def work() -> None:
        scope = onnxscope.aio.connect(small.target)
        model = await scope.load("echo")
        small.release.set()
        await model.capture(ROWS, ["a", "slow"])
        small.release.clear()
        small.cancelled.clear()
        task = asyncio.create_task(model.capture(ROWS, ["a", "slow"]))
        await asyncio.sleep(0.3)
        if by_closing:
            await scope.close()
        else:
            task.cancel()
        with pytest.raises(onnxscope.UnavailableError if by_closing else asyncio.CancelledError):
            await task
        await scope.close()

    asyncio.run(work())
    assert small.small_count == 1
    assert small.cancelled.wait(5)


def test_errors_are_those_of_any_capture(small: Any, echo: Any) -> None:
    """With the server's reason."""
    echo.capture(ROWS, "a")
    small.stop()
    with pytest.raises(onnxscope.UnavailableError):
        echo.capture(ROWS, "a")
    assert small.small_count == 0
