"""The server in the client's own process: the same servicers, without a network, arrays by reference.

The only module of the client that imports the server; `local()` imports it late.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message
from pydantic import ValidationError

from onnxscope.embedded_links import AsyncEmbeddedLink, EmbeddedLink
from onnxscope.errors import (
    DeadlineExceededError,
    OnnxscopeError,
    UnavailableError,
    ValueInvalidError,
    from_reason,
)
from onnxscope.link import AsyncLink, Link, SentValue
from onnxscope.receive import (
    Arrived,
    BatchCompleted,
    BatchStarted,
    Completed,
    Event,
    Planned,
    StreamCompleted,
)
from onnxscope.results import Fidelity
from onnxscope.upload import Source, Upload
from onnxscope.v1 import capture_service_pb2, model_service_pb2, tensor_pb2
from onnxscope_server.api.status import domain_error
from onnxscope_server.app import Services
from onnxscope_server.domain import Array, Value
from onnxscope_server.result_domain import Result
from onnxscope_server.settings import EmbeddedSettings

T = TypeVar("T")


def open_link(providers: Sequence[str] | None, session_options: Any, settings: Mapping[str, Any]) -> Link:
    """Starts a server in this process, for code that waits."""
    return EmbeddedLink(_Host(providers, session_options, settings))


def open_async_link(providers: Sequence[str] | None, session_options: Any, settings: Mapping[str, Any]) -> AsyncLink:
    """Starts a server in this process, for coroutines of any event loop."""
    return AsyncEmbeddedLink(_Host(providers, session_options, settings))


class _Host:
    """The services, and the thread whose event loop they live in."""

    def __init__(self, providers: Sequence[str] | None, session_options: Any, settings: Mapping[str, Any]) -> None:
        chosen = dict(settings) | ({"providers": tuple(providers)} if providers else {})
        try:
            self._services = Services.make(EmbeddedSettings(**chosen), session_options)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
            )
            raise ValueInvalidError(f"local() cannot use these settings: {problems}") from error
        except TypeError as error:
            raise ValueInvalidError(str(error)) from error
        except Exception as error:
            raise _translated(error) from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="onnxscope-embedded", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self.wait(self._services.load_models_folder(), None)
        except BaseException:
            self.close()
            raise

    def submit(self, work: Coroutine[Any, Any, T], timeout: float | None) -> Future[T]:
        """Starts a coroutine in the services' loop; every error it raises is a client's."""
        if self._closed:
            work.close()
            raise UnavailableError("this scope is closed; open another with onnxscope.local()")
        return asyncio.run_coroutine_threadsafe(_limited(work, timeout), self._loop)

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Runs a coroutine in the services' loop and waits; an interrupt ends it."""
        future = self.submit(work, timeout)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Ends what runs, and the thread."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._services.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def probes(self) -> Any:
        """The servicer of probes."""
        return self._services.probes

    async def unary(self, method: str, request: Message) -> Any:
        """Calls the servicer's method of that name."""
        service, name = method.split("/")
        servicer: Any = {
            "ModelService": self._services.models,
            "CaptureService": self._services.captures,
            "ProbeService": self._services.probes,
        }[service]
        return await getattr(servicer, name)(request, None)

    async def upload(self, source: Source, name: str, version: str) -> model_service_pb2.Model:
        """Takes a file where it lies; bytes go through the same conversation as over a network."""
        if source.path is not None:
            return await self._services.models.add_file(Path(source.path), name, version)
        upload = Upload(source, name, version)
        answers: asyncio.Queue[Iterator[model_service_pb2.UploadModelRequest]] = asyncio.Queue()

        async def requests() -> AsyncIterator[model_service_pb2.UploadModelRequest]:
            yield upload.start()
            while True:
                for request in await answers.get():
                    yield request

        async for response in self._services.models.UploadModel(requests(), None):
            answers.put_nowait(upload.answer(response))
        return upload.finish()

    async def capture(self, spec: capture_service_pb2.CaptureSpec, values: Sequence[SentValue]) -> list[Event]:
        """Runs the model once."""
        plan, result = await self._services.captures.capture(spec, *_batch(values))
        return [Planned(plan), *_arrived(result), Completed(result.timings, _fidelity(result))]

    async def parts(
        self, spec: capture_service_pb2.CaptureSpec, values: Sequence[SentValue]
    ) -> AsyncGenerator[list[Event], None]:
        """Runs the model once; yields what is there while the rest is computed."""
        has_begun = False
        async with aclosing(self._services.captures.parts(spec, *_batch(values))) as parts:
            async for plan, part in parts:
                opening = [] if has_begun else [Planned(plan)]
                closing = [Completed(part.timings, _fidelity(part))] if part.timings else []
                has_begun = True
                yield [*opening, *_arrived(part), *closing]

    async def stream(
        self,
        spec: capture_service_pb2.CaptureSpec,
        carry: Mapping[str, str],
        batches: AsyncIterator[Sequence[SentValue]],
    ) -> AsyncGenerator[list[Event], None]:
        """Runs the model on batch after batch; yields the events of one batch at a time."""

        async def read() -> AsyncIterator[tuple[Mapping[str, Value], Mapping[str, Array]]]:
            async for values in batches:
                yield _batch(values)

        count = 0
        events: list[Event] = []
        async with aclosing(self._services.captures.stream(spec, carry, read())) as parts:
            async for plan, part in parts:
                if not events:
                    events = [*([Planned(plan)] if count == 0 else []), BatchStarted(count)]
                events.extend(_arrived(part))
                if part.timings:
                    yield [*events, BatchCompleted(count, part.timings, _fidelity(part))]
                    events = []
                    count += 1
        yield [StreamCompleted(count)]


async def _limited(work: Awaitable[T], seconds: float | None) -> T:
    async with _as_client_errors():
        return await asyncio.wait_for(work, seconds)


@asynccontextmanager
async def _as_client_errors() -> AsyncIterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise DeadlineExceededError("the call's time ran out; the run was ended") from error
    except OnnxscopeError:
        raise
    except Exception as error:
        raise _translated(error) from error


def _translated(error: Exception) -> OnnxscopeError:
    known = domain_error(error)
    return from_reason(known.reason, known.message, known.metadata)


def _batch(values: Sequence[SentValue]) -> tuple[dict[str, Value], dict[str, Array]]:
    inputs = {sent.name: sent.value for sent in values if sent.role == tensor_pb2.VALUE_ROLE_INPUT}
    masks: dict[str, Any] = {sent.name: sent.value for sent in values if sent.role == tensor_pb2.VALUE_ROLE_MASK}
    return inputs, masks


def _arrived(result: Result) -> Iterator[Arrived]:
    for address, value in result.activations.items():
        yield Arrived(tensor_pb2.VALUE_ROLE_ACTIVATION, address, value)
    for address, value in result.scalings.items():
        yield Arrived(tensor_pb2.VALUE_ROLE_SCALING, address, value)
    for name, value in result.probes.items():
        yield Arrived(tensor_pb2.VALUE_ROLE_PROBE, name, value)
    for name, value in result.outputs.items():
        yield Arrived(tensor_pb2.VALUE_ROLE_OUTPUT, name, value)


def _fidelity(result: Result) -> Fidelity:
    known = result.fidelity
    return Fidelity(known.fusion_blocked, known.changed_operators, known.max_output_difference)
