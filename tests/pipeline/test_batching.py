"""Requests that come at the same time run together, and no caller can tell but by the time that it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cut_everywhere import cut_everywhere
from tests.pipeline.callers import (
    ROWWISE,
    assert_same,
    calling,
    requests_of,
    rows_of,
    turns,
    until,
)

from onnxscope_server.domain import OutputMode, Reduction, ReductionKind
from onnxscope_server.errors import ReductionInvalidError
from onnxscope_server.pipeline.parts import joined
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.stream import Stream
from onnxscope_server.result_domain import Destination, Result
from onnxscope_server.run.values import DTYPES
from onnxscope_server.settings import EmbeddedSettings

# the rows of t are its last axis, the ones of s two a row, and k is the same whatever is asked
PLACES = """(float[r, 4] x) => (float[4, r] t, float[q, 2] s, float[r] m, float[2] k)
    <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 0.5, 0.25, 0.125, 1, -1, -2, -3, -4},
     int64[2] d = {-1, 2}, int64[1] last = {1}, float[2] e = {1, 2}> {
    a = MatMul (x, w)  t = Transpose (a)  s = Reshape (a, d)  b = Softmax (a)
    c = ReduceMean <keepdims = 0> (b, last)  k = Neg (e)  m = Sqrt (c) }"""
X = {"x": rows_of(1)}


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 7), min_size=2, max_size=12))
def test_each_gets_its_own_rows_bit_by_bit(counts: list[int]) -> None:
    """Whatever numbers of rows come, in as few runs as that takes and none with more rows than allowed."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            requests = requests_of(counts)
            found = await callers.together(prepared, requests)
            ran = list(callers.runs.rows)
            for inputs, result in zip(requests, found, strict=True):
                assert_same(result, await callers.alone(prepared, inputs))
        assert sum(ran) == sum(counts)
        assert max(ran) <= 8
        # two runs in a row have more rows than one may: else the second's first request had been taken too
        assert len(ran) <= 2 * -(-sum(counts) // 8) + 1

    asyncio.run(work())


@pytest.mark.parametrize("counts", [[1] * 8, [2, 3, 1], [7, 1], [1, 2, 1, 3, 1]])
def test_rows_are_found_wherever_they_are(counts: list[int]) -> None:
    """Along another axis, several a row, none at all; what the caller gets is its own memory."""

    async def work() -> None:
        async with calling(PLACES) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            requests = requests_of(counts)
            found = await callers.together(prepared, requests)
            assert callers.runs.rows == [sum(counts)]
            for index, (inputs, result) in enumerate(zip(requests, found, strict=True)):
                assert_same(result, await callers.alone(prepared, inputs), tolerance=1e-5)
                assert result.outputs["t"].shape == (4, counts[index])  # type: ignore[union-attr]
                for value in (*result.activations.values(), *result.outputs.values()):
                    assert isinstance(value, np.ndarray)
                    assert value.base is None
                    value[...] = np.nan

    asyncio.run(work())


@pytest.mark.parametrize("kind", [ReductionKind.MEAN, ReductionKind.MAX, ReductionKind.LAST])
def test_masks_are_joined_with_what_they_mask(kind: ReductionKind) -> None:
    """Each caller's activation is reduced by its own mask."""
    text = "(float[r, p, 2] x) => (float[r, p, 2] y) { a = Neg (x)  y = Abs (a) }"
    reductions = (("a", Reduction(kind, mask_value="m")),)

    async def work() -> None:
        async with calling(text) as callers:
            prepared = await callers.prepare("a", reductions=reductions)
            rng = np.random.default_rng(0)
            calls = []
            for rows in (1, 2, 1, 3):
                mask = rng.integers(0, 2, (rows, 5)).astype(np.int64)
                mask[:, 0] = 1
                calls.append(({"x": rng.standard_normal((rows, 5, 2)).astype(np.float32)}, {"m": mask}))
            await callers.ready(prepared, *calls[0])
            found = await asyncio.gather(*(callers.run(prepared, *call) for call in calls))
            assert callers.runs.rows == [7]
            for call, result in zip(calls, found, strict=True):
                assert_same(result, await callers.alone(prepared, *call), tolerance=1e-6)

    asyncio.run(work())


@pytest.mark.parametrize("outputs", list(OutputMode))
def test_parts_bring_what_a_whole_result_does(outputs: OutputMode) -> None:
    """Timings last; the time that a request waited is the stage queue."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare("a", outputs=outputs)
            await callers.ready(prepared, X)

            async def parts(inputs: dict[str, Any]) -> list[Result]:
                return [part async for part in callers.batching.parts(prepared, Call(inputs, {}), "a")]

            requests = requests_of([1, 2, 1])
            found = await asyncio.gather(*map(parts, requests))
            assert callers.runs.rows == [4]
            for inputs, own in zip(requests, found, strict=True):
                assert [bool(part.timings) for part in own] == [False] * (len(own) - 1) + [True]
                result = joined(own)
                assert result.timings["queue"] >= 0.0
                assert {"plan", "session", "run"} <= set(result.timings)
                assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


@pytest.mark.parametrize("count", [1, 3])
def test_callers_own_memory_is_left_alone(count: int) -> None:
    """Who may run with others gets arrays, also where nobody else came."""
    asked = []

    def memory(destination: Destination) -> Any:
        asked.append(destination)
        return np.empty(destination.shape, DTYPES[destination.data_type])

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            for _ in range(2):
                await callers.captures.run(prepared, Call(X, {}, memory))
            # shapes are known from now on
            assert asked
            asked.clear()
            callers.runs.rows.clear()
            calls = [Call(inputs, {}, memory) for inputs in requests_of([1] * count)]
            found = await asyncio.gather(*(callers.batching.run(prepared, call, "a") for call in calls))
            assert callers.runs.rows == [count]
            assert not asked
            for call, result in zip(calls, found, strict=True):
                assert_same(result, await callers.alone(prepared, call.inputs))

    asyncio.run(work())


def test_off_is_the_default() -> None:
    """Then each request is a run."""

    async def work() -> None:
        async with calling(ROWWISE, max_batch_rows=EmbeddedSettings().max_batch_rows) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            await callers.together(prepared, requests_of([1, 2, 1]))
            assert callers.runs.rows == [1, 2, 1]
            assert not callers.lanes()

    asyncio.run(work())


MIXING = {
    "batch statistics": """(float[r, 4] x) => (float[r, 4] y)
        <float[4] one = {1, 1, 1, 1}, float[4] o = {0, 0, 0, 0}> {
        y, m, v = BatchNormalization <training_mode = 1> (x, one, o, o, one) }""",
    "dynamic quantisation": """(float[r, 4] x) => (float[r, 4] y) {
        q, s, z = DynamicQuantizeLinear (x)  y = DequantizeLinear (q, s, z) }""",
    "mean of the batch": """(float[r, 4] x) => (float[1, 4] y) {
        axis = Constant <value_ints = [0]> ()  y = ReduceMean (x, axis) }""",
    "softmax of the batch": "(float[r, 4] x) => (float[r, 4] y) { y = Softmax <axis = 0> (x) }",
    "how many there are": "(float[r, 4] x) => (int64[2] y) { a = Neg (x)  y = Shape (a) }",
    "shapes that data tells": "(float[r, 4] x) => (int64[2, n] y) { a = Neg (x)  y = NonZero (a) }",
    "a fixed number of rows": "(float[2, 4] x) => (float[2, 4] y) { a = Neg (x)  y = Abs (a) }",
    "another input without rows": "(float[r, 4] x, float f) => (float[r, 4] y) { a = Neg (x)  y = Mul (a, f) }",
}


@pytest.mark.parametrize("text", MIXING.values(), ids=MIXING)
def test_what_does_not_keep_rows_apart_runs_alone(text: str) -> None:
    """With the results that it has alone."""

    async def work() -> None:
        async with calling(text) as callers:
            prepared = await callers.prepare()
            factor = {"f": np.array(2, np.float32)} if "float f" in text else {}
            requests = [{**inputs, **factor} for inputs in requests_of([2] * 4)]
            await callers.ready(prepared, requests[0])
            found = await callers.together(prepared, requests)
            assert callers.runs.rows == [2] * 4
            for inputs, result in zip(requests, found, strict=True):
                assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


def test_where_outputs_are_compared_each_runs_alone() -> None:
    """One caller's difference is not another's."""
    text = """(float[r, 4] x) => (float[r, 4] y) <float root = {1.41421356237}, float one = {1.0}, float half = {0.5}> {
        d = Div (x, root)  e = Erf (d)  p = Add (e, one)  m = Mul (x, p)  y = Mul (m, half) }"""

    async def work() -> None:
        async with calling(text) as callers:
            prepared = await callers.prepare("e", outputs=OutputMode.UNMODIFIED)
            assert prepared.watched
            assert prepared.plain
            await callers.ready(prepared, X)
            requests = requests_of([1, 2, 1])
            found = await callers.together(prepared, requests)
            # the rewritten model and the unmodified one
            assert sorted(callers.runs.rows) == [1, 1, 1, 1, 2, 2]
            for inputs, result in zip(requests, found, strict=True):
                assert result.fidelity.max_output_difference is not None
                assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


def test_what_runs_in_segments_runs_alone() -> None:
    """A plan that is cut is for large results."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            with cut_everywhere():
                prepared = await callers.prepare()
            assert prepared.watched
            assert len(prepared.watched.segments) > 1
            await callers.ready(prepared, X)
            requests = requests_of([1, 2, 1])
            found = await callers.together(prepared, requests)
            # segments behind the first may be fed by it alone
            assert set(callers.runs.rows) <= {0, 1, 2}
            for inputs, result in zip(requests, found, strict=True):
                assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


def test_more_kinds_than_are_kept_are_all_served() -> None:
    """Also those that wait while others push theirs out."""
    text = "(float[r, n] x) => (float[r, n] y) { a = Neg (x)  y = Abs (a) }"

    async def work() -> None:
        async with calling(text) as callers:
            prepared = await callers.prepare()
            first = {"x": rows_of(1, 1)}
            await callers.ready(prepared, first)
            with callers.runs.held():
                tasks = [asyncio.create_task(callers.run(prepared, first)) for _ in range(3)]
                await callers.runs.has_begun(1)
                others = [{"x": rows_of(1, width)} for width in range(2, 80)]
                tasks += [asyncio.create_task(callers.run(prepared, one)) for one in (*others, first, first)]
                await turns(3)
            found = await asyncio.gather(*tasks)
            for inputs, result in zip([first] * 3 + others + [first] * 2, found, strict=True):
                np.testing.assert_array_equal(result.outputs["y"], inputs["x"])  # type: ignore[arg-type]
            assert len(callers.lanes()) <= 64

    asyncio.run(work())


def test_a_mask_that_is_missing_is_told_each_caller(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is blamed in the log for it."""
    text = "(float[r, p, 2] x) => (float[r, p, 2] y) { a = Neg (x)  y = Abs (a) }"
    reductions = (("a", Reduction(ReductionKind.MEAN, mask_value="m")),)

    async def work() -> None:
        async with calling(text) as callers:
            prepared = await callers.prepare("a", reductions=reductions)
            inputs = {"x": np.ones((1, 5, 2), np.float32)}
            for _ in range(4):
                for error in await asyncio.gather(
                    *(callers.run(prepared, inputs) for _ in range(3)), return_exceptions=True
                ):
                    assert isinstance(error, ReductionInvalidError)
                await until(lambda: not callers.batching._tasks)

    asyncio.run(work())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_streams_with_state_keep_to_themselves() -> None:
    """Each carries its own."""
    text = "(float[r, 4] x, float[r, 4] s) => (float[r, 4] t) { a = Neg (x)  t = Sub (s, a) }"

    async def work() -> None:
        async with calling(text) as callers:
            prepared = await callers.prepare()
            zeros = np.zeros((1, 4), np.float32)
            await callers.ready(prepared, {"x": zeros, "s": zeros})

            async def total(value: float) -> Any:
                async def batches() -> Any:
                    yield {"x": zeros + value, "s": zeros}, {}
                    for _ in range(3):
                        yield {"x": zeros + value}, {}

                spec = callers.spec("*")
                stream = Stream(callers.captures, callers.batching, spec, {"t": "s"}, None, str(value))
                parts = [part async for part in stream.parts(await stream.prepare(), batches())]
                return [part.outputs["t"] for part in parts if part.outputs][-1]

            values = (1.0, 2.0, 3.0)
            for value, found in zip(values, await asyncio.gather(*map(total, values)), strict=True):
                np.testing.assert_array_equal(found, zeros + 4 * value)
            assert set(callers.runs.rows) == {1}

    asyncio.run(work())


def test_a_request_as_large_as_a_run_may_be_runs_at_once() -> None:
    """It waits for nobody and nobody for it; one without rows runs alone too."""

    async def work() -> None:
        async with calling(ROWWISE) as callers:
            prepared = await callers.prepare()
            await callers.ready(prepared, X)
            requests = requests_of([8, 9, 0, 1, 1])
            found = await callers.together(prepared, requests)
            assert sorted(callers.runs.rows) == [0, 2, 8, 9]
            for inputs, result in zip(requests, found, strict=True):
                assert_same(result, await callers.alone(prepared, inputs))

    asyncio.run(work())


def test_requests_of_different_kinds_are_never_joined() -> None:
    """Neither of another shape, nor of another plan."""
    text = "(float[r, n] x) => (float[r, n] y) { a = Neg (x)  y = Softmax (a) }"

    async def work() -> None:
        async with calling(text) as callers:
            plans = [await callers.prepare("a"), await callers.prepare("y")]
            kinds = [(prepared, width) for prepared in plans for width in (2, 3)]
            for prepared, width in kinds:
                await callers.ready(prepared, {"x": rows_of(1, width)})
            calls = [(prepared, {"x": rows_of(1, width, index)}) for index in range(3) for prepared, width in kinds]
            found = await asyncio.gather(*(callers.run(*call) for call in calls))
            assert callers.runs.rows == [3] * 4
            for call, result in zip(calls, found, strict=True):
                assert_same(result, await callers.alone(*call))

    asyncio.run(work())


def test_the_memory_budget_is_for_all_that_run_together() -> None:
    """As many rows as fit are joined; who would not fit even alone is refused alone."""
    # a, b and c are 16 bytes a row each, y too
    row = 4 * 16

    async def work() -> None:
        async with calling(ROWWISE, memory_budget=3 * row) as callers:
            prepared = await callers.prepare("a", "b", "c", "y")
            await callers.ready(prepared, X)
            await callers.together(prepared, requests_of([1] * 7))
            assert callers.runs.rows == [3, 3, 1]

    asyncio.run(work())
