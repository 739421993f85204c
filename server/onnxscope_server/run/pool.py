"""A bounded number of threads with a bounded queue before them, for work that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onnxscope_server.errors import LimitExceededError, UnavailableError

T = TypeVar("T")


class Pool:
    """Threads that do one piece of work each; used from one event loop.

    Args:
        name: of the threads.
        threads: how many pieces go on at the same time.
        queue: how many may wait.
        setting: what the limit on waiting is called, for the error.
    """

    def __init__(self, name: str, threads: int, queue: int, setting: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._permits = asyncio.Semaphore(threads)
        self._threads = threads
        self._queue = queue
        self._setting = setting
        self._waiting = 0
        self._closed = False

    async def do(self, work: Callable[[], T], stop: Callable[[], None] | None = None, *, has_begun: bool = False) -> T:
        """Does a piece of work in a thread.

        A caller that is cancelled is let go at once; its thread counts as busy until the work has ended.

        Args:
            work: what to do.
            stop: tells the work to end early; called when the caller is cancelled.
            has_begun: it goes on with what was accepted before, and waits however many others do.

        Raises:
            LimitExceededError: too many wait already.
            UnavailableError: the pool is closed.
        """
        await self._permit(has_begun=has_begun)
        try:
            future = asyncio.wrap_future(self._executor.submit(work))
        except BaseException:
            self._permits.release()
            raise
        future.add_done_callback(self._ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            raise

    async def close(self) -> None:
        """Refuses new work, waits until all that was accepted has ended, and ends the threads."""
        self._closed = True
        for _ in range(self._threads):
            await self._permits.acquire()
        self._executor.shutdown()

    def check_open(self) -> None:
        """Raises UnavailableError where the pool is closed."""
        if self._closed:
            raise UnavailableError("the server is stopping; try again when it is back")

    async def _permit(self, *, has_begun: bool) -> None:
        self.check_open()
        if self._permits.locked() and self._waiting >= self._queue and not has_begun:
            raise LimitExceededError(
                f"{self._waiting} calls wait already, as many as {self._setting} allows; try again later",
                setting=self._setting,
                limit=str(self._queue),
                got=str(self._waiting + 1),
            )
        self._waiting += 1
        try:
            await self._permits.acquire()
        finally:
            self._waiting -= 1

    def _ended(self, future: asyncio.Future[T]) -> None:
        self._permits.release()
        if not future.cancelled():
            # read, so that the error of a caller who has gone is not reported as forgotten
            future.exception()
