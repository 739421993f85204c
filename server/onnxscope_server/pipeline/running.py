"""Runs the chain of a plan once: segment after segment, what each brings as soon as it is there."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Array, Memory, Plan, Result, Segment, Value
from onnxscope_server.errors import BoundRunFailedError, ReductionInvalidError
from onnxscope_server.pipeline.brief import BriefRuns, shapes_of
from onnxscope_server.pipeline.shapes_seen import ShapesSeen, input_shapes
from onnxscope_server.run.readings import outputs_read, read
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Feeds, Session
from onnxscope_server.run.sessions import Chain
from onnxscope_server.run.values import Handle

# what may wait to be taken before the next segment runs
_PARTS = 8
_PARTS_BYTES = 24 << 20
# by whether the loop does a run: in a thread, waiting for the interpreter is none of its time
CLOCKS = {True: time.perf_counter, False: time.thread_time}


@dataclass(frozen=True, slots=True)
class Call:
    """What one call brings along.

    Attributes:
        inputs: of the model, by name.
        masks: by the names that reductions give them.
        memory: where activations and outputs are best written; None for onnxruntime's own memory.
        kept: outputs that are read after they were yielded, and so are not written there.
    """

    inputs: Mapping[str, Value]
    masks: Mapping[str, Array]
    memory: Memory | None = None
    kept: Collection[str] = ()


async def run(runner: Runner, chain: Chain, plan: Plan, call: Call, seen: ShapesSeen) -> AsyncGenerator[Result, None]:
    """Runs a chain once.

    One thread runs segment after segment, as long as there is room for what they bring; meanwhile others make the
    sessions that are missing.

    Args:
        runner: runs sessions.
        chain: what to run.
        plan: what the chain was made for.
        call: what it runs on.
        seen: shapes that outputs had before.

    Yields:
        What each segment brings: activations, scalings and outputs.

    Raises:
        RunFailedError: onnxruntime failed on these inputs.
        OutOfMemoryError: there was not enough memory.
        ReductionInvalidError: a mask is missing.
        ModelInvalidError: onnxruntime refuses a segment.
    """
    walk = _Walk(chain, plan, call, seen)
    if not chain.is_made():
        runner.begin(chain.make)
    going: asyncio.Task[None] | None = None
    wake = asyncio.Event()
    try:
        while True:
            is_going = going is not None and not going.done()
            if not is_going and not walk.parts:
                if going is not None:
                    going.result()
                if walk.is_done:
                    return
            if not is_going and not walk.is_done and walk.has_room:
                going = asyncio.create_task(runner.during(partial(walk.go, _waking(wake))))
                going.add_done_callback(lambda _: wake.set())
            if walk.parts:
                yield walk.parts.popleft()
            else:
                wake.clear()
                await wake.wait()
    finally:
        walk.is_done = True
        if going is not None:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)


async def at_once(
    runner: Runner, chain: Chain, plan: Plan, call: Call, seen: ShapesSeen, brief: BriefRuns, model: CatalogModel
) -> Result:
    """Runs a chain of one segment once, as `run` does, and returns what it brings.

    Args:
        runner: runs sessions.
        chain: what to run.
        plan: what the chain was made for.
        call: what it runs on.
        seen: shapes that outputs had before.
        brief: runs that need no thread.
        model: what the plan is of.

    Raises:
        As `run`.
    """
    session, given = chain.session(0), shapes_of(call.inputs, call.masks)
    if given is None or not session.is_on_cpu:
        return await runner.during(_Walk(chain, plan, call, seen).step)
    is_brief = brief.has(session, given)
    walk = _Walk(chain, plan, replace(call, memory=None) if is_brief else call, seen)
    work = brief.timed(session, given, lambda: model.is_steady, walk.step, CLOCKS[is_brief])
    return runner.here(work) if is_brief else await runner.during(work)


def _waking(wake: asyncio.Event) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(wake.set)


class _Walk:
    """A run over the segments of a chain, in threads that take turns.

    Args:
        chain: what to run.
        plan: what the chain was made for.
        call: what it runs on.
        seen: shapes that outputs had before.

    Attributes:
        parts: what segments have brought and nobody has taken yet.
        is_done: whether nothing is left to run.
    """

    def __init__(self, chain: Chain, plan: Plan, call: Call, seen: ShapesSeen) -> None:
        self._chain = chain
        self._call = call
        self._seen = seen
        self._types = {capture.address: capture.type for capture in plan.captures}
        self._needed = _needed_after(chain.segments)
        self._handles: dict[str, Handle] = {}
        self._values: dict[str, Value] = {}
        self._at = 0
        self.parts: deque[Result] = deque()
        self.is_done = False

    @property
    def has_room(self) -> bool:
        """Whether another segment may run before something is taken."""
        waiting = tuple(self.parts)
        return len(waiting) < _PARTS and sum(part.byte_count for part in waiting) <= _PARTS_BYTES

    def go(self, tell: Callable[[], object], options: Any) -> None:
        """Runs segments while there is room for what they bring.

        Args:
            tell: called when another part is there.
            options: for onnxruntime's runs.
        """
        while not self.is_done and self.has_room:
            part = self.step(options)
            self._at += 1
            self.parts.append(part)
            del part
            self.is_done |= self._at == len(self._chain.segments)
            tell()

    def step(self, options: Any) -> Result:
        """Runs one segment; returns what it brings."""
        segment, session = self._chain.segments[self._at], self._chain.session(self._at)
        carried = {name: self._handles[name] for name in segment.carried}
        made, handed = self._ran(
            session, {**feeds_of(segment, self._call.inputs, self._call.masks), **carried}, options
        )
        values = self._values | made
        part = Result(
            {address: read(reading, values, self._types[address]) for address, reading in segment.captures.items()},
            {name: values[name] for name in segment.outputs},
            {address: read(reading, values, None) for address, reading in segment.scalings.items()},
        )
        needed = self._needed[self._at]
        self._values = {name: value for name, value in values.items() if name in needed}
        self._handles = {name: handle for name, handle in (self._handles | handed).items() if name in needed}
        return part

    def _ran(self, session: Session, feeds: Feeds, options: Any) -> tuple[dict[str, Value], dict[str, Handle]]:
        """Runs a session, into the caller's memory where shapes are known; what is read later is not."""
        handed, fetches = session.segment.handed, list(session.outputs)
        later = {*handed, *self._call.kept}
        memory = self._call.memory
        if memory is None:
            return session.run_on(feeds, fetches, options, None, handed)
        given = input_shapes(self._call.inputs)
        into = self._seen.memory(session, given, memory, [name for name in fetches if name not in later])
        try:
            made, handles = session.run_on(feeds, fetches, options, into, handed)
        except BoundRunFailedError:
            self._seen.forget(session)
            return session.run_on(feeds, fetches, options, None, handed)
        self._seen.learn(session, given, made)
        return made, handles


def feeds_of(segment: Segment, inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> dict[str, Value | Handle]:
    """Returns what a segment takes of a call's inputs and masks.

    Raises:
        ReductionInvalidError: a mask is missing.
    """
    missing = ", ".join(sorted(set(segment.masks) - set(masks)))
    if missing:
        raise ReductionInvalidError(
            f"the reduction's mask {missing} was not sent; send it with VALUE_ROLE_MASK",
            reduction=missing,
        )
    feeds: dict[str, Value | Handle] = {name: inputs[name] for name in segment.inputs if name in inputs}
    feeds |= {graph_input: masks[name] != 0 for name, graph_input in segment.masks.items()}
    return feeds


def _needed_after(segments: tuple[Segment, ...]) -> list[set[str]]:
    """Returns the names that segments behind each one need."""
    needed: list[set[str]] = []
    later: set[str] = set()
    for segment in reversed(segments):
        needed.append(set(later))
        later.update(segment.carried)
        for reading in (*segment.captures.values(), *segment.scalings.values()):
            later.update(outputs_read(reading))
    return needed[::-1]
