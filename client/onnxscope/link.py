"""What carries a call to a server: the two protocols that `connect()` and `local()` both fulfil.

A link speaks in messages and events, and never knows what a verb is. `channel.py` and `aio_channel.py` fulfil the
protocols over gRPC; `embedded.py` in process, where arrays are passed by reference:

    embedded.open_link(providers, session_options, settings) -> Link
    embedded.open_async_link(providers, session_options, settings) -> AsyncLink
"""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

from google.protobuf.message import Message

from onnxscope.encode import SentValue
from onnxscope.receive import Event
from onnxscope.upload import Source
from onnxscope.v1 import capture_service_pb2, model_service_pb2, probe_service_pb2

__all__ = ["AsyncLink", "Link", "SentValue"]


class Link(Protocol):
    """A way to a server, for code that waits.

    Every method raises what `onnxscope.errors` holds and nothing else. `timeout` is in seconds; None waits for ever.
    """

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Any:
        """Makes a call of one request and one response.

        Args:
            method: "ModelService/ListModels" and the like, without the package.
            request: the method's request message.
            timeout: seconds, or None.

        Returns:
            The method's response message.
        """
        ...

    def upload(self, source: Source, name: str, version: str, *, timeout: float | None) -> model_service_pb2.Model:
        """Brings a model into the catalog; an empty name or version lets the server choose."""
        ...

    def capture(
        self,
        spec: capture_service_pb2.CaptureSpec,
        values: Sequence[SentValue],
        *,
        timeout: float | None,
        whole: bool = False,
    ) -> Generator[Event, None, None]:
        """Runs the model once: `Planned`, then `Arrived` per value, then `Completed`. Closing it ends the run.

        Each comes as soon as it is there, but where the caller needs the `whole`: then they may come together.
        """
        ...

    def stream(
        self,
        spec: capture_service_pb2.CaptureSpec,
        carry: Mapping[str, str],
        batches: Iterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> Generator[Event, None, None]:
        """Runs the model on batch after batch.

        The events are `Planned`, then per batch `BatchStarted`, `Arrived` per value and `BatchCompleted`, then
        `StreamCompleted`. The next batch is pulled only when there is room for it, maybe from another thread; what
        pulling it raises is raised here. Closing the generator ends the run.
        """
        ...

    def fit(
        self,
        method: str,
        spec: probe_service_pb2.ProbeSpec,
        batches: Iterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> Generator[Any, None, None]:
        """Fits probes on batch after batch, pulled as those of `stream`; closing the generator ends the fit.

        Args:
            method: "ProbeService/FitProbe" or "ProbeService/Sweep".
            spec: what to fit.
            batches: rows, labels and what belongs to them.
            timeout: seconds, or None.

        Returns:
            The method's response messages, one after the other.
        """
        ...

    def exchange(
        self, method: str, requests: Sequence[Message], *, timeout: float | None
    ) -> Generator[Any, None, None]:
        """Sends some messages and yields those of the answer: "ProbeService/ExportProbe" or ".../ImportProbe"."""
        ...

    def close(self) -> None:
        """Lets go of everything; calls afterwards raise `UnavailableError`."""
        ...


class AsyncLink(Protocol):
    """A way to a server, for coroutines; each method is that of `Link`."""

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Any:
        """As `Link.unary`."""
        ...

    async def upload(
        self, source: Source, name: str, version: str, *, timeout: float | None
    ) -> model_service_pb2.Model:
        """As `Link.upload`."""
        ...

    def capture(
        self,
        spec: capture_service_pb2.CaptureSpec,
        values: Sequence[SentValue],
        *,
        timeout: float | None,
        whole: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """As `Link.capture`."""
        ...

    def stream(
        self,
        spec: capture_service_pb2.CaptureSpec,
        carry: Mapping[str, str],
        batches: AsyncIterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> AsyncGenerator[Event, None]:
        """As `Link.stream`."""
        ...

    def fit(
        self,
        method: str,
        spec: probe_service_pb2.ProbeSpec,
        batches: AsyncIterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> AsyncGenerator[Any, None]:
        """As `Link.fit`."""
        ...

    def exchange(self, method: str, requests: Sequence[Message], *, timeout: float | None) -> AsyncGenerator[Any, None]:
        """As `Link.exchange`."""
        ...

    async def close(self) -> None:
        """As `Link.close`."""
        ...
