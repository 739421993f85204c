"""The client for code that waits: scopes and their models."""

from __future__ import annotations

from os import PathLike
from types import TracebackType
from typing import Any, Self

from onnxscope import catalog, decode, embedding
from onnxscope.caller import Caller
from onnxscope.channel import TLS, Address, GrpcLink
from onnxscope.errors import ModelNotFoundError
from onnxscope.link import Link
from onnxscope.model import Model
from onnxscope.probes import importing
from onnxscope.probes.probe import Probe
from onnxscope.results import Models
from onnxscope.upload import Source
from onnxscope.v1 import model_service_pb2 as pb


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: bool | str | PathLike[str] | TLS | None = None,
    timeout: float | None = None,
    shared_memory: bool = True,
) -> Scope:
    """Returns a scope on a server; nothing is opened before the first call.

    Args:
        target: host and port, "localhost:8001".
        token: the secret that the server wants.
        tls: True for the system's authorities, a file of authorities, or a `TLS`.
        timeout: seconds that a call may take where it does not say so itself; None for ever.
        shared_memory: whether large values may lie in memory shared with a server on this host, where both run as the
            same user; without, and elsewhere, they come over the network: the same call, the same result.
    """
    return Scope(GrpcLink(Address(target, token, tls), shared_memory=shared_memory), timeout)


def local(providers: Any = None, session_options: Any = None, **settings: Any) -> Scope:
    """Returns a scope on a server in this process: the same calls, without a network.

    Args:
        providers: execution providers, first choice first; None for the CPU.
        session_options: an `onnxruntime.SessionOptions` to start from.
        **settings: the server's settings, by name.

    Raises:
        ModuleNotFoundError: the server's part is not installed.
    """
    return Scope(embedding.open_link("local", providers, session_options, settings))


class Scope:
    """A server's catalog, and the way to it. Also a context manager that closes it.

    Args:
        link: the way.
        timeout: seconds that a call may take where it does not say so itself.
    """

    def __init__(self, link: Link, timeout: float | None = None) -> None:
        self._caller = Caller(link, timeout)

    def load(
        self,
        source: Any,
        *,
        name: str | None = None,
        version: str | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Returns a model; one that the server does not have is sent there.

        Args:
            source: a path, bytes, an `onnx.ModelProto`, or the name or digest of a model in the catalog.
            name: to keep it under; None takes that of the file, NAME.onnx or NAME/model.onnx, and for bytes the first
                digits of the digest.
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
            found = caller.link.upload(asked, name or asked.default_name, version or "", timeout=seconds)
            return Model(caller, found)
        try:
            response = self._caller.call("ModelService/GetModel", asked, timeout)
        except ModelNotFoundError as error:
            raise catalog.not_found(error, asked) from error
        return Model(self._caller, response.model)

    def models(self, *, timeout: float | None = None) -> Models:
        """Returns the versions of all models, by name and then by version."""
        messages = self._caller.pages("ModelService/ListModels", pb.ListModelsRequest(), timeout)
        return Models(decode.model(found) for page in messages for found in page.models)

    def unload(self, name: str | Model, version: str | None = None, *, timeout: float | None = None) -> int:
        """Takes a name, or one version of it, out of the catalog; returns how many versions went.

        Raises:
            ModelNotFoundError: there is no such name or version.
            ModelReadOnlyError: it lies in the server's models folder.
        """
        if isinstance(name, Model):
            request = pb.UnloadModelRequest(model=name.name, version=version or name.version)
        else:
            request = pb.UnloadModelRequest(model=name, version=version or "")
        count: int = self._caller.call("ModelService/UnloadModel", request, timeout).unloaded_count
        return count

    def load_probe(
        self,
        source: Any,
        model: Model | str,
        at: Any = None,
        *,
        name: str | None = None,
        reduce: Any = None,
        overwrite: bool = False,
        activation: str | None = None,
        k: int | None = None,
        subtract_decoder_bias: bool = False,
        timeout: float | None = None,
    ) -> Probe:
        """Brings a file into the catalog as a probe of a model.

        Args:
            source: a path, bytes or an `onnx.ModelProto` with one float input `[example, feature]` and any outputs; or
                of a sparse autoencoder a .safetensors file or its arrays by name (`W_enc [feature, latent]`, `b_enc`,
                and `b_dec`, `threshold` where it has them), whose encoder is made into a probe.
            model: that it reads, or its name.
            at: address of the hook point; None for the one in the file's metadata, which `probe.save` writes.
            name: to keep it under; None for the one in the metadata, and for an autoencoder the file's.
            reduce: before the probe; None for the one in the metadata.
            overwrite: replaces a probe of the same name.
            activation: of a sparse autoencoder: "relu", "jumprelu" or "topk"; None takes topk where `k` is given,
                jumprelu where the file has a `threshold`, else relu.
            k: features that stay, for topk.
            subtract_decoder_bias: whether the autoencoder takes `b_dec` from the activation first.
            timeout: seconds; None for the scope's.

        Raises:
            ProbeInvalidError: the file is no probe, or is none of this model and hook point.
            ProbeExistsError: the model has another probe of this name.
        """
        target = self.load(model, timeout=timeout) if isinstance(model, str) else model
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
        return target._import_probe(requests, timeout)  # noqa: SLF001  # a part of loading

    def close(self) -> None:
        """Lets go of the server; calls afterwards raise `UnavailableError`."""
        self._caller.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
