"""A request that fails, or whose caller goes, takes nothing from those that run with it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from onnxscope_server.domain import Array
from onnxscope_server.errors import (
    InputMismatchError,
    LimitExceededError,
    RunCancelledError,
    RunFailedError,
    UnavailableError,
)
from onnxscope_server.result_domain import Result

# of the model EMBEDDING
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
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


WRONG = {
    "type": {"x": np.zeros((1, 4))},
    "size": {"x": np.zeros((1, 3), np.float32)},
    "rank": {"x": np.zeros((1, 4, 1), np.float32)},
    "missing": {},
    "unknown": {**X, "z": np.zeros((1, 4), np.float32)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_the_model_does_not_take_disturbs_nobody(wrong: dict[str, Any]) -> None:
    """It is refused for itself."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            requests = [*requests_of([1, 1]), wrong]
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


def test_a_service_that_closes_leaves_nobody_waiting() -> None:
    """Neither who runs nor who waits: each is told."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            with callers.runs.held():
                running = callers.begin(prepared, 3)
                await callers.runs.has_begun(1)
                waiting = callers.begin(prepared, 3)
                await turns(3)
                async with asyncio.timeout(5):
                    await callers.close()
                    found = await asyncio.gather(*running, *waiting, return_exceptions=True)
        assert [type(error) for error in found] == [RunCancelledError] * 3 + [UnavailableError] * 3

    asyncio.run(work())


@settings(max_examples=40, deadline=None)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from(["good", "good", "bad", "go"]), st.integers(1, 5), st.integers(0, 4)), max_size=25
    ),
    threads=st.integers(1, 2),
)
def test_whatever_comes_goes_and_fails_in_whatever_order(actions: list[tuple[str, int, int]], threads: int) -> None:
    """Who stays gets the own rows or the own error, and the next is served."""

    async def work() -> None:
        async with calling(EMBEDDING, run_threads=threads, batch_delay_seconds=0.001, max_waiting_runs=6) as callers:
            prepared = await callers.prepare("a")
            await callers.ready(prepared, {"i": np.array([[0, 1]])})
            tasks: list[tuple[asyncio.Task[Result], Array, bool]] = []
            for at, (action, number, moment) in enumerate(actions):
                if action == "go":
                    for task, *_ in tasks[number - 5 :: 2]:
                        task.cancel()
                else:
                    indices = (np.arange(2 * number).reshape(number, 2) + at) % 4
                    if action == "bad":
                        indices[-1, 0] = 9
                    run = callers.run(prepared, {"i": indices}, caller="abc"[number % 3])
                    tasks.append((asyncio.create_task(run), indices, action == "bad"))
                await turns(moment)
            found = await asyncio.gather(*(task for task, *_ in tasks), return_exceptions=True)
            for result, (task, indices, is_bad) in zip(found, tasks, strict=True):
                if isinstance(result, asyncio.CancelledError):
                    assert task.cancelling()
                elif not isinstance(result, LimitExceededError):
                    assert isinstance(result, RunFailedError if is_bad else Result)
                if isinstance(result, Result):
                    np.testing.assert_array_equal(result.activations["a"], TABLE[indices])  # type: ignore[arg-type]
            async with asyncio.timeout(5):
                await callers.run(prepared, {"i": np.array([[0, 1]])})
            assert max(callers.runs.rows) <= 8

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
