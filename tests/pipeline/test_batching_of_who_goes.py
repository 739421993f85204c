"""A request that fails, or whose caller goes, takes nothing from those that run with it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tests.pipeline.callers import (
    EMBEDDING,
    ROWWISE,
    assert_same,
    calling,
    requests_of,
    rows_of,
    turns,
    until,
)

from onnxscope_server.domain import Result
from onnxscope_server.errors import InputMismatchError, RunFailedError

X = {"x": rows_of(1)}


@pytest.mark.parametrize("bad", [[0], [3], [7], [1, 2, 6], list(range(8))])
def test_who_fails_fails_alone(bad: list[int]) -> None:
    """The others get their rows, and so does whoever comes next."""

    async def work() -> None:
        async with calling(EMBEDDING) as callers:
            prepared = await callers.prepare()
            good = {"i": np.array([[0, 1]])}
            await callers.ready(prepared, good)
            requests = [{"i": np.array([[9 if row in bad else row % 4, 0]])} for row in range(8)]
            found = await asyncio.gather(
                *(callers.run(prepared, inputs) for inputs in requests), return_exceptions=True
            )
            assert callers.runs.rows[0] == 8
            for row, (inputs, result) in enumerate(zip(requests, found, strict=True)):
                if row in bad:
                    assert isinstance(result, RunFailedError)
                else:
                    assert isinstance(result, Result)
                    assert_same(result, await callers.alone(prepared, inputs))
            callers.runs.rows.clear()
            await asyncio.gather(*(callers.run(prepared, good) for _ in range(4)))
            assert sum(callers.runs.rows) == 4

    asyncio.run(work())


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 4)), np.zeros((1, 3), np.float32), np.zeros((1, 4, 1), np.float32)],
    ids=["type", "size", "rank"],
)
def test_what_the_model_does_not_take_disturbs_nobody(wrong: Any) -> None:
    """It is refused for itself."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            requests = [*requests_of([1, 1]), {"x": wrong}]
            for _ in range(4):
                *found, error = await asyncio.gather(
                    *(callers.run(prepared, inputs) for inputs in requests), return_exceptions=True
                )
                assert isinstance(error, InputMismatchError)
                for inputs, result in zip(requests, found, strict=False):
                    assert isinstance(result, Result)
                    assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


@pytest.mark.parametrize("moment", range(8))
def test_who_goes_at_whatever_moment_stops_nobody(moment: int) -> None:
    """Before it is queued, when it is taken, when its run begins: the next request is served."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            for _ in range(3):
                tasks = callers.begin(prepared, 2)
                await turns(moment)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            async with asyncio.timeout(5):
                await callers.run(prepared, X)

    asyncio.run(work())


@pytest.mark.parametrize("gone", [[0], [1], [0, 2], [1, 2]])
@pytest.mark.parametrize("running", [False, True])
def test_who_goes_takes_nothing_from_the_others(gone: list[int], running: bool) -> None:
    """While they wait, and while they run."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                first = [] if running else callers.begin(prepared, 1)
                await callers.runs.has_begun(len(first))
                tasks = callers.begin(prepared, 3)
                await callers.runs.has_begun(1)
                await turns(3)
                for index in gone:
                    tasks[index].cancel()
                await turns(3)
                assert [task.done() for task in tasks] == [index in gone for index in range(3)]
                assert not callers.runs.ended
            found = await asyncio.gather(*first, *tasks, return_exceptions=True)
            for index, (inputs, result) in enumerate(zip(requests_of([1] * 3), found[len(first) :], strict=True)):
                if index in gone:
                    assert isinstance(result, asyncio.CancelledError)
                else:
                    assert isinstance(result, Result)
                    assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


def test_a_run_that_nobody_waits_for_ends() -> None:
    """Its thread is free for others."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                tasks = callers.begin(prepared, 3)
                await callers.runs.has_begun(1)
                for task in tasks[1:]:
                    task.cancel()
                await asyncio.sleep(0.02)
                assert not callers.runs.ended
                tasks[0].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await until(lambda: callers.runs.ended)
            assert callers.runs.rows == [3]
            await callers.run(prepared, X)

    asyncio.run(work())


def test_a_run_ends_when_one_of_its_callers_has_its_answer_and_the_others_are_gone() -> None:
    """As where a batch runs in halves since one of it fails: when that is told, the other half goes on."""

    async def work() -> None:
        async with calling(EMBEDDING) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, {"i": np.array([[0, 1]])})
            bad, good = ({"i": np.array([[row, 0]])} for row in (9, 1))
            with callers.runs.held(rows=(2,)):
                served, *others = (asyncio.create_task(callers.run(prepared, one)) for one in (bad, good, good))
                with pytest.raises(RunFailedError):
                    await served
                await until(lambda: 2 in callers.runs.rows)
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await until(lambda: callers.runs.ended)

    asyncio.run(work())


def test_nothing_keeps_what_a_batch_was_made_of() -> None:
    """Inputs and results go with their callers, without the garbage collector; chains go with their plan."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            requests = requests_of([1, 2])
            found = await callers.together(prepared, requests)
            kept = [weakref.ref(inputs["x"]) for inputs in requests]
            kept += [weakref.ref(value) for result in found for value in result.activations.values()]
            gc.collect()
            gc.disable()
            try:
                requests = requests_of([1, 2])
                found = await callers.together(prepared, requests)
                kept = [weakref.ref(inputs["x"]) for inputs in requests]
                kept += [weakref.ref(value) for result in found for value in result.activations.values()]
                del requests, found
                await turns(3)
                alive = [index for index, one in enumerate(kept) if one() is not None]
                assert not alive
            finally:
                gc.enable()
            chain = weakref.ref(prepared.watched)
        del prepared, callers
        gc.collect()
        assert chain() is None

    asyncio.run(work())
