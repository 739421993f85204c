"""Runs in bounded threads: at most so many, in order, and ended when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TypeProto, helper

from onnxscope_server.domain import DataType, Segment
from onnxscope_server.errors import (
    InputMismatchError,
    LimitExceededError,
    OutOfMemoryError,
    RunCancelledError,
    UnavailableError,
)
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Session

FOREVER = {"n": np.array(1 << 60), "x": np.eye(2, dtype=np.float32)}
BRIEFLY = {"n": np.array(1), "x": np.eye(2, dtype=np.float32)}


@pytest.fixture
def session(double: Segment) -> Any:
    """Runs x + x."""
    return Session(double, Opening(intra_op_threads=1), exact=False)


@pytest.fixture
def threads() -> Callable[[], int]:
    """Counts the threads that began since the test did: a server of other tests may have its own."""
    before = set(threading.enumerate())
    return lambda: sum(item.name.startswith("onnxscope-") for item in set(threading.enumerate()) - before)


async def test_32_callers_on_2_threads(session: Session, threads: Callable[[], int]) -> None:
    """Each gets the result of its own inputs, and no more than two threads work."""
    runner = Runner(2, 64)
    feeds = [{"x": np.full(1000, index, np.float32)} for index in range(32)]
    results: Any = await asyncio.gather(*(runner.run(session, feed, ["y"]) for feed in feeds))
    assert [np.unique(result["y"]).tolist() for result in results] == [[2.0 * i] for i in range(32)]
    assert threads() <= 2
    await runner.close()
    assert threads() == 0


async def test_a_cancelled_run_ends(endless: Session) -> None:
    """A caller that is cancelled is let go at once; the run ends, its thread is free again and the session works."""
    runner = Runner(1, 4)
    task = asyncio.create_task(runner.run(endless, FOREVER, ["y"]))
    await asyncio.sleep(0.1)
    assert not task.done()
    start = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result: Any = await runner.run(endless, BRIEFLY, ["y"])
    assert time.perf_counter() - start < 1
    assert np.array_equal(result["y"], np.eye(2))
    await runner.close()


async def test_a_deadline_ends_a_run(endless: Session) -> None:
    """The timeout of asyncio itself is enough."""
    runner = Runner(1, 4)
    start = time.perf_counter()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await runner.run(endless, FOREVER, ["y"])
    await runner.close()
    assert time.perf_counter() - start < 1


async def test_a_slot_is_taken_until_the_run_has_ended() -> None:
    """Work that cannot be ended keeps its thread after its caller has gone: no second piece starts beside it."""
    runner = Runner(1, 4)
    gate, order = threading.Event(), []

    def slow() -> None:
        gate.wait()
        order.append("slow")

    first = asyncio.create_task(runner.call(slow))
    await asyncio.sleep(0.02)
    first.cancel()
    second = asyncio.create_task(runner.call(order.append, "quick"))
    await asyncio.sleep(0.02)
    assert order == []
    gate.set()
    await second
    assert order == ["slow", "quick"]
    await runner.close()


async def test_waiting_is_bounded(endless: Session) -> None:
    """Who comes when the queue is full is refused, and who left it makes room."""
    runner = Runner(1, 2)
    tasks = [asyncio.create_task(runner.run(endless, FOREVER, ["y"])) for _ in range(3)]
    await asyncio.sleep(0.05)
    with pytest.raises(LimitExceededError, match="2 calls wait already") as raised:
        await runner.run(endless, BRIEFLY, ["y"])
    assert raised.value.metadata == {"setting": "max_waiting_runs", "limit": "2", "got": "3"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    result: Any = await runner.run(endless, BRIEFLY, ["y"])
    assert np.array_equal(result["y"], np.eye(2))
    await runner.close()


async def test_terminate_ends_all_runs(endless: Session) -> None:
    """Those that run and those that wait; their callers learn that nothing was wrong."""
    runner = Runner(2, 4)
    tasks = [asyncio.create_task(runner.run(endless, FOREVER, ["y"])) for _ in range(3)]
    await asyncio.sleep(0.05)
    runner.terminate()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [RunCancelledError] * 3
    await runner.close()


async def test_close_waits_and_refuses(session: Session) -> None:
    """What was accepted ends, what comes later is refused."""
    runner = Runner(1, 4)
    done: list[int] = []

    def work(index: int) -> None:
        time.sleep(0.03)
        done.append(index)

    tasks = [asyncio.create_task(runner.call(work, index)) for index in range(3)]
    await asyncio.sleep(0)
    await runner.close()
    assert done == [0, 1, 2]
    await asyncio.gather(*tasks)
    with pytest.raises(UnavailableError):
        await runner.call(work, 3)
    with pytest.raises(UnavailableError):
        await runner.run(session, {"x": np.ones(1, np.float32)}, ["y"])


async def test_failures_leave_the_pool_alone(
    session: Session, make_session: Callable[..., Session], tensor: Callable[..., TypeProto]
) -> None:
    """Errors of the domain, of Python and of memory reach their caller; the one thread goes on."""
    runner = Runner(1, 4)
    node = helper.make_node("ConstantOfShape", ["n"], ["y"])
    giant = make_session([node], {"n": tensor(DataType.INT64, [1])}, {"y": None})

    def broken() -> Any:
        raise SystemExit(3)

    with pytest.raises(OutOfMemoryError):
        await runner.run(giant, {"n": np.array([1 << 50])}, ["y"])
    with pytest.raises(InputMismatchError):
        await runner.run(session, {}, ["y"])
    with pytest.raises(ZeroDivisionError):
        await runner.call(divmod, 1, 0)
    with pytest.raises(BaseException, match="3"):
        await runner.call(broken)
    result: Any = await runner.run(session, {"x": np.ones(1, np.float32)}, ["y"])
    assert result["y"].tolist() == [2]
    assert (await runner.call(divmod, 7, 2)) == (3, 1)
    await runner.close()


async def test_the_loop_goes_on_while_a_run_computes(endless: Session) -> None:
    """Onnxruntime computes without Python's lock: the event loop ticks beside it."""
    runner = Runner(1, 4)
    task = asyncio.create_task(runner.run(endless, FOREVER, ["y"]))
    await asyncio.sleep(0.02)
    start, longest = time.perf_counter(), 0.0
    while time.perf_counter() - start < 0.2:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - before)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await runner.close()
    assert longest < 0.1


async def test_work_in_the_loop_itself(session: Session, threads: Callable[[], int]) -> None:
    """It is done at once and in no thread; a runner that is closed does none."""
    runner = Runner(1, 4)
    feeds = {"x": np.ones(3, np.float32)}
    found: Any = runner.here(lambda options: session.run(feeds, ["y"], options))
    assert found["y"].tolist() == [2.0, 2.0, 2.0]
    assert threads() == 0
    await runner.close()
    with pytest.raises(UnavailableError):
        runner.here(lambda options: session.run(feeds, ["y"], options))
