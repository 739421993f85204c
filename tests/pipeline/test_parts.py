"""What a run brings, part by part: in which order, how much at once, and whose it is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from tests.pipeline.chains import LONG, Make, X, all_parts, fresh_memory, one_runner, rest_of

from onnxscope_server.domain import Array
from onnxscope_server.pipeline import running
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.shapes_seen import ShapesSeen
from onnxscope_server.result_domain import Destination


@pytest.mark.parametrize("memory", [None, fresh_memory])
def test_parts_come_in_the_order_of_the_segments(chain_of: Make, memory: Any) -> None:
    """Each value once, whoever owns the memory, on the first run and on later ones."""
    made = chain_of(LONG)

    async def work() -> None:
        seen = ShapesSeen()
        async with one_runner() as runner:
            for _ in range(3):
                parts = await all_parts(runner, made, Call({"x": X}, {}, memory), seen)
                names = [name for part in parts for name in part.activations]
                assert names == [*(f"v{index}" for index in range(9)), "y"]
                assert [name for part in parts for name in part.outputs] == ["y"]
                for part in parts:
                    for name, value in part.activations.items():
                        at = 9 if name == "y" else int(name[1:])
                        np.testing.assert_array_equal(value, X if at % 2 else -X)  # type: ignore[arg-type]

    asyncio.run(work())


def test_who_needs_the_whole_gets_it_together(chain_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it lies in the caller's memory: of what does not, no more waits than for anybody."""
    made = chain_of(LONG)
    monkeypatch.setattr(running, "_PARTS_BYTES", 0)

    async def work() -> None:
        seen = ShapesSeen()
        call = Call({"x": X}, {}, fresh_memory, whole=True)
        async with one_runner() as runner:
            first, *others = [await all_parts(runner, made, call, seen) for _ in range(3)]
        assert len(first) == len(made[0].segments)
        for parts in others:
            (part,) = parts
            assert list(part.activations) == [*(f"v{index}" for index in range(9)), "y"]
            np.testing.assert_array_equal(part.outputs["y"], X)  # type: ignore[arg-type]

    asyncio.run(work())


def test_a_run_lets_its_first_part_go_ahead(
    chain_of: Make, monkeypatch: pytest.MonkeyPatch, ran: list[tuple[str, ...]]
) -> None:
    """It stands still until that is sent, once; but not for somebody who takes long over it."""
    made = chain_of(LONG)
    count = len(made[0].segments)

    async def work() -> None:
        async with one_runner() as runner:
            monkeypatch.setattr(running, "_FIRST_SECONDS", 30)
            async with aclosing(running.run(runner, *made, Call({"x": X}, {}), ShapesSeen())) as parts:
                await anext(parts)
                await asyncio.sleep(0.05)
                assert len(ran) == 1
                await rest_of(parts)
            assert len(ran) == count
            monkeypatch.setattr(running, "_FIRST_SECONDS", 0.001)
            ran.clear()
            async with aclosing(running.run(runner, *made, Call({"x": X}, {}), ShapesSeen())) as parts:
                await anext(parts)
                await asyncio.sleep(0.2)
                assert len(ran) > 1
                await rest_of(parts)
            assert len(ran) == count

    asyncio.run(work())


@pytest.mark.parametrize("by_reference", [True, False])
def test_who_gets_a_value_may_write_over_it_at_once(chain_of: Make, *, by_reference: bool) -> None:
    """What later segments read is given when they have read it: memory of the caller's, or arrays as they are."""
    made = chain_of(LONG)
    offered: list[Array] = []

    def memory(destination: Destination) -> Array:
        offered.append(fresh_memory(destination))
        return offered[-1]

    call = Call({"x": X}, {}, None if by_reference else memory, by_reference=by_reference)

    async def work() -> None:
        seen = ShapesSeen()
        async with one_runner() as runner:
            for pause in (0.0, 0.0, 0.01):
                offered.clear()
                found = {}
                async with aclosing(running.run(runner, *made, call, seen)) as parts:
                    async for part in parts:
                        await asyncio.sleep(pause)
                        for name, value in part.activations.items():
                            found[name] = np.array(value)
                            if by_reference or any(value is array for array in offered):
                                value[...] = 77  # type: ignore[index,call-overload]
                for name, value in found.items():
                    odd = name == "y" or int(name[1:]) % 2
                    np.testing.assert_array_equal(value, X if odd else -X, name)
        assert len(found) == 10
        assert len(offered) == (0 if by_reference else 10)

    asyncio.run(work())


@pytest.mark.parametrize(("setting", "value", "ahead"), [("_PARTS", 2, 2), ("_PARTS_BYTES", 20, 2), ("_PARTS", 1, 1)])
def test_segments_wait_for_who_takes_the_parts(
    chain_of: Make, ran: list[Any], monkeypatch: pytest.MonkeyPatch, setting: str, value: int, ahead: int
) -> None:
    """Only so many run ahead, the thread is free meanwhile, and the rest comes when it is asked for."""
    monkeypatch.setattr(running, setting, value)
    chain, plan = chain_of(LONG)

    async def work() -> None:
        async with one_runner() as runner:
            async with aclosing(running.run(runner, chain, plan, Call({"x": X}, {}), ShapesSeen())) as parts:
                for taken in range(1, 4):
                    await anext(parts)
                    # the one thread does this when the segments have stopped
                    await runner.during(lambda _: None)
                    assert taken <= len(ran) <= taken + ahead
            assert len(ran) < len(chain.segments)
            ran.clear()
            assert len(await all_parts(runner, (chain, plan), Call({"x": X}, {}))) == len(chain.segments) == len(ran)

    asyncio.run(work())
