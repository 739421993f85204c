"""Runs the chain of a plan once: segment after segment, what each brings as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from onnxscope_server.domain import Array, Memory, Plan, Result, Segment, Value
from onnxscope_server.errors import BoundRunFailedError, ReductionInvalidError
from onnxscope_server.pipeline.shapes_seen import ShapesSeen, input_shapes
from onnxscope_server.run.readings import outputs_read, read
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Session
from onnxscope_server.run.sessions import Chain
from onnxscope_server.run.values import Handle


@dataclass(frozen=True, slots=True)
class Call:
    """What one call brings along.

    Attributes:
        inputs: of the model, by name.
        masks: by the names that reductions give them.
        memory: where activations and outputs are best written; None for onnxruntime's own memory.
    """

    inputs: Mapping[str, Value]
    masks: Mapping[str, Array]
    memory: Memory | None = None


async def run(runner: Runner, chain: Chain, plan: Plan, call: Call, seen: ShapesSeen) -> AsyncGenerator[Result, None]:
    """Runs a chain once.

    While one segment runs, the session of the next is made, where it is missing. What segments hand to each other is
    let go when the last that needs it has run.

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
    types = {capture.address: capture.type for capture in plan.captures}
    handles: dict[str, Handle] = {}
    values: dict[str, Value] = {}
    needed = _needed_after(chain.segments)
    for index, segment in enumerate(chain.segments):
        session = await _made(runner, chain, index)
        following = _begun(runner, chain, index + 1)
        feeds = {**feeds_of(segment, call.inputs, call.masks), **{name: handles[name] for name in segment.carried}}
        made, handed = await _ran(runner, session, feeds, call, seen)
        del feeds
        values |= made
        handles |= handed
        part = Result(
            {address: read(reading, values, types[address]) for address, reading in segment.captures.items()},
            {name: values[name] for name in segment.outputs},
            {address: read(reading, values, None) for address, reading in segment.scalings.items()},
        )
        del made, handed
        values = {name: value for name, value in values.items() if name in needed[index]}
        handles = {name: handle for name, handle in handles.items() if name in needed[index]}
        yield part
        del part, following


async def _ran(
    runner: Runner, session: Session, feeds: Mapping[str, Value | Handle], call: Call, seen: ShapesSeen
) -> tuple[dict[str, Value], dict[str, Handle]]:
    """Runs a session, into the caller's memory where shapes are known; what is handed on the caller can't reach."""
    handed, fetches = session.segment.handed, list(session.outputs)
    if call.memory is None:
        return await runner.run_on(session, feeds, fetches, None, handed)
    given = input_shapes(call.inputs)
    names = [name for name in fetches if name not in handed]
    into = seen.memory(session, given, call.memory, names)
    try:
        made, handles = await runner.run_on(session, feeds, fetches, into, handed)
    except BoundRunFailedError:
        seen.forget(session)
        return await runner.run_on(session, feeds, fetches, None, handed)
    seen.learn(session, given, made)
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


async def _made(runner: Runner, chain: Chain, index: int) -> Session:
    return chain.session(index) if chain.is_made(index) else await runner.call(chain.session, index)


def _begun(runner: Runner, chain: Chain, index: int) -> asyncio.Task[Session] | None:
    """Begins to make a session; its failure shows when it is asked for."""
    if index >= len(chain.segments) or chain.is_made(index):
        return None
    task = asyncio.create_task(runner.call(chain.session, index))
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


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
