"""Several fits, so many at a time, each told of as it goes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from onnxscope_server.run.pool import Pool

T = TypeVar("T")

# is given what to call with each stage, and what tells whether nobody wants the result any more
Work: TypeAlias = Callable[[Callable[[str], None], Callable[[], bool]], T]


@dataclass(frozen=True, slots=True)
class Stage:
    """A fit has come to a stage; `done_count` of all are finished."""

    name: str
    done_count: int


class Fits(Generic[T]):
    """Fits that one call wants.

    Args:
        pool: whose threads do them.
        works: what to do; begun in this order.
        at_once: how many of these may go on at the same time.
        is_closing: set where all fits of the server are to end.
    """

    def __init__(self, pool: Pool, works: Sequence[Work[T]], at_once: int, is_closing: threading.Event) -> None:
        self._pool = pool
        self._waiting: Iterator[Work[T]] = iter(works)
        self._worker_count = min(at_once, len(works))
        self._is_closing = is_closing
        self._stop = threading.Event()
        # of stages only the last that nobody has taken
        self._results: deque[T] = deque()
        self._stage = ""
        self._done_count = 0
        self._is_there = asyncio.Event()

    async def events(self) -> AsyncGenerator[Stage | T, None]:
        """Does them.

        Closing the generator ends fits soon, and without a result; their threads are free when they have ended.

        Yields:
            Stages, and results as they are made.

        Raises:
            Exception: what a fit raises; the others end then.
        """
        tasks = [asyncio.create_task(self._work(asyncio.get_running_loop())) for _ in range(self._worker_count)]
        for task in tasks:
            task.add_done_callback(lambda _: self._is_there.set())
        try:
            while True:
                self._is_there.clear()
                for event in self._news():
                    yield event
                if self._are_over(tasks):
                    return
                await self._is_there.wait()
        finally:
            self._stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        for work in self._waiting:
            doing = partial(work, partial(self._tell, loop), self._is_stopped)
            self._results.append(await self._pool.do(doing, self._stop.set, has_begun=True))
            self._is_there.set()

    def _news(self) -> Iterator[Stage | T]:
        while self._results:
            self._done_count += 1
            yield self._results.popleft()
        if self._stage:
            stage, self._stage = self._stage, ""
            yield Stage(stage, self._done_count)

    def _are_over(self, tasks: Sequence[asyncio.Task[None]]) -> bool:
        for task in tasks:
            if task.done():
                task.result()
        return all(task.done() for task in tasks) and not self._results

    def _tell(self, loop: asyncio.AbstractEventLoop, stage: str) -> None:
        """Is called in a fit's thread."""
        if not self._stop.is_set():
            loop.call_soon_threadsafe(self._told, stage)

    def _told(self, stage: str) -> None:
        self._stage = stage
        self._is_there.set()

    def _is_stopped(self) -> bool:
        return self._stop.is_set() or self._is_closing.is_set()
