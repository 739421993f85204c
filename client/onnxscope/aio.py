"""The client for coroutines: the same names as in `onnxscope`, to be awaited.

async with onnxscope.aio.connect("localhost:8001") as scope:
    model = await scope.load("digits.onnx")
    acts = await model.capture(x, at="op:Relu")
    async for acts in model.stream(batches, at="h1"):
        ...
"""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

from os import PathLike
from types import TracebackType
from typing import Any, Self

from onnxscope import catalog, decode, embedding
from onnxscope.aio_channel import AioGrpcLink
from onnxscope.aio_model import AsyncModel
from onnxscope.caller import AsyncCaller
from onnxscope.channel import TLS, Address
from onnxscope.errors import ModelNotFoundError
from onnxscope.link import AsyncLink
from onnxscope.probes import importing
from onnxscope.probes.aio_at_hand import fit_probe
from onnxscope.probes.aio_probe import AsyncProbe
from onnxscope.results import Models
from onnxscope.upload import Source
from onnxscope.v1 import model_service_pb2 as pb

__all__ = ["AsyncScope", "connect", "fit_probe", "local"]


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: bool | str | PathLike[str] | TLS | None = None,
    timeout: float | None = None,
    shared_memory: bool = True,
) -> AsyncScope:
    """Returns a scope on a server; nothing is opened before the first call.

    Args:
        target: host and port, "localhost:8001".
        token: the secret that the server wants.
        tls: True for the system's authorities, a file of authorities, or a `TLS`.
        timeout: seconds that a call may take where it does not say so itself; None for ever.
        shared_memory: whether large values may lie in memory shared with a server on this host, where both run as the
            same user; without, and elsewhere, they come over the network: the same call, the same result.
    """
    return AsyncScope(AioGrpcLink(Address(target, token, tls), shared_memory=shared_memory), timeout)


def local(providers: Any = None, session_options: Any = None, **settings: Any) -> AsyncScope:
    """Returns a scope on a server in this process: the same calls, without a network.

    Args:
        providers: execution providers, first choice first; None for the CPU.
        session_options: an `onnxruntime.SessionOptions` to start from.
        **settings: the server's settings, by name.

    Raises:
        ModuleNotFoundError: the server's part is not installed.
    """
    return AsyncScope(embedding.open_async_link("local", providers, session_options, settings))


class AsyncScope:
    """A server's catalog, and the way to it. Also a context manager that closes it.

    Args:
        link: the way.
        timeout: seconds that a call may take where it does not say so itself.
    """

    def __init__(self, link: AsyncLink, timeout: float | None = None) -> None:
        self._caller = AsyncCaller(link, timeout)

    async def load(
        self,
        source: Any,
        *,
        name: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
    ) -> AsyncModel:
        """Returns a model; one that the server does not have is sent there.

        Args:
            source: a path, bytes, an `onnx.ModelProto`, or the name or digest of a model in the catalog.
            name: to keep it under; None lets the server choose.
            version: of the name; None for a new one, or for the newest in the catalog.
            timeout: seconds; None for the scope's.

        Raises:
            ModelNotFoundError: there is no such file and no such name.
            ModelInvalidError: it is no ONNX model, or onnxruntime refuses it.
            ExternalDataMissingError: a file of weights is missing or lies outside of the model's folder.
        """
        asked = catalog.load_request(source, name, version)
        if isinstance(asked, Source):
            caller = self._caller
            seconds = caller.seconds(timeout)
            found = await caller.link.upload(asked, name or asked.default_name, version or "", timeout=seconds)
            return AsyncModel(caller, found)
        try:
            response = await self._caller.call("ModelService/GetModel", asked, timeout)
        except ModelNotFoundError as error:
            raise catalog.not_found(error, asked) from error
        return AsyncModel(self._caller, response.model)

    async def models(self, *, timeout: float | None = None) -> Models:
        """Returns the versions of all models, by name and then by version."""
        messages = self._caller.pages("ModelService/ListModels", pb.ListModelsRequest(), timeout)
        return Models([decode.model(found) async for page in messages for found in page.models])

    async def unload(self, name: str | AsyncModel, version: str | None = None, *, timeout: float | None = None) -> int:
        """Takes a name, or one version of it, out of the catalog; returns how many versions went.

        Raises:
            ModelNotFoundError: there is no such name or version.
            ModelReadOnlyError: it lies in the server's models folder.
        """
        if isinstance(name, AsyncModel):
            request = pb.UnloadModelRequest(model=name.name, version=version or name.version)
        else:
            request = pb.UnloadModelRequest(model=name, version=version or "")
        response = await self._caller.call("ModelService/UnloadModel", request, timeout)
        count: int = response.unloaded_count
        return count

    async def load_probe(
        self,
        source: Any,
        model: AsyncModel | str,
        at: Any = None,
        *,
        name: str | None = None,
        reduce: Any = None,
        overwrite: bool = False,
        activation: str | None = None,
        k: int | None = None,
        subtract_decoder_bias: bool = False,
        timeout: float | None = None,
    ) -> AsyncProbe:
        """Brings a file into the catalog as a probe of a model; all is as of `Scope.load_probe`."""
        target = await self.load(model, timeout=timeout) if isinstance(model, str) else model
        requests = importing.requests(
            source,
            target.digest,
            at,
            name=name,
            reduce=reduce,
            overwrite=overwrite,
            activation=activation,
            k=k,
            subtract_decoder_bias=subtract_decoder_bias,
        )
        return await target._import_probe(requests, timeout)  # noqa: SLF001  # a part of loading

    async def close(self) -> None:
        """Lets go of the server; calls afterwards raise `UnavailableError`."""
        await self._caller.link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
