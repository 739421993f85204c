"""Runs the chain of a plan once: segment after segment, what each brings as soon as it is there."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Array, Output, Plan, Segment, Value, ValueType
from onnxscope_server.errors import BoundRunFailedError, ReductionInvalidError
from onnxscope_server.pipeline.brief import BriefRuns, shapes_of
from onnxscope_server.pipeline.parts import merged
from onnxscope_server.pipeline.shapes_seen import ShapesSeen, input_shapes
from onnxscope_server.result_domain import VALUE_KINDS, Memory, Result, ValueKind
from onnxscope_server.run.chain import Chain, Wanted
from onnxscope_server.run.readings import read
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Feeds, Session
from onnxscope_server.run.values import Handle

# what may wait to be taken before the next segment runs
_PARTS = 8
_PARTS_BYTES = 24 << 20
# that a run stands still at most for its first part to be sent
_FIRST_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Call:
    """What one call brings along.

    Attributes:
        inputs: of the model, by name.
        masks: by the names that reductions give them.
        memory: where activations and outputs are best written; None for onnxruntime's own memory.
        kept: outputs that are read after they were yielded, and so are not written there.
        by_reference: whether the caller gets arrays as they are, and may write to them; they are copied else.
        whole: whether the caller needs all of it, so that what lies in `memory` may come together.
    """

    inputs: Mapping[str, Value]
    masks: Mapping[str, Array]
    memory: Memory | None = None
    kept: Collection[str] = ()
    by_reference: bool = False
    whole: bool = False


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
                going = asyncio.create_task(runner.during(partial(walk.go, _waking(wake)), has_begun=going is not None))
                going.add_done_callback(lambda _: wake.set())
            if walk.parts:
                yield walk.taken()
                walk.is_first_sent.set()
            else:
                wake.clear()
                await wake.wait()
    finally:
        walk.is_done = True
        if going is not None:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)


def briefly(
    runner: Runner, chain: Chain, plan: Plan, call: Call, seen: ShapesSeen, brief: BriefRuns, model: CatalogModel
) -> Result | None:
    """Does what `at_once` does for a run that is known to be brief, in the thread that calls; None for any other."""
    session, given = chain.session(0), shapes_of(call.inputs, call.masks)
    if given is None or not session.is_on_cpu:
        return None
    kind = brief.kind(session, given)
    if not kind.is_brief:
        return None
    if brief.wants_single(kind):
        runner.begin(brief.find_single, chain, kind, feeds_of(chain.segments[0], call.inputs, call.masks))
    call = call if call.memory is None else replace(call, memory=None)
    walk = _Walk(chain, plan, call, seen, kind.single)
    return runner.here(brief.timed(kind, lambda: model.is_steady, walk.step, time.perf_counter))


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
    result = briefly(runner, chain, plan, call, seen, brief, model)
    if result is not None:
        return result
    session, given = chain.session(0), shapes_of(call.inputs, call.masks)
    walk = _Walk(chain, plan, call, seen)
    if given is None or not session.is_on_cpu:
        return await runner.during(walk.step)
    # waiting for the interpreter is none of its time
    kind = brief.kind(session, given)
    return await runner.during(brief.timed(kind, lambda: model.is_steady, walk.step, time.thread_time))


def _waking(wake: asyncio.Event) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(wake.set)


@dataclass(frozen=True, slots=True)
class _Part:
    """What a segment has brought.

    Attributes:
        result: the values.
        loose_bytes: of those that lie in no memory of the caller's.
    """

    result: Result
    loose_bytes: int


class _Walk:
    """A run over the segments of a chain, in threads that take turns.

    Args:
        chain: what to run.
        plan: what the chain was made for.
        call: what it runs on.
        seen: shapes that outputs had before.
        session: runs the one segment there is, in place of the chain's own; None for that.

    Attributes:
        parts: what segments have brought and nobody has taken yet.
        is_first_sent: set when whoever takes parts has done with the first.
        is_done: whether nothing is left to run.
    """

    def __init__(self, chain: Chain, plan: Plan, call: Call, seen: ShapesSeen, session: Session | None = None) -> None:
        self._chain = chain
        self._session = session
        self._call = call
        self._seen = seen
        self._plan = plan
        self._handles: dict[str, Handle] = {}
        self._values: dict[str, Value] = {}
        # of those, what the caller may write to and is read again
        self._lent: set[str] = set()
        self._postponed: list[Wanted] = []
        self._at = 0
        # bytes that the last segment wrote into the caller's memory
        self._placed_bytes = 0
        self.parts: deque[_Part] = deque()
        self.is_first_sent = threading.Event()
        self._has_waited = False
        self.is_done = False

    @property
    def has_room(self) -> bool:
        """Whether another segment may run before something is taken."""
        waiting = tuple(self.parts)
        if self._call.whole:
            return sum(part.loose_bytes for part in waiting) <= _PARTS_BYTES
        return len(waiting) < _PARTS and sum(part.result.byte_count for part in waiting) <= _PARTS_BYTES

    def taken(self) -> Result:
        """Takes the next part; of those in the caller's memory all that are there, which are as quickly told of."""
        part = self.parts.popleft().result
        if self._call.memory is None or not self.parts:
            return part
        parts = [part]
        while self.parts:
            parts.append(self.parts.popleft().result)
        return merged(parts)

    def go(self, tell: Callable[[], object], options: Any) -> None:
        """Runs segments while there is room for what they bring.

        Args:
            tell: called when another part is there; where the caller needs the whole, behind the last.
            options: for onnxruntime's runs.
        """
        while not self.is_done and self.has_room:
            part = self.step(options)
            self._at += 1
            brings = any(part.values.values())
            if brings:
                self.parts.append(_Part(part, max(0, part.byte_count - self._placed_bytes)))
            del part
            if self._at == len(self._chain.segments):
                # never back to False: the caller's loop sets it too
                self.is_done = True
            if self.is_done or not self._call.whole:
                tell()
            if brings and not self.is_done and not self._call.whole:
                self._let_go_ahead()

    def _let_go_ahead(self) -> None:
        """Stands still until the first part is sent: the loop would get no core before the system's next tick."""
        if not self._has_waited:
            self._has_waited = True
            self.is_first_sent.wait(_FIRST_SECONDS)

    def step(self, options: Any) -> Result:
        """Runs one segment; returns what it brings."""
        segment, session = self._chain.segments[self._at], self._session or self._chain.session(self._at)
        carried = {name: self._handles[name] for name in segment.carried}
        feeds = {**feeds_of(segment, self._call.inputs, self._call.masks), **carried}
        made, handed, written = self._ran(session, feeds, options)
        needed = self._chain.needed_after[self._at]
        self._lent = {name for name in (*self._lent, *written) if name in needed}
        self._values |= made
        part = self._read()
        kept = needed.union(*(one.names for one in self._postponed))
        self._values = {name: value for name, value in self._values.items() if name in kept}
        self._handles = {name: handle for name, handle in (self._handles | handed).items() if name in needed}
        return part

    def _read(self) -> Result:
        """Reads what a segment brings, and what waited.

        A value to which the caller may write waits for the segments that still read it.
        """
        wanted = [*self._postponed, *self._chain.wanted[self._at]]
        self._postponed = []
        found: dict[ValueKind, dict[str, Value]] = {kind: {} for kind in VALUE_KINDS}
        for one in wanted:
            if not self._lent or self._lent.isdisjoint(one.names):
                found[one.kind][one.name] = self._value(one)
            else:
                self._postponed.append(one)
        return Result.of(found)

    def _value(self, wanted: Wanted) -> Value:
        if isinstance(wanted.reading, Output):
            return self._values[wanted.reading.name]
        type_ = self._types.get(wanted.name) if wanted.kind == "activations" else None
        return read(wanted.reading, self._values, type_)

    @functools.cached_property
    def _types(self) -> Mapping[str, ValueType | None]:
        return {capture.address: capture.type for capture in self._plan.captures}

    def _ran(
        self, session: Session, feeds: Feeds, options: Any
    ) -> tuple[dict[str, Value], dict[str, Handle], Collection[str]]:
        """Runs a session, into the caller's memory where shapes are known; returns too what the caller may write to."""
        handed, fetches = session.segment.handed, list(session.outputs)
        memory, self._placed_bytes = self._call.memory, 0
        if memory is None:
            return *session.run_on(feeds, fetches, options, None, handed), handed if self._call.by_reference else ()
        given = input_shapes(self._call.inputs)
        into = self._seen.memory(session, given, memory, [name for name in fetches if name not in self._call.kept])
        try:
            made, handles = session.run_on(feeds, fetches, options, into, handed)
        except BoundRunFailedError:
            # where this fails too, shapes were not what was wrong
            found = session.run_on(feeds, fetches, options, None, handed)
            self._seen.forget(session)
            return *found, ()
        self._seen.learn(session, given, made)
        written = [name for name, array in into.items() if made[name] is array]
        self._placed_bytes = sum(into[name].nbytes for name in written)
        return made, handles, written


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
