"""Calls of ProbeService in the client's own process: the same messages as over a network, without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from onnxscope import encode
from onnxscope.encode import SentValue
from onnxscope.v1 import probe_service_pb2 as pb

_REQUESTS: dict[str, Any] = {"FitProbe": pb.FitProbeRequest, "Sweep": pb.SweepRequest}


async def fit(
    servicer: Any, method: str, spec: pb.ProbeSpec, batches: AsyncIterator[Sequence[SentValue]]
) -> AsyncGenerator[list[Any], None]:
    """Fits probes; yields the servicer's responses. Arguments as of `Link.fit`."""
    name = method.partition("/")[2]

    async def requests() -> AsyncIterator[Message]:
        async for raw in encode.afit_requests(method, spec, batches):
            yield _REQUESTS[name].FromString(raw)

    async with aclosing(getattr(servicer, name)(requests(), None)) as responses:
        async for response in responses:
            yield [response]


async def exchange(servicer: Any, method: str, requests: Sequence[Message]) -> AsyncGenerator[list[Any], None]:
    """Sends some messages; yields the servicer's responses. Arguments as of `Link.exchange`."""
    name = method.partition("/")[2]
    if name == "ImportProbe":
        yield [await servicer.ImportProbe(_asynchronous(requests), None)]
        return
    async with aclosing(getattr(servicer, name)(requests[0], None)) as responses:
        async for response in responses:
            yield [response]


async def _asynchronous(messages: Sequence[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message
