"""Batches of rows to learn from, as their parts arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

import numpy as np

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope.v1.assemble import Assembler
from onnxscope_server.domain import Array, Value
from onnxscope_server.errors import ValueInvalidError
from onnxscope_server.pipeline.probing.batch import ProbeBatch

Request: TypeAlias = pb.FitProbeRequest | pb.SweepRequest
# what comes once a batch, under whatever name
_BESIDE = {
    tensor_pb.VALUE_ROLE_LABEL: "labels",
    tensor_pb.VALUE_ROLE_GROUP: "groups",
    tensor_pb.VALUE_ROLE_WEIGHT: "weights",
    tensor_pb.VALUE_ROLE_TEST: "test",
}


async def opening(requests: AsyncIterator[Request]) -> Request:
    """Returns the first message.

    Raises:
        ValueInvalidError: it has no spec.
    """
    first = await anext(aiter(requests), None)
    if first is None or not first.HasField("spec"):
        raise ValueInvalidError("the first message must hold the spec", value="spec")
    return first


async def batches(first: Request, requests: AsyncIterator[Request], max_bytes: int) -> AsyncGenerator[ProbeBatch, None]:
    """Yields each batch as soon as its end has come.

    Args:
        first: the message that has the spec.
        requests: those behind it.
        max_bytes: that one batch may have.

    Raises:
        ValueInvalidError: the messages contradict themselves or each other.
        LimitExceededError: a batch is too large.
    """
    inbox: _Inbox | None = None
    index = 0
    async with aclosing(_items(first, requests)) as items:
        async for item in items:
            which = item.WhichOneof("item")
            if which == "batch_start":
                if inbox is not None or item.batch_start.index != index:
                    raise ValueInvalidError(
                        f"batch {item.batch_start.index} starts where batch {index} is awaited", value="batch_start"
                    )
                inbox = _Inbox(max_bytes)
            elif inbox is None:
                raise ValueInvalidError("a batch opens with batch_start", value="batch_start")
            elif which == "input":
                inbox.feed(item.input)
            elif which == "batch_end":
                yield inbox.batch()
                inbox, index = None, index + 1
    if inbox is not None:
        raise ValueInvalidError(f"the stream ended within batch {index}; close it with batch_end", value="batch_end")


async def _items(first: Request, requests: AsyncIterator[Request]) -> AsyncGenerator[capture_pb.StreamItem, None]:
    for item in first.items:
        yield item
    async for request in requests:
        if request.HasField("spec"):
            raise ValueInvalidError("the spec stands in the first message only", value="spec")
        for item in request.items:
            yield item


class _Inbox:
    """What one batch is made of, as it arrives."""

    def __init__(self, max_bytes: int) -> None:
        self._assembler = Assembler(max_bytes)
        self._inputs: dict[str, Value] = {}
        self._masks: dict[str, Array] = {}
        self._beside: dict[str, Array] = {}

    def feed(self, part: tensor_pb.ValuePart) -> None:
        received = self._assembler.feed(part)
        if received is None:
            return
        role, name, value = received.role, received.name, received.value
        if role == tensor_pb.VALUE_ROLE_INPUT:
            group: dict[str, Value] | dict[str, Array] = self._inputs
        elif role == tensor_pb.VALUE_ROLE_MASK:
            group = self._masks
        elif role in _BESIDE:
            group, name = self._beside, _BESIDE[role]
        else:
            raise ValueInvalidError(
                f"{name!r} has role {role}; callers send INPUT, MASK, LABEL, GROUP, WEIGHT and TEST", value=name
            )
        if name in group:
            raise ValueInvalidError(f"{name!r} was sent twice", value=name)
        if group is not self._inputs and not isinstance(value, np.ndarray):
            raise ValueInvalidError(f"{name!r} must be an array", value=name)
        group[name] = value  # type: ignore[assignment]  # checked above

    def batch(self) -> ProbeBatch:
        pending = self._assembler.pending
        if pending is not None:
            raise ValueInvalidError(f"{pending!r} ended before all its bytes came", value=pending)
        return ProbeBatch(self._inputs, self._masks, **self._beside)
