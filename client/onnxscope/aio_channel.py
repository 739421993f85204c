"""The link over gRPC for coroutines."""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message

from onnxscope import encode
from onnxscope.blocks import Blocks
from onnxscope.channel import Address, Methods, closed, translate
from onnxscope.encode import SentValue
from onnxscope.errors import UnavailableError
from onnxscope.receive import Event, Receiver
from onnxscope.sharing import SharedCall, Sharing
from onnxscope.small import Key, SmallCaptures
from onnxscope.upload import Source, Upload
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1 import probe_service_pb2 as probe_pb
from onnxscope.v1.envelope import Carried


class AioGrpcLink:
    """An `AsyncLink` over gRPC. Nothing is opened before the first call, which binds it to its event loop.

    Args:
        address: of the server.
        shared_memory: whether large values may lie in memory that a server on this host shares.
    """

    def __init__(self, address: Address, *, shared_memory: bool = True) -> None:
        self._address = address
        self._sharing = Sharing(wanted=shared_memory)
        self._methods: Methods | None = None
        self._blocks = Blocks()
        self._small = SmallCaptures()
        self._is_closed = False

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Any:
        """As `Link.unary`."""
        try:
            return await self._opened()[method](request, timeout=timeout, metadata=self._address.metadata)
        except grpc.RpcError as error:
            raise translate(error, self._address) from error

    async def upload(
        self,
        source: Source,
        name: str,
        version: str,
        *,
        timeout: float | None,
    ) -> model_pb.Model:
        """As `Link.upload`."""
        upload = Upload(source, name, version)
        answers: asyncio.Queue[Iterable[model_pb.UploadModelRequest] | None] = asyncio.Queue()
        answers.put_nowait([await asyncio.to_thread(upload.start)])

        async def messages() -> AsyncIterator[model_pb.UploadModelRequest]:
            while (answer := await answers.get()) is not None:
                pending = iter(answer)
                while (message := await asyncio.to_thread(next, pending, None)) is not None:
                    yield message

        responses = self._responses("ModelService/UploadModel", _Requests(messages()), timeout)
        try:
            async with aclosing(responses):
                async for response in responses:
                    answers.put_nowait(await asyncio.to_thread(upload.answer, response))
        finally:
            answers.put_nowait(None)
        return upload.finish()

    def capture(
        self,
        spec: capture_pb.CaptureSpec,
        values: Sequence[SentValue],
        *,
        timeout: float | None,
        whole: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """As `Link.capture`."""

        def requests(shared: SharedCall | None) -> bytes | AsyncIterator[bytes]:
            messages = encode.at_once(encode.capture_requests(spec, values, shared))
            return messages if isinstance(messages, bytes) else _asynchronous(messages)

        key = self._small.key(spec, values) if whole else None
        message = self._small.request(key, spec, values)
        if key is not None and message is not None:
            return self._small_events(key, message, requests, timeout)
        return self._events("CaptureService/Capture", requests, timeout, whole=whole, key=key)

    def stream(
        self,
        spec: capture_pb.CaptureSpec,
        carry: Mapping[str, str],
        batches: AsyncIterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> AsyncGenerator[Event, None]:
        """As `Link.stream`."""
        requests = functools.partial(encode.astream_requests, spec, carry, batches)
        return self._events("CaptureService/StreamCapture", requests, timeout)

    def fit(
        self,
        method: str,
        spec: probe_pb.ProbeSpec,
        batches: AsyncIterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> AsyncGenerator[Any, None]:
        """As `Link.fit`."""
        return self._responses(method, _Requests(encode.afit_requests(method, spec, batches)), timeout)

    def exchange(self, method: str, requests: Sequence[Message], *, timeout: float | None) -> AsyncGenerator[Any, None]:
        """As `Link.exchange`."""
        messages = _asynchronous(request.SerializeToString() for request in requests)
        return self._responses(method, _Requests(messages), timeout)

    async def close(self) -> None:
        """As `Link.close`."""
        self._is_closed = True
        self._sharing.close()
        if self._methods is not None:
            await self._methods.channel.close()

    async def _small_events(
        self,
        key: Key,
        message: bytes,
        requests: Callable[[SharedCall | None], bytes | AsyncIterator[bytes]],
        timeout: float | None,
    ) -> AsyncGenerator[Event, None]:
        """Yields the events of a capture that is known to be small, even if it is not any more."""
        try:
            response = await self._opened().capture_small(message, timeout=timeout, metadata=self._address.metadata)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise (closed() if self._is_closed else translate(error, self._address)) from error
            response = Carried(capture_pb.CaptureSmallResponse())
        except asyncio.CancelledError:
            if self._is_cut_off():
                raise closed() from None
            raise
        if response.message.events:
            receiver = Receiver(empty=self._blocks.empty)
            for event in receiver.feed(response):
                yield event
            receiver.finish()
            return
        self._small.learn(key, None)
        async with aclosing(self._events("CaptureService/Capture", requests, timeout, whole=True)) as events:
            async for event in events:
                yield event

    async def _events(
        self,
        name: str,
        requests: Callable[[SharedCall | None], bytes | AsyncIterator[bytes]],
        timeout: float | None,
        *,
        whole: bool = False,
        key: Key | None = None,
    ) -> AsyncGenerator[Event, None]:
        shared = await self._sharing.begin_async(self.unary, timeout, whole=whole)
        try:
            async with aclosing(self._attempt(name, requests, timeout, shared, key)) as events:
                async for event in events:
                    yield event
        except UnavailableError:
            # the server may just have let go of the connection, and with it of what lay there
            if shared is None or not shared.has_placed:
                raise
            async with aclosing(self._attempt(name, requests, timeout, None)) as events:
                async for event in events:
                    yield event

    async def _attempt(
        self,
        name: str,
        requests: Callable[[SharedCall | None], bytes | AsyncIterator[bytes]],
        timeout: float | None,
        shared: SharedCall | None,
        key: Key | None = None,
    ) -> AsyncGenerator[Event, None]:
        receiver = Receiver(shared, self._blocks.empty)
        only: Carried | None = None
        index = 0
        try:
            messages = requests(shared)
            async with aclosing(self._responses(name, _Requests(messages), timeout)) as responses:
                async for response in responses:
                    only = None if index else response
                    index += 1
                    if shared:
                        await shared.arrival(response)
                    for event in receiver.feed(response):
                        yield event
                    if shared and not receiver.is_done:
                        shared.tell()
        finally:
            if shared:
                shared.end()
        receiver.finish()
        self._small.learn(key, only)

    async def _responses(
        self,
        name: str,
        requests: _Requests,
        timeout: float | None,
    ) -> AsyncGenerator[Any, None]:
        """Yields the responses of a call; closing this, or a cancellation, ends the call."""
        call = requests.begin(self._opened(), name, timeout=timeout, metadata=self._address.metadata)
        has_begun = False
        try:
            async for response in call:
                has_begun = True
                yield response
        except grpc.RpcError as error:
            requests.check()
            if self._is_closed:
                raise closed() from error
            raise translate(error, self._address, has_begun=has_begun) from error
        except asyncio.CancelledError:
            requests.check()
            if self._is_cut_off():
                raise closed() from None
            raise
        finally:
            call.cancel()
        requests.check()

    def _is_cut_off(self) -> bool:
        """Tells whether a cancellation was the scope's end, and not the task's."""
        task = asyncio.current_task()
        return self._is_closed and not (task and task.cancelling())

    def _opened(self) -> Methods:
        if self._is_closed:
            raise closed()
        if self._methods is None:
            self._methods = Methods(self._address.open(grpc.aio.secure_channel, grpc.aio.insecure_channel))
        return self._methods


class _Requests:
    """Messages on their way, pulled by a task of gRPC's; what goes wrong there is kept for the caller.

    Args:
        messages: several, or the one of a capture that is sent at once.
    """

    def __init__(self, messages: AsyncIterator[Any] | bytes) -> None:
        self._alone = messages if isinstance(messages, bytes) else None
        self._messages = _asynchronous(()) if isinstance(messages, bytes) else messages
        self._call: Any = None
        self._failure: BaseException | None = None

    def begin(self, methods: Methods, name: str, **options: Any) -> Any:
        """Begins the call that sends them; it ends when making one fails."""
        if self._alone is not None:
            return methods.capture_at_once(self._alone, **options)
        self._call = methods[name](self, **options)
        if self._failure is not None:
            self._call.cancel()
        return self._call

    def __aiter__(self) -> _Requests:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._messages)
        except (StopAsyncIteration, asyncio.CancelledError):
            raise
        except BaseException as error:
            self._failure = error
            if self._call is not None:
                self._call.cancel()
            raise StopAsyncIteration from error

    def check(self) -> None:
        """Raises what went wrong while messages were made."""
        if self._failure is not None:
            raise self._failure


async def _asynchronous(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message
