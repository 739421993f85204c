"""The cache of sessions: bounded, one made per key, none kept that failed."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxscope_server.catalog.shared_weights import Placed
from onnxscope_server.domain import Segment
from onnxscope_server.errors import ModelInvalidError
from onnxscope_server.run import sessions as sessions_module
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Chain, Sessions


def works(chain: Chain) -> bool:
    """Whether the chain computes x + x."""
    return np.array_equal(np.asarray(chain.session(0).run({"x": np.ones(1, np.float32)}, ["y"])["y"]), [2])


class Builds:
    """Builds of a segment that are counted, and may be held up."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> list[Segment]:
        """Builds."""
        self.count += 1
        self.gate.wait()
        return [self.segment]


@pytest.fixture
def builds(double: Segment) -> Builds:
    """Builds x + x."""
    return Builds(double)


@asynccontextmanager
async def cache(max_sessions: int = 8, **rest: Any) -> AsyncIterator[Sessions]:
    """A cache with a runner that ends with it."""
    runner = Runner(2, 64)
    try:
        yield Sessions(runner, Opening(intra_op_threads=1), max_sessions=max_sessions, **rest)
    finally:
        await runner.close()


async def test_same_key_same_session(builds: Builds) -> None:
    """A session is made once per key and exactness."""
    async with cache() as sessions:
        first = await sessions.get("a", "d", builds, exact=False)
        assert await sessions.get("a", "d", builds, exact=False) is first
        assert await sessions.get("a", "d", builds, exact=True) is not first
        assert await sessions.get("b", "d", builds, exact=False) is not first
        assert (builds.count, len(sessions)) == (3, 3)


async def test_one_build_for_all_who_ask_at_once(builds: Builds) -> None:
    """Thirty who ask while it is made get the one session."""
    async with cache() as sessions:
        got = await asyncio.gather(*(sessions.get("a", "d", builds, exact=False) for _ in range(30)))
        assert len(set(got)) == 1
        assert builds.count == 1


async def test_a_failure_is_shared_and_not_kept(builds: Builds) -> None:
    """All who wait get the error; who asks later has it made again."""
    async with cache() as sessions:
        good, builds.segment = builds.segment, replace(builds.segment, graph=b"garbage")
        asked = [sessions.get("a", "d", builds, exact=False) for _ in range(5)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in errors] == [ModelInvalidError] * 5
        assert (builds.count, len(sessions)) == (1, 0)
        builds.segment = good
        assert works(await sessions.get("a", "d", builds, exact=False))


async def test_a_caller_that_leaves_takes_nothing_away(builds: Builds) -> None:
    """The build goes on for the others, and is kept even where all have left."""
    async with cache() as sessions:
        builds.gate.clear()
        leaving, staying = (asyncio.create_task(sessions.get("a", "d", builds, exact=False)) for _ in range(2))
        await asyncio.sleep(0.02)
        leaving.cancel()
        alone = asyncio.create_task(sessions.get("b", "d", builds, exact=False))
        await asyncio.sleep(0.02)
        alone.cancel()
        builds.gate.set()
        assert works(await staying)
        assert leaving.cancelled()
        await sessions.get("b", "d", builds, exact=False)
        assert builds.count == 2


async def test_the_least_recently_used_goes(builds: Builds) -> None:
    """The bound holds, use counts as recent, and a session in use works on."""
    async with cache(2) as sessions:
        first = await sessions.get("a", "d", builds, exact=False)
        second = await sessions.get("b", "d", builds, exact=False)
        assert await sessions.get("a", "d", builds, exact=False) is first
        await sessions.get("c", "d", builds, exact=False)
        assert len(sessions) == 2
        assert await sessions.get("a", "d", builds, exact=False) is first
        assert works(second)
        gone = weakref.ref(second)
        del second
        gc.collect()
        assert gone() is None
        assert builds.count == 3


async def test_memory_is_bounded_too(builds: Builds) -> None:
    """Estimates above the bound push the oldest out; the newest stays however large it is."""
    size = len(builds.segment.graph)
    async with cache(8, max_bytes=2 * size) as sessions:
        for key in "abc":
            await sessions.get(key, "d", builds, exact=False)
        assert len(sessions) == 2
    async with cache(8, max_bytes=1) as tiny:
        for key in "ab":
            await tiny.get(key, "d", builds, exact=False)
        assert len(tiny) == 1


async def test_drop_forgets_a_model(builds: Builds) -> None:
    """Its sessions go, those too that are being made; other models' stay."""
    async with cache() as sessions:
        await sessions.get("a", "one", builds, exact=False)
        await sessions.get("b", "two", builds, exact=False)
        builds.gate.clear()
        making = asyncio.create_task(sessions.get("c", "one", builds, exact=False))
        await asyncio.sleep(0.02)
        await sessions.drop("one")
        builds.gate.set()
        assert works(await making)
        assert len(sessions) == 1
        await sessions.get("b", "two", builds, exact=False)
        assert builds.count == 3
        await sessions.get("c", "one", builds, exact=False)
        assert builds.count == 4


async def test_optimised_graph_on_request(builds: Builds) -> None:
    """A session that was made without its optimised graph is made again when that is asked for, and serves both."""
    async with cache(fingerprint=lambda file, *_: {"bytes": file.stat().st_size}) as sessions:
        plain = await sessions.get("a", "d", builds, exact=False)
        kept = await sessions.get("a", "d", builds, exact=False, keep_optimised=True)
        assert not plain.keeps_optimised
        assert kept.cones()["bytes"] > 0
        assert await sessions.get("a", "d", builds, exact=False) is kept
        assert await sessions.get("a", "d", builds, exact=False, keep_optimised=True) is kept
        assert (builds.count, len(sessions)) == (2, 1)


async def test_what_happens_is_counted(builds: Builds) -> None:
    """Hits, misses, evictions, and the sessions that were made, also later than their chain."""
    builds.segment = replace(builds.segment, outputs=("y",))
    async with cache(2) as sessions:
        for key in "abacb":
            await sessions.get(key, "d", builds, exact=False)
        await asyncio.sleep(0)
        counts = sessions.counts
        assert (counts.hits, counts.misses, counts.evictions, counts.made) == (1, 4, 2, 4)
        assert counts.making_seconds > 0
        assert (len(sessions), sessions.session_count) == (2, 2)
        assert sessions.byte_count == 2 * len(builds.segment.graph)


async def test_sessions_made_later_count_too(double: Segment) -> None:
    """A chain whose later segments come when they are needed pushes others out then."""
    size = len(double.graph)
    async with cache(8, max_bytes=3 * size) as sessions:
        await sessions.get("a", "d", lambda: [double], exact=False)
        chain = await sessions.get("b", "d", lambda: [double] * 3, exact=False)
        assert len(sessions) == 2
        for index in (1, 2):
            await asyncio.to_thread(chain.session, index)
        await asyncio.sleep(0)
        assert (len(sessions), sessions.session_count, sessions.byte_count) == (1, 3, 3 * size)
        assert await sessions.get("b", "d", lambda: [double], exact=False) is chain


class Shares:
    """Says that every session shares one weight of 1,000 bytes, and takes 10 of its own."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def placed(self, digest: str, segment: Segment, *, exact: bool) -> Placed:
        """Places nothing."""
        self.told.append(("placed", digest))
        return Placed(segment.graph, segment.graph, Path("/"), {("weights", 0, 1000): 1000}, 10)

    def prepare(self, digest: str) -> None:
        """Packs nothing."""
        self.told.append(("prepare", digest))

    def forget(self, digest: str) -> None:
        """Deletes nothing."""
        self.told.append(("forget", digest))


async def test_shared_weights_count_once_a_model(builds: Builds) -> None:
    """Sessions of one model bring their own bytes each and its weights once; another model's count besides."""
    shares: Any = Shares()
    async with cache(8, sharing=shares, max_bytes=2045) as sessions:
        await sessions.prepare("one")
        for key in "abc":
            await sessions.get(key, "one", builds, exact=False)
        assert sessions.byte_count == 1030
        await sessions.get("d", "two", builds, exact=False)
        assert sessions.byte_count == 2040
        await sessions.get("e", "two", builds, exact=False)
        assert (sessions.byte_count, len(sessions)) == (2040, 4)
        await sessions.drop("two")
        assert sessions.byte_count == 1020
    assert shares.told[0] == ("prepare", "one")
    assert shares.told[-1] == ("forget", "two")


async def test_freed_memory_is_given_back_in_a_while(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not between two sessions that are made: making the next is faster where it is still there."""
    tidied = threading.Event()
    monkeypatch.setattr(sessions_module, "trim", tidied.set)
    monkeypatch.setattr(sessions_module, "_TIDY_SECONDS", 0.05)
    async with cache() as sessions:
        await sessions.get("a", "d", builds, exact=False)
        await asyncio.sleep(0)
        assert not tidied.is_set()
        await asyncio.to_thread(tidied.wait, 5)
        assert tidied.is_set()
