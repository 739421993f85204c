"""Messages from the server, as events: what arrives while a capture or a stream runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from onnxscope.errors import InternalError, StreamCutError
from onnxscope.results import Fidelity
from onnxscope.sharing import SharedCall
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.assemble import Assembler
from onnxscope.v1.codec import Array, Buffer, CodecError, Value
from onnxscope.v1.envelope import Carried
from onnxscope.v1.sharing import Lying
from onnxscope.v1.tensor_pb2 import ValuePart, ValueRole


@dataclass(frozen=True, slots=True)
class Planned:
    """The first event: what the spec came to."""

    plan: pb.CapturePlan


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """The results of a batch of a stream follow."""

    index: int


class Arrived(NamedTuple):
    """An activation (`name` is its address) or an output is there, complete."""

    role: ValueRole
    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class BatchCompleted:
    """A batch of a stream is done; `timings` are seconds per stage, in order."""

    index: int
    timings: Mapping[str, float]
    fidelity: Fidelity


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event of a capture; `timings` are seconds per stage, in order."""

    timings: Mapping[str, float]
    fidelity: Fidelity


@dataclass(frozen=True, slots=True)
class StreamCompleted:
    """The last event of a stream."""

    batch_count: int


Event: TypeAlias = Planned | BatchStarted | Arrived | BatchCompleted | Completed | StreamCompleted


class Receiver:
    """Turns the responses of one call into events and notices when the call was cut short.

    Args:
        shared: where large values may lie; None for messages alone.
        empty: makes an array of a shape and a dtype for a value to arrive in.

    Attributes:
        is_done: whether the last event has come.
    """

    def __init__(self, shared: SharedCall | None = None, empty: Callable[..., Array] = np.empty) -> None:
        self._shared = shared
        self._assembler = Assembler(empty=empty)
        self.is_done = False

    def feed(self, response: Carried) -> Iterator[Event]:
        """Yields the events that a response completes.

        Raises:
            InternalError: the server broke the protocol.
            StreamCutError: shared memory that a response names has not come.
        """
        events: Sequence[pb.CaptureEvent | pb.StreamEvent] = response.message.events
        lies, data = response.lying, response.data
        for index in range(len(events)):
            if self.is_done:
                raise InternalError("the server sent an event after `completed`")
            lying = lies.get(index)
            translated = self._lying(lying) if lying is not None else self._translate(events[index], data.get(index))
            if translated is not None:
                yield translated

    def finish(self) -> None:
        """Says that the server has closed its side.

        Raises:
            StreamCutError: it did so before `completed`.
        """
        if not self.is_done:
            raise StreamCutError("the server's answer ended before it was complete; ask again")

    def _translate(self, event: pb.CaptureEvent | pb.StreamEvent, data: Buffer | None) -> Event | None:
        which = event.WhichOneof("event")
        if which == "plan":
            return Planned(event.plan)
        if which == "value":
            return self._value(event.value, data)
        if isinstance(event, pb.StreamEvent):
            return self._of_stream(event)
        if which == "completed":
            self._end()
            return Completed(_timings(event.completed), _fidelity(event.completed))
        return None  # an event that a newer server knows

    def _of_stream(self, event: pb.StreamEvent) -> Event | None:
        match event.WhichOneof("event"):
            case "batch_start":
                return BatchStarted(event.batch_start.index)
            case "batch_completed":
                self._between_values()
                ended = event.batch_completed
                return BatchCompleted(ended.index, _timings(ended.completed), _fidelity(ended.completed))
            case "completed":
                self._end()
                return StreamCompleted(event.completed.batch_count)
        return None  # an event that a newer server knows

    def _value(self, part: ValuePart, data: Buffer | None) -> Arrived | None:
        if self._shared is not None and part.start.HasField("shared"):
            try:
                return self._lying(Lying.of(part.start))
            except ValueError as error:
                raise InternalError(f"the server broke the protocol: {error}") from error
        try:
            received = self._assembler.feed(part, data)
        except CodecError as error:
            raise InternalError(f"the server sent a value that cannot be read: {error}") from error
        return Arrived(received.role, received.name, received.value) if received else None

    def _lying(self, lying: Lying) -> Arrived:
        self._between_values()
        if self._shared is None:
            raise InternalError(f"the server put {lying.name!r} into shared memory, and the call shares none")
        return Arrived(lying.role, lying.name, self._shared.array(lying))

    def _between_values(self) -> None:
        if self._assembler.pending is not None:
            raise StreamCutError(
                f"the value {self._assembler.pending!r} ended before all its bytes had come; ask again"
            )

    def _end(self) -> None:
        self._between_values()
        self.is_done = True


def _timings(completed: pb.CaptureCompleted) -> dict[str, float]:
    # not by protobuf's own conversion, which takes longer than all the rest of the message
    return {timing.stage: timing.duration.seconds + timing.duration.nanos / 1e9 for timing in completed.timings}


def _fidelity(completed: pb.CaptureCompleted) -> Fidelity:
    message = completed.fidelity
    difference = message.max_output_difference if message.HasField("max_output_difference") else None
    return Fidelity(message.fusion_blocked, tuple(message.changed_operators), difference)
