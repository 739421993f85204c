"""Several fits, so many at a time, each told of as it goes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _News(Generic[T]):
    """What fits tell: results, and of stages only the last that nobody has taken yet."""

    results: deque[T] = field(default_factory=deque)
    stage: str = ""
    is_there: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, stage: str) -> None:
        self.stage = stage
        self.is_there.set()


async def run(
    pool: Pool, works: Sequence[Work[T]], at_once: int, is_closing: threading.Event
) -> AsyncGenerator[Stage | T, None]:
    """Does fits in a pool's threads.

    Closing the generator ends fits soon, and without a result; their threads are free when they have ended.

    Args:
        pool: whose threads do it.
        works: what to do; begun in this order.
        at_once: how many of these may go on at the same time.
        is_closing: set where all fits of the server are to end.

    Yields:
        Stages, and results as they are made.

    Raises:
        What a fit raises; the others end then.
    """
    loop, news, stop = asyncio.get_running_loop(), _News[T](), threading.Event()

    def tell(stage: str) -> None:
        if not stop.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(news.tell, stage)

    def stopped() -> bool:
        return stop.is_set() or is_closing.is_set()

    waiting: Iterator[Work[T]] = iter(works)

    async def work() -> None:
        for one in waiting:
            news.results.append(await pool.do(lambda one=one: one(tell, stopped), stop.set, has_begun=True))
            news.is_there.set()

    tasks = [asyncio.create_task(work()) for _ in range(min(at_once, len(works)))]
    for task in tasks:
        task.add_done_callback(lambda _: news.is_there.set())
    done = 0
    try:
        while True:
            news.is_there.clear()
            while news.results:
                done += 1
                yield news.results.popleft()
            if news.stage:
                stage, news.stage = news.stage, ""
                yield Stage(stage, done)
            for task in tasks:
                if task.done():
                    task.result()
            if all(task.done() for task in tasks) and not news.results:
                return
            await news.is_there.wait()
    finally:
        stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
