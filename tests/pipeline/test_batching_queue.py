"""What waits to be run with others: for how long at most, how much of it, and whose turn it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.pipeline.callers import (
    ROWWISE,
    Callers,
    calling,
    requests_of,
    rows_of,
    turns,
)

from onnxscope_server.errors import LimitExceededError
from onnxscope_server.result_domain import Result

X = {"x": rows_of(1)}


def test_a_full_queue_refuses_the_busiest() -> None:
    """Not who has one request; the error says which setting it is."""

    async def work() -> None:
        async with calling(ROWWISE, max_waiting_runs=4) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                first = callers.begin(prepared, 1)
                await callers.runs.has_begun(1)
                busy = callers.begin(prepared, 4, "busy")
                await turns(2)
                others = [task for name in "bc" for task in callers.begin(prepared, 1, name)]
                await turns(3)
                assert [task.done() for task in busy] == [False, False, True, True]
                (lane,) = [lane for lane in callers.lanes() if lane.joint]
                assert len(lane.waiting) == 4
            found = await asyncio.gather(*first, *busy, *others, return_exceptions=True)
            for error in found[3:5]:
                assert isinstance(error, LimitExceededError)
                assert error.metadata["setting"] == "max_waiting_runs"
            assert all(isinstance(result, Result) for result in (*found[:3], *found[5:]))

    asyncio.run(work())


def test_who_has_gone_takes_no_place() -> None:
    """As many as may wait can come when those before have gone."""

    async def work() -> None:
        async with calling(ROWWISE, max_waiting_runs=4) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                first = callers.begin(prepared, 1)
                await callers.runs.has_begun(1)
                gone = callers.begin(prepared, 4)
                await turns(3)
                for task in gone:
                    task.cancel()
                await turns(3)
                others = callers.begin(prepared, 4)
                await turns(3)
            await asyncio.gather(*first, *others)
            assert callers.runs.rows == [1, 4]

    asyncio.run(work())


def test_many_requests_of_one_caller_starve_no_other() -> None:
    """Who comes last with one request is in the next run."""

    async def work() -> None:
        async with calling(ROWWISE, max_batch_rows=2) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                first = callers.begin(prepared, 1)
                await callers.runs.has_begun(1)
                busy = callers.begin(prepared, 20, "busy")
                await turns(2)
                (other,) = callers.begin(prepared, 1, "other")
                await turns(2)
            await other
            assert sum(task.done() for task in busy) <= 3
            await asyncio.gather(*first, *busy)

    asyncio.run(work())


def test_a_full_queue_refuses_the_busiest_even_when_it_has_just_gone() -> None:
    """Who comes at that moment is served."""

    async def work() -> None:
        async with calling(ROWWISE, max_waiting_runs=4) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                first = callers.begin(prepared, 1)
                await callers.runs.has_begun(1)
                busy = callers.begin(prepared, 4, "busy")
                await turns(2)
                other = callers.begin(prepared, 1, "other")
                busy[-1].cancel()
                await turns(3)
            found = await asyncio.gather(*first, *busy, *other, return_exceptions=True)
            assert [type(result) for result in found] == [Result] * 4 + [asyncio.CancelledError, Result]

    asyncio.run(work())


@pytest.fixture
def skipped(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that every loop's clock is ahead; to be added to."""
    seconds: list[float] = []
    original = asyncio.SelectorEventLoop.time
    monkeypatch.setattr(asyncio.SelectorEventLoop, "time", lambda loop: original(loop) + sum(seconds))
    return seconds


async def _three_in_step(callers: Callers) -> Any:
    prepared = await callers.prepare()
    await callers.ready(prepared, X)
    await callers.together(prepared, requests_of([1, 1, 1]))
    assert callers.runs.rows == [3]
    callers.runs.rows.clear()
    return prepared


def test_a_lone_caller_never_waits() -> None:
    """However long others might be waited for."""

    async def work() -> None:
        async with calling(ROWWISE, batch_delay_seconds=3600) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            async with asyncio.timeout(10):
                for _ in range(5):
                    await callers.run(prepared, X)

    asyncio.run(work())


def test_a_request_waits_for_others_no_longer_than_is_said(skipped: list[float]) -> None:
    """Then it runs with whoever is there, and who is then alone waits no more."""

    async def work() -> None:
        async with calling(ROWWISE, batch_delay_seconds=3600) as callers:
            prepared = await _three_in_step(callers)
            tasks = callers.begin(prepared, 1)
            await turns(5)
            skipped.append(3500)
            tasks += callers.begin(prepared, 1)
            await turns(5)
            assert callers.runs.rows == []
            skipped.append(101)
            found = await asyncio.gather(*tasks)
            assert callers.runs.rows == [2]
            assert found[0].timings["queue"] >= 3600
            assert 101 <= found[1].timings["queue"] < 3600

    asyncio.run(work())


@pytest.mark.parametrize("counts", [[1, 1, 1], [4, 4]], ids=["as many as before", "a full run"])
def test_what_is_complete_does_not_wait(counts: list[int]) -> None:
    """Neither callers in step, nor as many rows as a run may have."""

    async def work() -> None:
        async with calling(ROWWISE, batch_delay_seconds=3600) as callers:
            prepared = await _three_in_step(callers)
            tasks = []
            for inputs in requests_of(counts):
                await turns(3)
                assert callers.runs.rows == []
                tasks.append(asyncio.create_task(callers.run(prepared, inputs)))
            async with asyncio.timeout(10):
                await asyncio.gather(*tasks)
            assert callers.runs.rows == [sum(counts)]

    asyncio.run(work())
