"""What calls bring, as it arrives: a message with the spec, and values, in one batch or in many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope.v1.assemble import Assembler, Received
from onnxscope.v1.codec import Array, Buffer
from onnxscope.v1.envelope import Carried
from onnxscope_server.errors import ValueInvalidError

T = TypeVar("T")


class Inbox(ABC, Generic[T]):
    """The values of one batch, as their parts arrive. Kinds of calls differ in the roles that values may have.

    Args:
        max_bytes: that all values may have together.
        shared: returns the array that lies in shared memory where a start says; None where the call shares nothing.
    """

    def __init__(self, max_bytes: int, shared: Callable[[tensor_pb.ValueStart], Array] | None = None) -> None:
        self._assembler = Assembler(max_bytes, shared=shared)

    def feed(self, part: tensor_pb.ValuePart, data: Buffer | None) -> None:
        """Takes the next part.

        Args:
            part: a start or a chunk.
            data: its bytes, where they came beside the message.

        Raises:
            ValueInvalidError: the value that it completes is none that the call may have.
            CodecError: as of `Assembler.feed`.
            TooLargeError: the values go beyond the limit.
        """
        received = self._assembler.feed(part, data)
        if received is not None:
            self._put(received)

    def batch(self) -> T:
        """Returns the batch, of which all has come.

        Raises:
            ValueInvalidError: bytes of a value are missing.
        """
        pending = self._assembler.pending
        if pending is not None:
            raise ValueInvalidError(f"{pending!r} ended before all its bytes came", value=pending)
        return self._batch()

    @abstractmethod
    def _put(self, received: Received) -> None:
        """Takes a complete value; raises ValueInvalidError where the call may not have it."""

    @abstractmethod
    def _batch(self) -> T:
        """Returns what all complete values make."""


async def opening(requests: AsyncIterator[Carried]) -> Carried:
    """Returns the first message.

    Raises:
        ValueInvalidError: it has no spec.
    """
    first = await anext(aiter(requests), None)
    if first is None or not first.message.HasField("spec"):
        raise ValueInvalidError("the first message must hold the spec", value="spec")
    return first


async def behind_the_first(requests: AsyncIterator[Carried]) -> AsyncGenerator[Carried, None]:
    """Yields the other messages.

    Raises:
        ValueInvalidError: one of them has a spec.
    """
    async for request in requests:
        if request.message.HasField("spec"):
            raise ValueInvalidError("the spec stands in the first message only", value="spec")
        yield request


async def batches(
    first: Carried, requests: AsyncIterator[Carried], inbox_of: type[Inbox[T]], max_bytes: int
) -> AsyncGenerator[T, None]:
    """Yields each batch as soon as its end has come.

    Args:
        first: the message that has the spec.
        requests: those behind it.
        inbox_of: what takes in one batch.
        max_bytes: that one batch may have.

    Raises:
        ValueInvalidError: the messages contradict themselves or each other.
        CodecError: parts of values do.
        TooLargeError: a batch is too large.
    """
    inbox: Inbox[T] | None = None
    index = 0
    async with aclosing(_items(first, requests)) as items:
        async for item, data in items:
            which = item.WhichOneof("item")
            if which == "batch_start":
                if inbox is not None or item.batch_start.index != index:
                    raise ValueInvalidError(
                        f"batch {item.batch_start.index} starts where batch {index} is awaited", value="batch_start"
                    )
                inbox = inbox_of(max_bytes)
            elif inbox is None:
                raise ValueInvalidError("a batch opens with batch_start", value="batch_start")
            elif which == "input":
                inbox.feed(item.input, data)
            elif which == "batch_end":
                yield inbox.batch()
                inbox, index = None, index + 1
    if inbox is not None:
        raise ValueInvalidError(f"the stream ended within batch {index}; close it with batch_end", value="batch_end")


async def _items(
    first: Carried, requests: AsyncIterator[Carried]
) -> AsyncGenerator[tuple[pb.StreamItem, Buffer | None], None]:
    for index, item in enumerate(first.message.items):
        yield item, first.data.get(index)
    async for request in behind_the_first(requests):
        for index, item in enumerate(request.message.items):
            yield item, request.data.get(index)
