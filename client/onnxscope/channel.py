"""The links over gRPC: how a channel is opened, and the one for code that waits."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from grpc.experimental import ChannelOptions

from onnxscope import encode
from onnxscope.blocks import Blocks
from onnxscope.encode import SentValue
from onnxscope.errors import OnnxscopeError, StreamCutError, UnavailableError
from onnxscope.receive import Event, Receiver
from onnxscope.rpc_errors import from_rpc
from onnxscope.sharing import SharedCall, Sharing
from onnxscope.small import Key, SmallCaptures
from onnxscope.upload import Source, Upload
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import capture_service_pb2_grpc, model_service_pb2_grpc, probe_service_pb2_grpc
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1 import probe_service_pb2 as probe_pb
from onnxscope.v1.envelope import CAPTURE_RESPONSE, CAPTURE_SMALL_RESPONSE, STREAM_CAPTURE_RESPONSE, Carried

KEEPALIVE_MS = 30_000
_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.primary_user_agent", "onnxscope-python"),
    # who waits for the answer to a single message reads it without the help of gRPC's threads
    (ChannelOptions.SingleThreadedUnaryStream, 1),
)
_STUBS: Mapping[str, Any] = {
    "ModelService": model_service_pb2_grpc.ModelServiceStub,
    "CaptureService": capture_service_pb2_grpc.CaptureServiceStub,
    "ProbeService": probe_service_pb2_grpc.ProbeServiceStub,
}
_ENVELOPES = {
    "CaptureService/Capture": CAPTURE_RESPONSE,
    "CaptureService/StreamCapture": STREAM_CAPTURE_RESPONSE,
}
# called with serialised messages, as many as there are: whether a method takes one or several is the same on the wire
_SERIALISED: Mapping[str, type[Message]] = {
    "ProbeService/FitProbe": probe_pb.FitProbeResponse,
    "ProbeService/Sweep": probe_pb.SweepResponse,
    "ProbeService/ExportProbe": probe_pb.ExportProbeResponse,
    "ProbeService/ImportProbe": probe_pb.ImportProbeResponse,
}
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class TLS:
    """How to reach a server that wants TLS; every part is a path to a PEM file.

    Attributes:
        ca: authorities to trust; None for the system's.
        cert: the client's certificate chain, where the server wants one.
        key: the certificate's private key.
    """

    ca: str | PathLike[str] | None = None
    cert: str | PathLike[str] | None = None
    key: str | PathLike[str] | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files."""
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how it is reached.

    Attributes:
        target: host and port.
        token: the server's secret, or None.
        tls: True, a file of authorities, a `TLS`, or None for a plain connection.
    """

    target: str
    token: str | None = None
    tls: bool | str | PathLike[str] | TLS | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def open(self, secure: Callable[..., R], insecure: Callable[..., R]) -> R:
        """Opens a channel with gRPC's functions for it, those for threads or those for coroutines."""
        if self.tls is None or self.tls is False:
            return insecure(self.target, options=_OPTIONS)
        tls = self.tls if isinstance(self.tls, TLS) else TLS(None if self.tls is True else self.tls)
        return secure(self.target, tls.credentials(), options=_OPTIONS)


def _read(path: str | PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


class Methods:
    """The callables of a channel, each made once.

    Those that carry values take serialised messages and give `envelope.Carried`.

    Args:
        channel: one of gRPC's, for threads or for coroutines.

    Attributes:
        channel: the same.
        capture_at_once: the callable of a capture whose request is one message.
        capture_small: the same, where the answer is one message too.
    """

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._known: dict[str, Any] = {
            name: channel.stream_stream(f"/onnxscope.v1.{name}", response_deserializer=responses.parse)
            for name, responses in _ENVELOPES.items()
        } | {
            name: channel.stream_stream(f"/onnxscope.v1.{name}", response_deserializer=response.FromString)
            for name, response in _SERIALISED.items()
        }
        self.capture_at_once = channel.unary_stream(
            "/onnxscope.v1.CaptureService/Capture", response_deserializer=CAPTURE_RESPONSE.parse
        )
        self.capture_small = channel.unary_unary(
            "/onnxscope.v1.CaptureService/CaptureSmall", response_deserializer=CAPTURE_SMALL_RESPONSE.parse
        )

    def __getitem__(self, name: str) -> Any:
        """Returns the callable of "ModelService/ListModels" and the like."""
        if name not in self._known:
            service, _, method = name.partition("/")
            self._known[name] = getattr(_STUBS[service](self.channel), method)
        return self._known[name]


def closed() -> UnavailableError:
    """Returns the error of a call on a scope that was closed."""
    return UnavailableError("this scope is closed: open another with onnxscope.connect()")


def translate(error: grpc.RpcError, address: Address, *, has_begun: bool = False) -> OnnxscopeError:
    """Returns the client's error; a connection that breaks within an answer has cut it."""
    found = from_rpc(error, address.target)
    if has_begun and isinstance(found, UnavailableError):
        return StreamCutError(f"the answer was cut short: {found.message}", found.metadata)
    return found


class _Requests(Iterator[R], Generic[R]):
    """Messages on their way, pulled by a thread of gRPC's; what goes wrong there is kept for the caller.

    Args:
        messages: several, or the one of a capture that is sent at once.
    """

    def __init__(self, messages: Iterator[R] | bytes) -> None:
        self._alone = messages if isinstance(messages, bytes) else None
        self._messages: Iterator[R] = iter(()) if isinstance(messages, bytes) else messages
        self._cancel: Callable[[], Any] | None = None
        self._failure: BaseException | None = None

    def begin(self, methods: Methods, name: str, **options: Any) -> Any:
        """Begins the call that sends them; it ends when making one fails."""
        if self._alone is not None:
            return methods.capture_at_once(self._alone, **options)
        call = methods[name](self, **options)
        self._cancel = call.cancel
        if self._failure is not None:
            call.cancel()
        return call

    def __next__(self) -> R:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except BaseException as error:
            self._failure = error
            if self._cancel is not None:
                self._cancel()
            raise StopIteration from error

    def check(self) -> None:
        """Raises what went wrong while messages were made."""
        if self._failure is not None:
            raise self._failure


class GrpcLink:
    """A `Link` over gRPC. Nothing is opened before the first call.

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

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Any:
        """As `Link.unary`."""
        call = self._opened()[method].future(request, timeout=timeout, metadata=self._address.metadata)
        try:
            return call.result()
        except grpc.RpcError as error:
            raise (closed() if self._is_closed else translate(error, self._address)) from error
        except grpc.FutureCancelledError as error:
            raise closed() from error
        finally:
            call.cancel()

    def upload(self, source: Source, name: str, version: str, *, timeout: float | None) -> model_pb.Model:
        """As `Link.upload`."""
        upload = Upload(source, name, version)
        answers: queue.SimpleQueue[Iterable[model_pb.UploadModelRequest] | None] = queue.SimpleQueue()
        answers.put([upload.start()])
        requests = _Requests(message for answer in iter(answers.get, None) for message in answer)
        try:
            for response in self._responses("ModelService/UploadModel", requests, timeout):
                answers.put(upload.answer(response))
        finally:
            answers.put(None)
        return upload.finish()

    def capture(
        self,
        spec: capture_pb.CaptureSpec,
        values: Sequence[SentValue],
        *,
        timeout: float | None,
        whole: bool = False,
    ) -> Generator[Event, None, None]:
        """As `Link.capture`."""

        def requests(shared: SharedCall | None) -> bytes | Iterator[bytes]:
            return encode.at_once(encode.capture_requests(spec, values, shared))

        key = self._small.key(spec, values) if whole else None
        message = self._small.request(key, spec, values)
        if key is not None and message is not None:
            return self._small_events(key, message, requests, timeout)
        return self._events("CaptureService/Capture", requests, timeout, whole=whole, key=key)

    def stream(
        self,
        spec: capture_pb.CaptureSpec,
        carry: Mapping[str, str],
        batches: Iterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> Generator[Event, None, None]:
        """As `Link.stream`."""
        requests = functools.partial(encode.stream_requests, spec, carry, batches)
        return self._events("CaptureService/StreamCapture", requests, timeout)

    def fit(
        self,
        method: str,
        spec: probe_pb.ProbeSpec,
        batches: Iterator[Sequence[SentValue]],
        *,
        timeout: float | None,
    ) -> Generator[Any, None, None]:
        """As `Link.fit`."""
        return self._responses(method, _Requests(encode.fit_requests(method, spec, batches)), timeout)

    def exchange(
        self, method: str, requests: Sequence[Message], *, timeout: float | None
    ) -> Generator[Any, None, None]:
        """As `Link.exchange`."""
        return self._responses(method, _Requests(request.SerializeToString() for request in requests), timeout)

    def close(self) -> None:
        """As `Link.close`."""
        self._is_closed = True
        self._sharing.close()
        if self._methods is not None:
            self._methods.channel.close()

    def _small_events(
        self,
        key: Key,
        message: bytes,
        requests: Callable[[SharedCall | None], bytes | Iterator[bytes]],
        timeout: float | None,
    ) -> Generator[Event, None, None]:
        """Yields the events of a capture that is known to be small, even if it is not any more."""
        try:
            response = self._opened().capture_small(message, timeout=timeout, metadata=self._address.metadata)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise (closed() if self._is_closed else translate(error, self._address)) from error
            response = Carried(capture_pb.CaptureSmallResponse())
        if response.message.events:
            receiver = Receiver(empty=self._blocks.empty)
            yield from receiver.feed(response)
            receiver.finish()
        else:
            self._small.learn(key, None)
            yield from self._events("CaptureService/Capture", requests, timeout, whole=True)

    def _events(
        self,
        name: str,
        requests: Callable[[SharedCall | None], bytes | Iterator[bytes]],
        timeout: float | None,
        *,
        whole: bool = False,
        key: Key | None = None,
    ) -> Generator[Event, None, None]:
        shared = self._sharing.begin(self.unary, timeout, whole=whole)
        try:
            yield from self._attempt(name, requests, timeout, shared, key)
        except UnavailableError:
            # the server may just have let go of the connection, and with it of what lay there
            if shared is None or not shared.has_placed:
                raise
            yield from self._attempt(name, requests, timeout, None)

    def _attempt(
        self,
        name: str,
        requests: Callable[[SharedCall | None], bytes | Iterator[bytes]],
        timeout: float | None,
        shared: SharedCall | None,
        key: Key | None = None,
    ) -> Generator[Event, None, None]:
        receiver = Receiver(shared, self._blocks.empty)
        only: Carried | None = None
        try:
            messages = requests(shared)
            with closing(self._responses(name, _Requests(messages), timeout)) as responses:
                for index, response in enumerate(responses):
                    only = None if index else response
                    yield from receiver.feed(response)
                    if shared and not receiver.is_done:
                        shared.tell()
        finally:
            if shared:
                shared.end()
        receiver.finish()
        self._small.learn(key, only)

    def _responses(self, name: str, requests: _Requests[Any], timeout: float | None) -> Generator[Any, None, None]:
        """Yields the responses of a call; closing this, or an interrupt, ends the call."""
        call = requests.begin(self._opened(), name, timeout=timeout, metadata=self._address.metadata)
        has_begun = False
        try:
            for response in call:
                has_begun = True
                yield response
        except grpc.RpcError as error:
            requests.check()
            if self._is_closed:
                raise closed() from error
            raise translate(error, self._address, has_begun=has_begun) from error
        finally:
            call.cancel()
        requests.check()

    def _opened(self) -> Methods:
        if self._is_closed:
            raise closed()
        if self._methods is None:
            self._methods = Methods(self._address.open(grpc.secure_channel, grpc.insecure_channel))
        return self._methods
