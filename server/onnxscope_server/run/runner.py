"""Runs sessions and other blocking work in bounded threads, and ends runs whose caller has gone."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from onnxscope_server.domain import Array, Value
from onnxscope_server.errors import OnnxscopeServerError, RunCancelledError
from onnxscope_server.run.environment import SILENT, ort
from onnxscope_server.run.home import Home
from onnxscope_server.run.pool import Pool
from onnxscope_server.run.session import Feeds, Session

T = TypeVar("T")


class Runner:
    """Runs sessions, so many at a time; used from one event loop.

    Args:
        threads: runs that go on at the same time; as much other work may go on beside them.
        queue: runs that may wait for a thread.
        home: the core that one of the runs is kept on; None for no such core.
    """

    def __init__(self, threads: int, queue: int, home: Home | None = None) -> None:
        self._home = home or Home()
        self._runs = Pool("onnxscope-run", threads, queue, "max_waiting_runs")
        self._work = Pool("onnxscope-work", threads, queue, "max_waiting_runs")
        self._options = _options()
        self._active: set[Any] = set()
        self._begun: set[asyncio.Task[Any]] = set()

    async def run(
        self, session: Session, feeds: Feeds, fetches: Sequence[str], into: Mapping[str, Array] | None = None
    ) -> dict[str, Value]:
        """Runs a session once.

        Where the caller is cancelled, the run ends at its next node, and its thread is free when it has.

        Args:
            session: what to run.
            feeds: inputs by name.
            fetches: names of outputs.
            into: as `Session.run_on` has it; a run whose caller is cancelled may write there until it has ended.

        Returns:
            Values by output name; their arrays are the caller's own.

        Raises:
            InputMismatchError: an input is missing or unknown, or of another kind or data type.
            RunFailedError: onnxruntime failed on these inputs.
            BoundRunFailedError: the same, with arrays of `into` bound.
            OutOfMemoryError: there was not enough memory; the session still works.
            RunCancelledError: `terminate` ended the run.
            LimitExceededError: too many runs wait already.
            UnavailableError: the runner is closed.
        """
        return await self.during(lambda options: session.run(feeds, fetches, options, into))

    async def during(self, work: Callable[[Any], T], *, has_begun: bool = False) -> T:
        """Does work that runs sessions, in one of the threads for that.

        Args:
            work: takes the run options for its runs; where the caller is cancelled, their `terminate` is set.
            has_begun: it goes on with what was accepted before, and is not refused however many wait.

        Raises:
            What the work raises.
            RunCancelledError: `terminate` ended a run.
            LimitExceededError: too many runs wait already.
            UnavailableError: the runner is closed.
        """
        options = _options()

        def stop() -> None:
            options.terminate = True

        self._active.add(options)
        try:
            return await self._runs.do(functools.partial(self._run, work, options), stop, has_begun=has_begun)
        finally:
            self._active.discard(options)

    def _run(self, work: Callable[[Any], T], options: Any) -> T:
        with self._home.taken():
            return _run(work, options)

    def here(self, work: Callable[[Any], T]) -> T:
        """Does work that runs sessions in the thread that calls: for what takes less time than a thread's change.

        Raises:
            What the work raises.
            UnavailableError: the runner is closed.
        """
        self._runs.check_open()
        return _run(work, self._options)

    def begin(self, work: Callable[..., T], *args: Any) -> None:
        """Has other work done that nobody waits for; its failure is not told."""
        task = asyncio.create_task(self.call(work, *args))
        self._begun.add(task)
        task.add_done_callback(self._has_ended)

    def _has_ended(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()

    async def call(self, work: Callable[..., T], *args: Any, has_begun: bool = False) -> T:
        """Does other blocking work in a thread; it cannot be ended early.

        Args:
            work: what to do.
            args: for it.
            has_begun: as of `during`.

        Raises:
            LimitExceededError: too much work waits already.
            UnavailableError: the runner is closed.
        """
        return await self._work.do(functools.partial(work, *args), has_begun=has_begun)

    def terminate(self) -> None:
        """Ends all runs at their next node; their callers get RunCancelledError."""
        for options in tuple(self._active):
            options.terminate = True

    async def close(self) -> None:
        """Refuses new work and waits until all that was accepted has ended."""
        await self._runs.close()
        await self._work.close()


def _options() -> Any:
    options = ort.RunOptions()
    options.log_severity_level = SILENT
    return options


def _run(work: Callable[[Any], T], options: Any) -> T:
    try:
        return work(options)
    except OnnxscopeServerError as error:
        if options.terminate:
            raise RunCancelledError("the run was ended; nothing is wrong with the model") from error
        raise
