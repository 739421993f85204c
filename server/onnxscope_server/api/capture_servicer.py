"""CaptureService: messages <-> the verbs capture and stream."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope.v1.assemble import Received
from onnxscope.v1.capture_service_pb2_grpc import CaptureServiceServicer
from onnxscope.v1.codec import Part
from onnxscope.v1.envelope import (
    CAPTURE_REQUEST,
    CAPTURE_RESPONSE,
    CAPTURE_SMALL_REQUEST,
    CAPTURE_SMALL_RESPONSE,
    STREAM_CAPTURE_REQUEST,
    STREAM_CAPTURE_RESPONSE,
    Carried,
)
from onnxscope_server.api import incoming
from onnxscope_server.api.convert import plan_to_pb, spec_from_pb, write_completed
from onnxscope_server.domain import Array, CaptureSpec, Plan, Value
from onnxscope_server.errors import UnavailableError, ValueInvalidError
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures, Prepared
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.stream import Batch, Stream
from onnxscope_server.result_domain import Memory, Result
from onnxscope_server.wire import shared_values
from onnxscope_server.wire.packing import value_parts
from onnxscope_server.wire.share import Share
from onnxscope_server.wire.shared_memory import SharedMemory

_EMBEDDED = "embedded"
_PLANS_KEPT = 256
_NAME = pb.DESCRIPTOR.services_by_name["CaptureService"].full_name
_Item: TypeAlias = Message | Part
K = TypeVar("K")
V = TypeVar("V")


def add_to_server(servicer: CaptureServicer, server: grpc.aio.Server) -> None:
    """Lets a server answer with a servicer, whose streams are of messages that `envelope.py` reads and writes."""
    handlers: dict[str, Any] = {
        "PlanCapture": grpc.unary_unary_rpc_method_handler(
            servicer.PlanCapture,
            request_deserializer=pb.PlanCaptureRequest.FromString,
            response_serializer=pb.PlanCaptureResponse.SerializeToString,
        ),
        "OpenSharedMemory": grpc.unary_unary_rpc_method_handler(
            servicer.OpenSharedMemory,
            request_deserializer=pb.OpenSharedMemoryRequest.FromString,
            response_serializer=pb.OpenSharedMemoryResponse.SerializeToString,
        ),
        # of one response, as far as gRPC knows: what is returned travels with the status, what came before is written
        "Capture": grpc.stream_unary_rpc_method_handler(servicer.Capture, request_deserializer=CAPTURE_REQUEST.parse),
        "CaptureSmall": grpc.unary_unary_rpc_method_handler(
            servicer.CaptureSmall, request_deserializer=CAPTURE_SMALL_REQUEST.parse
        ),
        "StreamCapture": grpc.stream_stream_rpc_method_handler(
            servicer.StreamCapture, request_deserializer=STREAM_CAPTURE_REQUEST.parse
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_NAME, handlers),))


class CaptureServicer(CaptureServiceServicer):
    """Runs captures. `capture`, `parts` and `stream` are the same calls for a client in this process.

    Args:
        captures: the verb.
        batching: the same verb, for small requests that come at the same time.
        max_input_bytes: largest inputs of one run.
        memory: what is shared with clients on this host.
    """

    def __init__(self, captures: Captures, batching: Batching, max_input_bytes: int, memory: SharedMemory) -> None:
        self._captures = captures
        self._batching = batching
        self._max_input_bytes = max_input_bytes
        self._memory = memory
        self._plans: OrderedDict[Plan, pb.CapturePlan] = OrderedDict()
        self._openings: OrderedDict[Plan, bytes] = OrderedDict()
        self._specs: OrderedDict[bytes, CaptureSpec] = OrderedDict()

    async def PlanCapture(self, request: pb.PlanCaptureRequest, context: Any) -> pb.PlanCaptureResponse:
        """Says what a capture would bring, without running the model."""
        shapes = {item.name: tuple(item.shape) for item in request.input_shapes}
        cost = await self._captures.cost(spec_from_pb(request.spec), shapes)
        return pb.PlanCaptureResponse(plan=plan_to_pb(cost))

    async def OpenSharedMemory(self, request: pb.OpenSharedMemoryRequest, context: Any) -> pb.OpenSharedMemoryResponse:
        """Says where a client on this host gets shared memory."""
        offer = self._memory.offer()
        return pb.OpenSharedMemoryResponse(**offer._asdict()) if offer else pb.OpenSharedMemoryResponse()

    async def Capture(self, requests: AsyncIterator[Carried], context: Any) -> bytes:
        """Runs the model once; writes all messages but the last, which it returns."""
        first = await incoming.opening(requests)
        share = self._share(first.message, context)
        prepared = await self._captures.prepare(self._spec(first.message.spec))
        inputs, masks = await self._inputs(first, requests, share)
        is_whole = share is not None and first.message.sharing.whole
        call = Call(inputs, masks, share.empty if share else None, whole=is_whole)
        # what goes ahead of the next message, and the one that nothing may follow
        ahead, last = self._plan_bytes(prepared), b""
        async with aclosing(self._batching.parts(prepared, call, context.peer())) as parts:
            async for part in parts:
                result = await shared_values.placed(part, share, whole=is_whole)
                for response in CAPTURE_RESPONSE.packed(value_parts(result, share), ahead, _closing(result)):
                    if last:
                        await context.write(last)
                    last = response
                ahead = b""
                if not part.timings and is_whole:
                    ahead, last = last, b""
                elif not part.timings:
                    await context.write(last)
                    last = b""
                del part, result
        return last

    async def CaptureSmall(self, request: Carried, context: Any) -> bytes:
        """Runs the model once; an answer of several messages is none."""
        if not request.message.HasField("spec"):
            raise ValueInvalidError("the message must hold the spec", value="spec")
        prepared = await self._captures.prepare(self._spec(request.message.spec))
        inbox = _Inbox(self._max_input_bytes)
        inbox.take(request)
        result = await self._batching.run(prepared, Call(*inbox.batch()), context.peer())
        messages = CAPTURE_SMALL_RESPONSE.packed(value_parts(result), self._plan_bytes(prepared), _closing(result))
        only = next(messages)
        return b"" if next(messages, None) is not None else only

    async def StreamCapture(self, requests: AsyncIterator[Carried], context: Any) -> AsyncIterator[bytes]:
        """Runs the model on batch after batch."""
        first = await incoming.opening(requests)
        share = self._share(first.message, context)
        spec, carry = first.message.spec, dict(first.message.carry)
        batches = incoming.batches(first, requests, _Inbox, self._max_input_bytes)
        count = 0
        is_open = False
        memory = share.empty if share else None
        async with aclosing(self.stream(spec, carry, batches, memory, context.peer())) as parts:
            async for plan, made in parts:
                part = await shared_values.placed(made, share)
                events = _stream_events(plan, count, part, share, is_open=is_open)
                for response in STREAM_CAPTURE_RESPONSE.packed(events):
                    yield response
                is_open = not part.timings
                count += not is_open
        end = pb.StreamEvent(completed=pb.StreamCompleted(batch_count=count))
        for response in STREAM_CAPTURE_RESPONSE.packed([end]):
            yield response

    async def capture(
        self,
        spec: pb.CaptureSpec,
        inputs: Mapping[str, Value],
        masks: Mapping[str, Array],
    ) -> tuple[pb.CapturePlan, Result]:
        """Runs the model once on values of this process."""
        prepared = await self._captures.prepare(self._spec(spec))
        return await self._run(prepared, inputs, masks)

    async def parts(
        self, spec: pb.CaptureSpec, inputs: Mapping[str, Value], masks: Mapping[str, Array]
    ) -> AsyncGenerator[tuple[pb.CapturePlan, Result], None]:
        """Does what `capture` does; the plan comes with every part of the result."""
        prepared = await self._captures.prepare(self._spec(spec))
        plan = self._plan(prepared)
        async with aclosing(self._batching.parts(prepared, Call(inputs, masks, by_reference=True), _EMBEDDED)) as parts:
            async for part in parts:
                yield plan, part

    async def stream(
        self,
        spec: pb.CaptureSpec,
        carry: Mapping[str, str],
        batches: AsyncIterator[Batch],
        memory: Memory | None = None,
        caller: str = _EMBEDDED,
    ) -> AsyncGenerator[tuple[pb.CapturePlan, Result], None]:
        """Runs the model on batches of this process; the plan comes with every part of a result."""
        stream = Stream(self._captures, self._batching, spec_from_pb(spec), carry, memory, caller)
        prepared = await stream.prepare()
        plan = self._plan(prepared)
        async with aclosing(stream.parts(prepared, batches)) as parts:
            async for part in parts:
                yield plan, part

    def _share(self, first: pb.CaptureRequest | pb.StreamCaptureRequest, context: Any) -> Share | None:
        """Returns what a call gets of the memory that its client shares, for as long as it goes on."""
        if not first.HasField("sharing"):
            return None
        share = self._memory.share(first.sharing.token, first.sharing.call)
        if share is not None:
            context.add_done_callback(lambda _: share.close())
        return share

    async def _run(
        self, prepared: Prepared, inputs: Mapping[str, Value], masks: Mapping[str, Array]
    ) -> tuple[pb.CapturePlan, Result]:
        result = await self._batching.run(prepared, Call(inputs, masks), _EMBEDDED)
        return self._plan(prepared), result

    def _plan(self, prepared: Prepared) -> pb.CapturePlan:
        """Returns the message that says what a plan brings: the same one for all its calls, not to be changed."""
        return _kept(self._plans, prepared.plan, lambda: plan_to_pb(self._captures.planned(prepared, {})))

    def _plan_bytes(self, prepared: Prepared) -> bytes:
        """Returns what the messages of a capture begin with: the plan, serialised once for all its calls."""
        return _kept(
            self._openings,
            prepared.plan,
            lambda: CAPTURE_RESPONSE.alone(pb.CaptureEvent(plan=self._plan(prepared))),
        )

    def _spec(self, message: pb.CaptureSpec) -> CaptureSpec:
        """Returns the spec of a message; it often is the same again."""
        return _kept(self._specs, message.SerializeToString(), lambda: spec_from_pb(message))

    async def _inputs(self, first: Carried, requests: AsyncIterator[Carried], share: Share | None) -> Batch:
        """Returns the inputs and masks of a run when all have come."""
        shared = share.held if share else _gone if first.message.HasField("sharing") else None
        inbox = _Inbox(self._max_input_bytes, shared)
        inbox.take(first)
        if not first.message.last:
            async for request in incoming.behind_the_first(requests):
                inbox.take(request)
        return inbox.batch()


class _Inbox(incoming.Inbox[Batch]):
    """The inputs and masks of one run."""

    def __init__(self, max_bytes: int, shared: Callable[[tensor_pb.ValueStart], Array] | None = None) -> None:
        super().__init__(max_bytes, shared)
        self._inputs: dict[str, Value] = {}
        self._masks: dict[str, Array] = {}

    def take(self, request: Carried) -> None:
        for index, part in enumerate(request.message.inputs):
            self.feed(part, request.data.get(index))

    def _put(self, received: Received) -> None:
        if received.name in self._inputs or received.name in self._masks:
            raise ValueInvalidError(f"{received.name!r} was sent twice", value=received.name)
        if received.role == tensor_pb.VALUE_ROLE_INPUT:
            self._inputs[received.name] = received.value
        elif received.role == tensor_pb.VALUE_ROLE_MASK:
            if not isinstance(received.value, np.ndarray):
                raise ValueInvalidError(f"{received.name!r} must be an array", value=received.name)
            self._masks[received.name] = received.value
        else:
            raise ValueInvalidError(
                f"{received.name!r} has role {received.role}; callers send INPUT and MASK",
                value=received.name,
            )

    def _batch(self) -> Batch:
        return self._inputs, self._masks


def _kept(known: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    """Returns what is known under a key; makes it where it is not, and forgets the oldest of many."""
    found = known.get(key)
    if found is None:
        found = known[key] = make()
        while len(known) > _PLANS_KEPT:
            known.popitem(last=False)
    return found


def _gone(_: tensor_pb.ValueStart) -> Array:
    raise UnavailableError("the memory that this client shared is gone; send the bytes of the inputs")


def _closing(part: Result) -> bytes:
    """Returns what the messages of a capture end with; nothing as long as another part follows."""
    if not part.timings:
        return b""
    event = pb.CaptureEvent()
    write_completed(event.completed, part.timings, part.fidelity)
    return CAPTURE_RESPONSE.alone(event)


def _stream_events(
    plan: pb.CapturePlan, index: int, part: Result, share: Share | None, *, is_open: bool
) -> Iterator[_Item]:
    if not is_open:
        if index == 0:
            yield pb.StreamEvent(plan=plan)
        yield pb.StreamEvent(batch_start=pb.BatchStart(index=index))
    yield from value_parts(part, share)
    if part.timings:
        event = pb.StreamEvent(batch_completed=pb.BatchCompleted(index=index))
        write_completed(event.batch_completed.completed, part.timings, part.fidelity)
        yield event
