"""Chains that run in tests: what they run on, who runs them, and what they bring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.pipeline import running
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.shapes_seen import ShapesSeen
from onnxscope_server.result_domain import Destination, Result
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.values import DTYPES

Make = Callable[..., Any]
X = np.arange(4, dtype=np.float32)
LONG = (
    "(float[4] x) => (float[4] y) { v0 = Neg (x) "
    + " ".join(f"v{index} = Neg (v{index - 1})" for index in range(1, 9))
    + " y = Neg (v8) }"
)


@asynccontextmanager
async def one_runner() -> AsyncIterator[Runner]:
    """A runner with one thread for runs; in the end nothing is left of what it did."""
    before = asyncio.all_tasks()
    runner = Runner(1, 8)
    yield runner
    await asyncio.wait_for(runner.during(lambda _: None), 5)
    await runner.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def all_parts(
    runner: Runner, made: tuple[Chain, Any], call: Call, seen: ShapesSeen | None = None
) -> list[Result]:
    """Runs a chain; returns its parts."""
    async with aclosing(running.run(runner, *made, call, seen or ShapesSeen())) as parts:
        return [part async for part in parts]


async def rest_of(parts: AsyncIterator[Result]) -> list[Result]:
    """Returns the parts that are still to come."""
    return [part async for part in parts]


def fresh_memory(destination: Destination) -> Array:
    """Gives memory to write into."""
    return np.zeros(destination.shape, DTYPES[destination.data_type])
