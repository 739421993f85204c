"""CaptureService: messages <-> the verbs capture and stream."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import codec
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope.v1.capture_service_pb2_grpc import CaptureServiceServicer
from onnxscope_server.api.convert import completed_to_pb, plan_to_pb, spec_from_pb
from onnxscope_server.domain import Array, Result, Value
from onnxscope_server.errors import ValueInvalidError
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures, Prepared, joined
from onnxscope_server.pipeline.stream import Batch, Stream
from onnxscope_server.run.sessions import Session
from onnxscope_server.wire.packing import Entry, entry_of, entry_of_part, packed

_EMBEDDED = "embedded"
R = TypeVar("R", pb.CaptureRequest, pb.StreamCaptureRequest)


class CaptureServicer(CaptureServiceServicer):
    """Runs captures. `capture` and `stream` are the same calls for a client in this process.

    Args:
        captures: the verb.
        batching: the same verb, for small requests that come at the same time.
        max_input_bytes: largest inputs of one run.
    """

    def __init__(self, captures: Captures, batching: Batching, max_input_bytes: int) -> None:
        self._captures = captures
        self._batching = batching
        self._max_input_bytes = max_input_bytes
        self._plans: WeakKeyDictionary[Session, pb.CapturePlan] = WeakKeyDictionary()

    async def PlanCapture(self, request: pb.PlanCaptureRequest, context: Any) -> pb.PlanCaptureResponse:
        """Says what a capture would bring, without running the model."""
        shapes = {item.name: tuple(item.shape) for item in request.input_shapes}
        cost = await self._captures.cost(spec_from_pb(request.spec), shapes)
        return pb.PlanCaptureResponse(plan=plan_to_pb(cost))

    async def Capture(
        self, requests: AsyncIterator[pb.CaptureRequest], context: Any
    ) -> AsyncIterator[pb.CaptureResponse]:
        """Runs the model once."""
        spec, first = await _opening(requests)
        prepared = await self._captures.prepare(spec_from_pb(spec))
        inbox = _Inbox(self._max_input_bytes)
        for part in first.inputs:
            inbox.feed(part)
        async for request in requests:
            if request.HasField("spec"):
                raise ValueInvalidError("the spec stands in the first message only", value="spec")
            for part in request.inputs:
                inbox.feed(part)
        inputs, masks = inbox.batch()
        is_batched = self._batching.takes(prepared, inputs, masks)
        groups = (prepared.plan,) if is_batched else await self._captures.groups(prepared, inputs)
        ends: list[Result] = []
        for group in groups:
            if is_batched:
                result = await self._batching.run(prepared, inputs, masks, context.peer())
            else:
                result = await self._captures.run_group(prepared, group, inputs, masks)
            entries = [_value_entries(result)]
            if not ends:
                plan = self._plan(prepared)
                entries.insert(0, iter([entry_of(pb.CaptureEvent(plan=plan))]))
            ends.append(replace(result, activations={}, outputs={}, scalings={}))
            if len(ends) == len(groups):
                end = joined(ends)
                completed = completed_to_pb(end.timings, end.fidelity)
                entries.append(iter([entry_of(pb.CaptureEvent(completed=completed))]))
            for response in packed(pb.CaptureResponse, itertools.chain(*entries)):
                yield response
            del result, entries

    async def StreamCapture(
        self, requests: AsyncIterator[pb.StreamCaptureRequest], context: Any
    ) -> AsyncIterator[pb.StreamCaptureResponse]:
        """Runs the model on batch after batch."""
        spec, first = await _opening(requests)
        batches = self._batches(first, requests)
        count = 0
        async with aclosing(self.stream(spec, dict(first.carry), batches, context.peer())) as results:
            async for plan, result in results:
                for response in packed(pb.StreamCaptureResponse, _stream_entries(plan, count, result)):
                    yield response
                count += 1
        completed = pb.StreamCompleted(batch_count=count)
        yield pb.StreamCaptureResponse(events=[pb.StreamEvent(completed=completed)])

    async def capture(
        self,
        spec: pb.CaptureSpec,
        inputs: Mapping[str, Value],
        masks: Mapping[str, Array],
    ) -> tuple[pb.CapturePlan, Result]:
        """Runs the model once on values of this process."""
        prepared = await self._captures.prepare(spec_from_pb(spec))
        return await self._run(prepared, inputs, masks)

    async def stream(
        self, spec: pb.CaptureSpec, carry: Mapping[str, str], batches: AsyncIterator[Batch], caller: str = _EMBEDDED
    ) -> AsyncGenerator[tuple[pb.CapturePlan, Result], None]:
        """Runs the model on batches of this process; the plan comes with every result."""
        stream = Stream(self._captures, self._batching, spec_from_pb(spec), carry, caller)
        prepared = await stream.prepare()
        plan = self._plan(prepared)
        async with aclosing(stream.results(prepared, batches)) as results:
            async for result in results:
                yield plan, result

    async def _run(
        self, prepared: Prepared, inputs: Mapping[str, Value], masks: Mapping[str, Array]
    ) -> tuple[pb.CapturePlan, Result]:
        result = await self._batching.run(prepared, inputs, masks, _EMBEDDED)
        return self._plan(prepared), result

    def _plan(self, prepared: Prepared) -> pb.CapturePlan:
        """Returns what a plan brings, said once for each session: it does not change."""
        session = prepared.watched or prepared.plain
        plan = self._plans.get(session) if session is not None else None
        if plan is None:
            plan = plan_to_pb(self._captures.planned(prepared, {}))
            if session is not None:
                self._plans[session] = plan
        return plan

    async def _batches(
        self, first: pb.StreamCaptureRequest, requests: AsyncIterator[pb.StreamCaptureRequest]
    ) -> AsyncIterator[Batch]:
        """Yields each batch as soon as its end has come."""
        inbox: _Inbox | None = None
        index = 0
        async for item in _items(first, requests):
            which = item.WhichOneof("item")
            if which == "batch_start":
                if inbox is not None or item.batch_start.index != index:
                    raise ValueInvalidError(
                        f"batch {item.batch_start.index} starts where batch {index} is awaited",
                        value="batch_start",
                    )
                inbox = _Inbox(self._max_input_bytes)
            elif inbox is None:
                raise ValueInvalidError("a batch opens with batch_start", value="batch_start")
            elif which == "input":
                inbox.feed(item.input)
            elif which == "batch_end":
                yield inbox.batch()
                inbox, index = None, index + 1
        if inbox is not None:
            raise ValueInvalidError(
                f"the stream ended within batch {index}; close it with batch_end", value="batch_end"
            )


class _Inbox:
    """The inputs and masks of one run, as they arrive."""

    def __init__(self, limit: int) -> None:
        self._assembler = codec.Assembler(limit)
        self._inputs: dict[str, Value] = {}
        self._masks: dict[str, Array] = {}

    def feed(self, part: tensor_pb.ValuePart) -> None:
        received = self._assembler.feed(part)
        if received is None:
            return
        if received.name in self._inputs or received.name in self._masks:
            raise ValueInvalidError(f"{received.name!r} was sent twice", value=received.name)
        if received.role == tensor_pb.VALUE_ROLE_INPUT:
            self._inputs[received.name] = received.value
        elif received.role == tensor_pb.VALUE_ROLE_MASK:
            self._masks[received.name] = np.asarray(received.value)
        else:
            raise ValueInvalidError(
                f"{received.name!r} has role {received.role}; callers send INPUT and MASK",
                value=received.name,
            )

    def batch(self) -> Batch:
        if self._assembler.pending is not None:
            raise ValueInvalidError(
                f"{self._assembler.pending!r} ended before all its bytes came",
                value=self._assembler.pending,
            )
        return self._inputs, self._masks


async def _opening(requests: AsyncIterator[R]) -> tuple[pb.CaptureSpec, R]:
    first = await anext(aiter(requests), None)
    if first is None or not first.HasField("spec"):
        raise ValueInvalidError("the first message must hold the spec", value="spec")
    return first.spec, first


async def _items(
    first: pb.StreamCaptureRequest, requests: AsyncIterator[pb.StreamCaptureRequest]
) -> AsyncIterator[pb.StreamItem]:
    for item in first.items:
        yield item
    async for request in requests:
        if request.HasField("spec"):
            raise ValueInvalidError("the spec stands in the first message only", value="spec")
        for item in request.items:
            yield item


def _stream_entries(plan: pb.CapturePlan, index: int, result: Result) -> Iterator[Entry]:
    if index == 0:
        yield entry_of(pb.StreamEvent(plan=plan))
    yield entry_of(pb.StreamEvent(batch_start=pb.BatchStart(index=index)))
    yield from _value_entries(result)
    completed = completed_to_pb(result.timings, result.fidelity)
    yield entry_of(pb.StreamEvent(batch_completed=pb.BatchCompleted(index=index, completed=completed)))


def _value_entries(result: Result) -> Iterator[Entry]:
    for role, values in (
        (tensor_pb.VALUE_ROLE_ACTIVATION, result.activations),
        (tensor_pb.VALUE_ROLE_SCALING, result.scalings),
        (tensor_pb.VALUE_ROLE_OUTPUT, result.outputs),
    ):
        for name, value in values.items():
            for part in codec.parts(role, name, value):
                yield entry_of_part(part)
