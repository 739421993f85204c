"""Joins requests for one plan that come at the same time, runs them once, and gives each caller its rows.

    caller A: 1 row  ┐                                  ┌ A's row
    caller B: 2 rows ┼─ joined: 4 rows ── one run ──────┼ B's rows
    caller C: 1 row  ┘                                  └ C's row

Only where the graph keeps rows apart, which `rewrite/rows` proves for every plan and shape, beside the first runs.

When to run what waits: at once, if nothing of its kind runs and as many wait as ran together the last time: a lone
caller never waits, and callers in step never wait for one who is not coming. Else when `delay_seconds` have passed, if
there is a thread for it; while all threads run this very plan nothing would be won by running earlier.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from onnxscope_server.domain import Segment
from onnxscope_server.errors import LimitExceededError, RunCancelledError, UnavailableError
from onnxscope_server.pipeline.batching.joining import Joint, Kind, joined, kind_of
from onnxscope_server.pipeline.batching.turns import Turns
from onnxscope_server.pipeline.capture import Captures, Prepared
from onnxscope_server.pipeline.parts import joined as gathered
from onnxscope_server.pipeline.running import Call
from onnxscope_server.plan.inputs import check
from onnxscope_server.result_domain import Result
from onnxscope_server.rewrite.rows import MixedRowsError, row_axes
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Chain
from onnxscope_server.settings import Settings

T = TypeVar("T")
_log = logging.getLogger(__name__)
_KINDS_KEPT = 64
# below that, joining and taking apart takes less time than handing it to a thread
_SMALL_BYTES = 1 << 20
# nobody's request is to blame: to run each again alone would meet the same
_COMMON = (LimitExceededError, RunCancelledError, UnavailableError)


@dataclass(eq=False, slots=True)
class _Request:
    """One that waits or runs.

    Attributes:
        rows: how many it has.
        since: when it came, by the loop's clock.
        result: where its caller waits.
        batch: what it runs in.
        waited: seconds before it ran.
    """

    prepared: Prepared
    call: Call
    rows: int
    since: float
    result: asyncio.Future[Result]
    batch: _Batch | None = None
    waited: float = 0.0


@dataclass(eq=False, slots=True)
class _Batch:
    """Requests that run together."""

    requests: list[_Request]
    task: asyncio.Task[None] | None = None


@dataclass(eq=False, slots=True)
class _Lane:
    """The requests of one plan and shape.

    Attributes:
        joint: how results are taken apart; None before that is proved, and where rows can't be joined.
        is_asked: whether the proof was begun.
        room: rows that one run may have; 0 before a run has told how much a row brings.
        waiting: what waits.
        running: runs under way.
        last: number of requests in the last run.
        timer: looks after the lane when the oldest request has waited long enough.
        is_called: whether somebody looks after it in the next turn of the loop.
    """

    joint: Joint | None = None
    is_asked: bool = False
    room: int = 0
    waiting: Turns[_Request] = field(default_factory=Turns)
    running: int = 0
    last: int = 1
    timer: asyncio.TimerHandle | None = None
    is_called: bool = False


class Batching:
    """Runs captures, those together that can be; used from one event loop.

    Args:
        captures: runs them.
        runner: lends threads.
        settings: `max_batch_rows`, 0 for no batching, and the other limits.
    """

    def __init__(self, captures: Captures, runner: Runner, settings: Settings) -> None:
        self._captures = captures
        self._runner = runner
        self._max_rows = settings.max_batch_rows
        self._delay = settings.batch_delay_seconds
        self._threads = settings.run_threads_chosen
        self._most_waiting = settings.max_waiting_runs
        self._memory_budget = settings.memory_budget_bytes
        self._lanes: WeakKeyDictionary[Chain, OrderedDict[Kind, _Lane]] = WeakKeyDictionary()
        self._is_proving = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def parts(self, prepared: Prepared, call: Call, caller: str) -> AsyncGenerator[Result, None]:
        """Does what `Captures.parts` does, together with others that ask for the same; see `run`."""
        found = self._lane(prepared, call)
        if found is None:
            brief = self._captures.briefly(prepared, call)
            if brief is not None:
                yield brief
                return
            async with aclosing(self._captures.parts(prepared, call)) as parts:
                async for part in parts:
                    yield part
            return
        yield await self._queued(prepared, call, caller, found)

    async def run(self, prepared: Prepared, call: Call, caller: str) -> Result:
        """Does what `Captures.run` does, together with others that ask for the same.

        A caller that is cancelled takes nothing from the others.

        Args:
            prepared: the plan with its sessions.
            call: of this caller; what runs together is written into no memory of callers'.
            caller: tells clients apart; they take turns.

        Returns:
            This caller's rows; the stage `queue` in its timings is how long it waited for others.

        Raises:
            LimitExceededError: too many requests of this caller wait already; and as `Captures.run`.
        """
        found = self._lane(prepared, call)
        if found is None:
            return self._captures.briefly(prepared, call) or await self._captures.run(prepared, call)
        return await self._queued(prepared, call, caller, found)

    async def _queued(self, prepared: Prepared, call: Call, caller: str, found: tuple[_Lane, int]) -> Result:
        check(prepared.model, call.inputs)
        lane, rows = found
        loop = asyncio.get_running_loop()
        request = _Request(prepared, call, rows, loop.time(), loop.create_future())
        lane.waiting.add(caller, request)
        if len(lane.waiting) > self._most_waiting:
            _fail([lane.waiting.pop_of_busiest()], self._crowded())
        self._call(lane)
        try:
            return await request.result
        except asyncio.CancelledError:
            lane.waiting.remove(caller, request)
            batch = request.batch
            if batch is not None and batch.task is not None and all(one.result.done() for one in batch.requests):
                batch.task.cancel()
            raise

    def _lane(self, prepared: Prepared, call: Call) -> tuple[_Lane, int] | None:
        """Returns where a request waits, and its number of rows; None where it runs alone.

        The second request of a kind has found out whether rows can be joined.
        """
        chain = prepared.watched or prepared.plain
        # where the unmodified model runs beside, its outputs are compared: one caller's difference is not another's
        if not self._max_rows or chain is None or (prepared.watched and prepared.plain) or len(chain.segments) > 1:
            return None
        (segment,) = chain.segments
        found = kind_of(segment, call.inputs, call.masks)
        if found is None:
            return None
        kind, rows = found
        if not 0 < rows < self._max_rows:
            return None
        lanes = self._lanes.setdefault(chain, OrderedDict())
        lane = lanes.get(kind)
        if lane is None:
            lanes[kind] = _Lane()
            if len(lanes) > _KINDS_KEPT:
                lanes.popitem(last=False)
            return None
        lanes.move_to_end(kind)
        if not lane.is_asked and not self._is_proving:
            lane.is_asked = self._is_proving = True
            self._start(self._prove(lane, segment, kind, prepared.model.digest))
        return (lane, rows) if lane.joint is not None else None

    async def _prove(self, lane: _Lane, segment: Segment, kind: Kind, digest: str) -> None:
        """Finds out whether the rows of a kind of request can be joined; one such proof at a time."""
        try:
            sizes = {name: size for name, _, size in kind}
            lane.joint = Joint(segment, await self._runner.call(row_axes, segment, sizes))
        except MixedRowsError as error:
            _log.info("requests for a plan of model %s run alone: %s", digest, error)
        except Exception:  # noqa: BLE001  # of whatever a strange graph made it fail: nothing is proved
            _log.exception("requests for a plan of model %s run alone: the proof failed", digest)
        finally:
            self._is_proving = False

    def _call(self, lane: _Lane) -> None:
        """Looks after a lane in the next turn of the loop: more may come in this one."""
        if not lane.is_called:
            lane.is_called = True
            asyncio.get_running_loop().call_soon(self._look_after, lane)

    def _look_after(self, lane: _Lane) -> None:
        """Starts what is due, and comes back when the next is."""
        lane.is_called = False
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        loop = asyncio.get_running_loop()
        while lane.waiting and lane.running < self._threads:
            is_full = lane.waiting.rows >= lane.room
            is_complete = not lane.running and len(lane.waiting) >= lane.last
            due = lane.waiting.oldest + self._delay
            if not is_full and not is_complete and due > loop.time():
                lane.timer = loop.call_at(due, self._call, lane)
                return
            batch = _Batch(lane.waiting.take(lane.room))
            for request in batch.requests:
                request.batch = batch
                request.waited = loop.time() - request.since
            lane.running += 1
            lane.last = len(batch.requests)
            batch.task = self._start(self._serve(lane, batch.requests))
            # also of a task that is cancelled before it begins
            batch.task.add_done_callback(functools.partial(self._has_ended, lane, batch))

    def _has_ended(self, lane: _Lane, batch: _Batch, _: asyncio.Task[None]) -> None:
        lane.running -= 1
        self._call(lane)
        for request in batch.requests:
            # of a task that was ended from outside
            request.result.cancel()
            # else each would keep what all brought until the garbage collector comes
            request.batch = None

    async def _serve(self, lane: _Lane, requests: list[_Request]) -> None:
        """Runs requests together; where that fails, in halves, until each that fails has failed alone."""
        requests = [request for request in requests if not request.result.done()]
        if not requests:
            return
        try:
            results = await (self._alone(lane, requests[0]) if len(requests) == 1 else self._together(lane, requests))
        except _COMMON as error:
            _fail(requests, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is for the caller whose request it was
            if len(requests) == 1:
                _fail(requests, error)
            else:
                half = len(requests) // 2
                await self._serve(lane, requests[:half])
                await self._serve(lane, requests[half:])
        else:
            for request, result in zip(requests, results, strict=True):
                if not request.result.done():
                    timings = {**result.timings, **request.prepared.timings, "queue": request.waited}
                    request.result.set_result(replace(result, timings=timings))

    async def _alone(self, lane: _Lane, request: _Request) -> list[Result]:
        result = await self._captures.run(request.prepared, replace(request.call, memory=None))
        if not lane.room and lane.joint is not None:
            fixed, each = lane.joint.row_bytes(result, request.rows)
            lane.room = max(1, min(self._max_rows, (self._memory_budget - fixed) // max(1, each)))
        return [result]

    async def _together(self, lane: _Lane, requests: list[_Request]) -> list[Result]:
        joint, prepared = lane.joint, requests[0].prepared
        assert joint is not None  # noqa: S101  # it was when they came
        segment = joint.segment
        arrays = (
            value for request in requests for value in request.call.inputs.values() if isinstance(value, np.ndarray)
        )
        fed = sum(value.nbytes for value in arrays)
        inputs = await self._done(fed, lambda: joined([request.call.inputs for request in requests], segment.inputs))
        masks = joined([request.call.masks for request in requests], tuple(segment.masks))
        async with aclosing(self._captures.run_group(prepared, prepared.plan, Call(inputs, masks))) as parts:
            result = gathered([part async for part in parts])
        rows = [request.rows for request in requests]
        fixed, each = joint.row_bytes(result, sum(rows))
        return await self._done(fixed + each * sum(rows), lambda: joint.split(result, rows))

    async def _done(self, byte_count: int, work: Callable[[], T]) -> T:
        return work() if byte_count <= _SMALL_BYTES else await self._runner.call(work)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _crowded(self) -> LimitExceededError:
        return LimitExceededError(
            f"{self._most_waiting} calls wait already, as many as max_waiting_runs allows; try again later",
            setting="max_waiting_runs",
            limit=str(self._most_waiting),
            got=str(self._most_waiting + 1),
        )


def _fail(requests: list[_Request], error: Exception) -> None:
    for request in requests:
        if not request.result.done():
            request.result.set_exception(error)
