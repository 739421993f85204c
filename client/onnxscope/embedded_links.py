"""Links to the services of this process: `EmbeddedLink` waits for their event loop, `AsyncEmbeddedLink` awaits it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from onnxscope import embedded_probes
from onnxscope.encode import SentValue
from onnxscope.errors import OnnxscopeError
from onnxscope.pulled import END, Pulled
from onnxscope.receive import Event
from onnxscope.upload import Source
from onnxscope.v1 import capture_service_pb2, model_service_pb2

T = TypeVar("T")


class Host(Protocol):
    """The services, and the event loop that they live in."""

    @property
    def probes(self) -> Any:
        """The servicer of probes."""

    def submit(self, work: Coroutine[Any, Any, T], timeout: float | None) -> Future[T]:
        """Starts a coroutine in the services' loop; every error it raises is a client's."""

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Runs a coroutine in the services' loop and waits; an interrupt ends it."""

    def close(self) -> None:
        """Ends what runs."""

    async def unary(self, method: str, request: Message) -> Any:
        """Makes a call of one request and one response."""

    async def upload(self, source: Source, name: str, version: str) -> model_service_pb2.Model:
        """Brings a model into the catalog."""

    async def capture(self, spec: capture_service_pb2.CaptureSpec, values: Sequence[SentValue]) -> list[Event]:
        """Runs the model once."""

    def parts(
        self, spec: capture_service_pb2.CaptureSpec, values: Sequence[SentValue]
    ) -> AsyncGenerator[list[Event], None]:
        """Runs the model once; yields what is there while the rest is computed."""

    def stream(
        self,
        spec: capture_service_pb2.CaptureSpec,
        carry: Mapping[str, str],
        batches: AsyncIterator[Sequence[SentValue]],
    ) -> AsyncGenerator[list[Event], None]:
        """Runs the model on batch after batch."""


class EmbeddedLink:
    """A `Link` to the services of this process."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Any:
        """As `Link.unary`."""
        return self._host.wait(self._host.unary(method, request), timeout)

    def upload(self, source: Source, name: str, version: str, *, timeout: float | None) -> model_service_pb2.Model:
        """As `Link.upload`."""
        return self._host.wait(self._host.upload(source, name, version), timeout)

    def capture(
        self,
        spec: capture_service_pb2.CaptureSpec,
        values: Sequence[SentValue],
        *,
        timeout: float | None,
        whole: bool = False,
    ) -> Generator[Event, None, None]:
        """As `Link.capture`."""
        if whole:
            # a wait less for every part
            yield from self._host.wait(self._host.capture(spec, values), timeout)
        else:
            yield from self._groups(self._host.parts(spec, values), timeout)

    def stream(
        self,
        spec: capture_service_pb2.CaptureSpec,
        carry: Mapping[str, str],
        batches: Iterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> Generator[Event, None, None]:
        """As `Link.stream`."""
        source = Pulled(partial(asyncio.to_thread, next, batches, END))
        try:
            yield from self._groups(self._host.stream(spec, carry, source), timeout)
        except OnnxscopeError:
            source.check()
            raise

    def fit(
        self, method: str, spec: Any, batches: Iterator[Sequence[SentValue]], *, timeout: float | None
    ) -> Generator[Any, None, None]:
        """As `Link.fit`."""
        source = Pulled(partial(asyncio.to_thread, next, batches, END))
        try:
            yield from self._groups(embedded_probes.fit(self._host.probes, method, spec, source), timeout)
        except OnnxscopeError:
            source.check()
            raise

    def exchange(
        self, method: str, requests: Sequence[Message], *, timeout: float | None
    ) -> Generator[Any, None, None]:
        """As `Link.exchange`."""
        return self._groups(embedded_probes.exchange(self._host.probes, method, requests), timeout)

    def close(self) -> None:
        """As `Link.close`."""
        self._host.close()

    def _groups(self, groups: AsyncGenerator[list[T], None], timeout: float | None) -> Generator[T, None, None]:
        remaining, turns = _deadline(timeout), _Turns(groups)
        try:
            while (group := self._host.wait(turns.next(), remaining())) is not None:
                yield from group
        finally:
            self._host.wait(turns.close(), None)


class AsyncEmbeddedLink:
    """An `AsyncLink` to the services of this process."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Any:  # noqa: ASYNC109  # the protocol's
        """As `AsyncLink.unary`."""
        return await self._run(self._host.unary(method, request), timeout)

    async def upload(
        self,
        source: Source,
        name: str,
        version: str,
        *,
        timeout: float | None,  # noqa: ASYNC109  # the protocol's
    ) -> model_service_pb2.Model:
        """As `AsyncLink.upload`."""
        return await self._run(self._host.upload(source, name, version), timeout)

    async def capture(
        self,
        spec: capture_service_pb2.CaptureSpec,
        values: Sequence[SentValue],
        *,
        timeout: float | None,  # noqa: ASYNC109  # the protocol's
        whole: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """As `AsyncLink.capture`."""
        if whole:
            for event in await self._run(self._host.capture(spec, values), timeout):
                yield event
        else:
            async with aclosing(self._groups(self._host.parts(spec, values), timeout)) as events:
                async for event in events:
                    yield event

    async def stream(
        self,
        spec: capture_service_pb2.CaptureSpec,
        carry: Mapping[str, str],
        batches: AsyncIterator[Sequence[SentValue]],
        *,
        timeout: float | None,  # noqa: ASYNC109  # the protocol's
    ) -> AsyncGenerator[Event, None]:
        """As `AsyncLink.stream`."""
        source = _pulled_here(batches)
        try:
            async with aclosing(self._groups(self._host.stream(spec, carry, source), timeout)) as events:
                async for event in events:
                    yield event
        except OnnxscopeError:
            source.check()
            raise

    async def fit(
        self,
        method: str,
        spec: Any,
        batches: AsyncIterator[Sequence[SentValue]],
        *,
        timeout: float | None,  # noqa: ASYNC109  # the protocol's
    ) -> AsyncGenerator[Any, None]:
        """As `AsyncLink.fit`."""
        source = _pulled_here(batches)
        groups = embedded_probes.fit(self._host.probes, method, spec, source)
        try:
            async with aclosing(self._groups(groups, timeout)) as responses:
                async for response in responses:
                    yield response
        except OnnxscopeError:
            source.check()
            raise

    def exchange(
        self,
        method: str,
        requests: Sequence[Message],
        *,
        timeout: float | None,
    ) -> AsyncGenerator[Any, None]:
        """As `AsyncLink.exchange`."""
        return self._groups(embedded_probes.exchange(self._host.probes, method, requests), timeout)

    async def close(self) -> None:
        """As `AsyncLink.close`."""
        await asyncio.to_thread(self._host.close)

    async def _groups(
        self,
        groups: AsyncGenerator[list[T], None],
        timeout: float | None,  # noqa: ASYNC109  # the protocol's
    ) -> AsyncGenerator[T, None]:
        remaining, turns = _deadline(timeout), _Turns(groups)
        try:
            while (group := await self._run(turns.next(), remaining())) is not None:
                for event in group:
                    yield event
        finally:
            await self._run(turns.close(), None)

    async def _run(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:  # noqa: ASYNC109  # the protocol's
        return await asyncio.wrap_future(self._host.submit(work, timeout))


def _pulled_here(batches: AsyncIterator[Sequence[SentValue]]) -> Pulled:
    """Returns batches for the services' loop that are pulled in the caller's own."""
    loop = asyncio.get_running_loop()

    async def pull() -> Any:
        return await anext(batches, END)

    return Pulled(lambda: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pull(), loop)))


class _Turns(Generic[T]):
    """A generator that is asked by one coroutine of the services' loop at a time.

    Who stops waiting for the next group does not wait for it to be cancelled, and no generator can be closed before.

    Args:
        groups: the generator.
    """

    def __init__(self, groups: AsyncGenerator[list[T], None]) -> None:
        self._groups = groups
        self._turn = asyncio.Lock()

    async def next(self) -> list[T] | None:
        """Returns the next group; None behind the last."""
        async with self._turn:
            return await anext(self._groups, None)

    async def close(self) -> None:
        """Ends the generator."""
        async with self._turn:
            await self._groups.aclose()


def _deadline(seconds: float | None) -> Any:
    """Returns a function that says how much of a time is left."""
    end = None if seconds is None else time.monotonic() + seconds
    return lambda: None if end is None else max(0.0, end - time.monotonic())
