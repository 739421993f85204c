"""A chain runs segment after segment, only as far ahead as there is room, and ends with who takes what it brings."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.pipeline.chains import LONG, Make, X, all_parts, fresh_memory, one_runner, rest_of

from onnxscope_server.domain import Reduction, ReductionKind, Segment
from onnxscope_server.errors import LimitExceededError, ModelInvalidError, ReductionInvalidError, RunFailedError
from onnxscope_server.pipeline import running
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.shapes_seen import ShapesSeen
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Session

# the last segment never ends where n is large
_ENDLESS = """(float[4] x, int64 n) => (float[4] y) {
    a = Neg (x)  b = Abs (a)
    y = Loop (n, , b) <body = trip (int64 i, bool go, float[4] s) => (bool on, float[4] t) {
        on = Identity (go)  t = Neg (s) }> }"""
_FOREVER = {"x": X, "n": np.array(1 << 60)}
_ONCE = {"x": X, "n": np.array(1)}
_FAILING = "(float[4] x, int64[K] n) => (y) { a = Neg (x)  b = Abs (a)  c = Reshape (b, n)  y = Neg (c) }"


async def _note(runner: Runner, made: tuple[Chain, Any], call: Call, found: list[str]) -> None:
    """Notes the addresses of all activations that come."""
    async with aclosing(running.run(runner, *made, call, ShapesSeen())) as parts:
        async for part in parts:
            found += part.activations


def test_two_calls_share_a_chain(chain_of: Make) -> None:
    """Each gets the values of its own inputs, also where one waits for its caller."""
    made = chain_of(LONG)

    async def work() -> None:
        async with one_runner() as runner:
            async with aclosing(running.run(runner, *made, Call({"x": X}, {}), ShapesSeen())) as slow:
                first = await anext(slow)
                others = await asyncio.gather(
                    *(all_parts(runner, made, Call({"x": X + index}, {})) for index in range(4))
                )
                for index, parts in enumerate(others):
                    np.testing.assert_array_equal(parts[-1].outputs["y"], X + index)  # type: ignore[arg-type]
                rest = [part async for part in slow]
            np.testing.assert_array_equal(first.activations["v0"], -X)  # type: ignore[arg-type]
            np.testing.assert_array_equal(rest[-1].outputs["y"], X)  # type: ignore[arg-type]

    asyncio.run(work())


@pytest.mark.parametrize("waiting", [False, True])
def test_who_goes_ends_the_run(chain_of: Make, waiting: bool) -> None:
    """Between parts and while one is awaited: the thread is free, nothing is kept, and the chain still works."""
    chain, plan = chain_of(_ENDLESS)

    async def work() -> None:
        async with one_runner() as runner:
            parts = running.run(runner, chain, plan, Call(_FOREVER, {}), ShapesSeen())
            values = [await anext(parts), await anext(parts)]
            assert [list(part.activations) for part in values] == [["a"], ["b"]]
            kept = [weakref.ref(value) for part in values for value in part.activations.values()]
            values.clear()
            if waiting:
                task = asyncio.ensure_future(anext(parts))
                await asyncio.sleep(0.02)
                assert not task.done()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del task  # its traceback has all frames
            await asyncio.wait_for(parts.aclose(), 5)
            await asyncio.wait_for(runner.during(lambda _: None), 5)
            del parts
            gc.collect()
            assert all(one() is None for one in kept)
            *_, last = await all_parts(runner, (chain, plan), Call(_ONCE, {}))
            np.testing.assert_array_equal(last.outputs["y"], -X)  # type: ignore[arg-type]

    asyncio.run(work())


def test_an_error_of_a_later_segment_comes_after_what_was_made_before(chain_of: Make) -> None:
    """Nothing that was computed is lost, nothing runs after it, and the next call is served."""
    chain, plan = chain_of(_FAILING)

    async def work() -> None:
        async with one_runner() as runner:
            found: list[str] = []
            with pytest.raises(RunFailedError, match="Reshape"):
                await _note(runner, (chain, plan), Call({"x": X, "n": np.array([3])}, {}), found)
            assert found == ["a", "b"]
            parts_of_next = await all_parts(runner, (chain, plan), Call({"x": X, "n": np.array([2, 2])}, {}))
            assert parts_of_next[-1].outputs["y"].shape == (2, 2)  # type: ignore[union-attr]

    asyncio.run(work())


def test_a_segment_that_onnxruntime_refuses_is_told_when_it_is_its_turn(chain_of: Make) -> None:
    """Whoever made its session, and as often as it is asked for."""
    good, plan = chain_of(LONG)
    segments = [*good.segments[:-1], replace(good.segments[-1], graph=b"garbage")]
    chain = Chain(segments, Opening(intra_op_threads=1), exact=False)

    async def work() -> None:
        async with one_runner() as runner:
            for _ in range(2):
                found: list[str] = []
                with pytest.raises(ModelInvalidError):
                    await _note(runner, (chain, plan), Call({"x": X}, {}), found)
                assert found == [f"v{index}" for index in range(9)]

    asyncio.run(work())


def test_a_missing_mask_is_named(chain_of: Make) -> None:
    """The error says which and how to send it, whichever segment reduces with it."""
    made = chain_of(
        "(float[2, 3, 4] x) => (float[2, 3, 4] y) { a = Neg (x)  b = Abs (a)  y = Neg (b) }",
        reductions=(("b", Reduction(ReductionKind.MEAN, mask_value="weights")),),
    )

    async def work() -> None:
        async with one_runner() as runner:
            x = np.ones((2, 3, 4), np.float32)
            with pytest.raises(ReductionInvalidError, match="mask weights was not sent; send it with VALUE_ROLE_MASK"):
                await all_parts(runner, made, Call({"x": x}, {}))
            parts = await all_parts(runner, made, Call({"x": x}, {"weights": np.eye(2, 3)}))
            (reduced,) = (part.activations["b"] for part in parts if "b" in part.activations)
            np.testing.assert_array_equal(reduced, np.ones((2, 4)))  # type: ignore[arg-type]

    asyncio.run(work())


async def _until(happened: Callable[[], bool]) -> None:
    """Waits for what happens in threads."""
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110  # threads set no event of asyncio's
            await asyncio.sleep(0.001)


def test_sessions_are_made_while_earlier_segments_run(chain_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first there is one; the others are there before the first segment has run to its end."""
    chain, plan = chain_of(LONG)
    made, original = threading.Event(), Session.run_on

    def run_on(*rest: Any, **more: Any) -> Any:
        assert made.wait(20)
        return original(*rest, **more)

    monkeypatch.setattr(Session, "run_on", run_on)

    async def work() -> None:
        async with one_runner() as runner:
            assert len(chain.sessions) == 1
            running_all = asyncio.create_task(all_parts(runner, (chain, plan), Call({"x": X}, {})))
            try:
                await _until(chain.is_made)
                assert not running_all.done()
            finally:
                made.set()
            assert len(await running_all) == len(chain.segments)

    asyncio.run(work())


def test_a_part_needs_no_later_session(chain_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the making of one hangs; each session is made once, whoever needs it first."""
    chain, plan = chain_of(LONG)
    gate, original = threading.Event(), Session.__init__
    made: list[str] = []

    def init(self: Session, segment: Segment, *rest: Any, **more: Any) -> None:
        made.extend(segment.captures)
        if "v2" in segment.captures:
            assert gate.wait(20)
        original(self, segment, *rest, **more)

    monkeypatch.setattr(Session, "__init__", init)

    async def work() -> None:
        async with one_runner() as runner:
            async with aclosing(running.run(runner, chain, plan, Call({"x": X}, {}), ShapesSeen())) as parts:
                try:
                    found = [await anext(parts), await anext(parts)]
                    await _until(lambda: "v2" in made)
                finally:
                    gate.set()
                found += [part async for part in parts]
            assert [name for part in found for name in part.activations] == [*(f"v{at}" for at in range(9)), "y"]
            assert sorted(made) == sorted({*made})

    asyncio.run(work())


@pytest.mark.parametrize("memory", [None, fresh_memory])
def test_a_value_is_handed_on_no_longer_than_it_is_needed(
    chain_of: Make, monkeypatch: pytest.MonkeyPatch, memory: Any
) -> None:
    """`a` crosses one cut, `b` three of them: behind the last node that reads it nobody has it."""
    made = chain_of(
        """(float[4] x) => (float[4] y) {
            a = Neg (x)  b = Abs (a)  c = Neg (b)  d = Add (c, b)  e = Add (d, b)  f = Neg (e)  y = Neg (f) }"""
    )
    handed: dict[str, weakref.ref[Any]] = {}
    there: dict[str, set[str]] = {}
    original = Session.run_on

    def run_on(self: Session, feeds: Any, *rest: Any, **more: Any) -> Any:
        handed.update({name: weakref.ref(feeds[name].ort_value) for name in self.segment.carried})
        result = original(self, feeds, *rest, **more)
        (at, *_) = self.segment.captures
        there[at] = {name for name, reference in handed.items() if reference() is not None}
        return result

    monkeypatch.setattr(Session, "run_on", run_on)

    async def work() -> None:
        seen = ShapesSeen()
        async with one_runner() as runner:
            for _ in range(2):
                handed.clear()
                there.clear()
                parts = await all_parts(runner, made, Call({"x": X}, {}, memory), seen)
                np.testing.assert_array_equal(parts[-1].outputs["y"], X)  # type: ignore[arg-type]
                last = {"a": "b", "b": "e", "c": "d", "d": "e", "e": "f", "f": "y"}
                first = dict(zip("abcdef", "bcdefy", strict=True))
                for value, end in last.items():
                    assert [at for at in there if value in there[at]] == [
                        at for at in there if first[value] <= at <= end
                    ]

    asyncio.run(work())


def test_a_run_that_has_begun_is_not_refused(chain_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits its turn again after its caller has made room, however many others wait: they came later."""
    monkeypatch.setattr(running, "_PARTS", 1)
    chain, plan = chain_of(LONG)

    async def work() -> None:
        runner = Runner(1, 1)
        async with aclosing(running.run(runner, chain, plan, Call({"x": X}, {}), ShapesSeen())) as parts:
            first = await anext(parts)
            await runner.during(lambda _: None)
            gate = threading.Event()
            others = [asyncio.create_task(runner.during(lambda _: gate.wait(5))) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(LimitExceededError):
                await runner.during(lambda _: None)
            rest = asyncio.create_task(rest_of(parts))
            await asyncio.wait((rest,), timeout=0.02)
            gate.set()
            await asyncio.gather(*others)
            found = [first, *await rest]
        assert len(found) == len(chain.segments)
        await runner.close()

    asyncio.run(work())
