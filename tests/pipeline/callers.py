"""Callers of a service that joins their requests, for the tests of batching."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxscope_server.app import Services
from onnxscope_server.domain import Array, CaptureSpec, OutputMode
from onnxscope_server.pipeline import brief
from onnxscope_server.pipeline.batching.batching import Batching, _Lane
from onnxscope_server.pipeline.capture import Captures, Prepared
from onnxscope_server.pipeline.running import Call
from onnxscope_server.result_domain import Result
from onnxscope_server.run.session import Session
from onnxscope_server.settings import EmbeddedSettings


async def until(condition: Callable[[], object]) -> None:
    """Waits until something is so that threads bring about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # threads set no event of the loop
            await asyncio.sleep(0.001)


async def turns(count: int) -> None:
    """Lets the loop do so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


class Runs:
    """Runs of sessions: notes how many rows each has, and holds them up.

    Attributes:
        rows: of each run, in order; 0 of one that no array is fed.
        ended: how many were ended while they were held.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.ended = 0
        self._held: Collection[int] = ()

    @classmethod
    @contextmanager
    def noted(cls) -> Iterator[Runs]:
        """Notes all runs meanwhile."""
        runs = cls()
        original = Session.run_on

        def noting(session: Session, feeds: Any, fetches: Any, options: Any = None, *rest: Any) -> Any:
            rows = next((len(value) for value in feeds.values() if isinstance(value, np.ndarray) and value.ndim), 0)
            runs.rows.append(rows)
            while rows in runs._held:
                time.sleep(0.001)
                if options is not None and options.terminate:
                    runs.ended += 1
                    break
            return original(session, feeds, fetches, options, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "run_on", noting)
            yield runs

    @contextmanager
    def held(self, rows: Collection[int] = range(100)) -> Iterator[None]:
        """Holds runs of so many rows until the end of the block, or until they are ended."""
        self._held = rows
        try:
            yield
        finally:
            self._held = ()

    async def has_begun(self, count: int) -> None:
        """Waits until so many runs have begun."""
        await until(lambda: len(self.rows) >= count)


class Callers:
    """Callers of one model."""

    def __init__(self, services: Services, digest: str, runs: Runs) -> None:
        self.is_closed = False
        self._services = services
        self.digest = digest
        self.runs = runs
        self.captures: Captures = services.captures._captures
        self.batching: Batching = services.captures._batching

    def spec(self, *selectors: str, **rest: Any) -> CaptureSpec:
        """Asks for everything if nothing is said."""
        return CaptureSpec(self.digest, selectors=selectors or ("*",), **({"outputs": OutputMode.INSTRUMENTED} | rest))

    async def prepare(self, *selectors: str, **rest: Any) -> Prepared:
        """Makes a plan ready, of everything if nothing is said."""
        return await self.captures.prepare(self.spec(*selectors, **rest))

    async def run(
        self, prepared: Prepared, inputs: Mapping[str, Any], masks: Mapping[str, Array] | None = None, caller: str = "a"
    ) -> Result:
        """Runs a request as one of others."""
        return await self.batching.run(prepared, Call(inputs, masks or {}), caller)

    async def alone(
        self, prepared: Prepared, inputs: Mapping[str, Any], masks: Mapping[str, Array] | None = None
    ) -> Result:
        """Runs a request that never meets others."""
        return await self.captures.run(prepared, Call(inputs, masks or {}))

    async def ready(
        self, prepared: Prepared, inputs: Mapping[str, Any], masks: Mapping[str, Array] | None = None
    ) -> None:
        """Runs a request so often that others of its kind can be joined from now on, if they can be at all."""
        for _ in range(2):
            await self.run(prepared, inputs, masks)
        await asyncio.gather(*self.batching._tasks)
        await self.run(prepared, inputs, masks)
        self.runs.rows.clear()

    async def together(self, prepared: Prepared, requests: Sequence[Mapping[str, Any]]) -> list[Result]:
        """Runs requests of as many callers at the same time."""
        return await asyncio.gather(
            *(self.run(prepared, inputs, caller=str(index)) for index, inputs in enumerate(requests))
        )

    def begin(self, prepared: Prepared, count: int, caller: str = "a") -> list[asyncio.Task[Result]]:
        """Begins requests of one row each, all of one caller."""
        return [asyncio.create_task(self.run(prepared, inputs, caller=caller)) for inputs in requests_of([1] * count)]

    async def close(self) -> None:
        """Closes the service."""
        self.is_closed = True
        await self._services.close()

    def lanes(self) -> list[_Lane]:
        """Returns what there is for kinds of requests."""
        return [lane for lanes in self.batching._lanes.values() for lane in lanes.values()]

    def check_idle(self) -> None:
        """Checks that nothing waits or runs."""
        assert not self.batching._tasks
        for lane in self.lanes():
            assert (len(lane.waiting), lane.waiting.rows, lane.running) == (0, 0, 0)


def _written(folder: str, text: str) -> Path:
    path = Path(folder, "model.onnx")
    proto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {text}')
    path.write_bytes(proto.SerializeToString())
    return path


@asynccontextmanager
async def calling(text: str, **settings: Any) -> AsyncIterator[Callers]:
    """Serves a model in ONNX's text form to callers; checks that in the end no task, thread or request is left."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    chosen = {"intra_op_threads": 1, "run_threads": 1, "max_batch_rows": 8}
    with TemporaryDirectory() as folder, Runs.noted() as runs, pytest.MonkeyPatch.context() as patch:
        # a run that is held must not hold the loop
        patch.setattr(brief, "_MOST_SECONDS", -1.0)
        path = _written(folder, text)
        services = Services.make(EmbeddedSettings(**(chosen | settings)))
        callers = Callers(services, (await services.models.add_file(path, "model", "")).digest, runs)
        try:
            yield callers
            await until(lambda: not callers.batching._tasks)
            callers.check_idle()
        finally:
            if not callers.is_closed:
                await callers.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert not {one for one in threading.enumerate() if one.name.startswith("onnxscope")} - threads


# each row for itself, bit by bit
ROWWISE = """(float[r, 4] x) => (float[r, 4] y) <float[4] w = {1.0, -2.0, 3.0, 0.5}> {
    a = Mul (x, w)  b = Abs (a)  c = Neg (b)  y = Add (c, x) }"""
EMBEDDING = """(int64[r, 2] i) => (float[r, 2, 3] y)
    <float[4, 3] table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}> { a = Gather (table, i)  y = Neg (a) }"""


def rows_of(count: int, width: int = 4, start: float = 0.0) -> Array:
    """float32 [count, width], all numbers different."""
    return (start + np.arange(count * width, dtype=np.float32)).reshape(count, width) / 16


def requests_of(counts: Sequence[int]) -> list[dict[str, Array]]:
    """Inputs x of several callers, with so many rows each, all numbers different."""
    return [{"x": rows_of(count, start=100.0 * index)} for index, count in enumerate(counts)]


def assert_same(found: Result, wanted: Result, *, tolerance: float = 0.0) -> None:
    """Checks that two results have the same values, within a relative tolerance."""
    for kind in ("activations", "outputs", "scalings"):
        have, want = getattr(found, kind), getattr(wanted, kind)
        assert set(have) == set(want)
        for name, value in want.items():
            assert have[name].dtype == value.dtype, name
            np.testing.assert_allclose(have[name], value, rtol=tolerance, atol=tolerance, err_msg=name)
    assert found.fidelity == wanted.fidelity
