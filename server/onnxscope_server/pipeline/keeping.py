"""The verbs that keep probes: list, find, delete, and bring a file in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probe_entry import ProbeEntry, as_model, described, of_another_model
from onnxscope_server.domain import Array, OutputMode, Plan, Reduction
from onnxscope_server.errors import ModelInvalidError, ProbeInvalidError, ValueInvalidError
from onnxscope_server.plan.probes import check_fits, planned_probes
from onnxscope_server.probe_domain import KeptProbe, ProbeInfo, ProbeKind, Task
from onnxscope_server.probes import autoencoder, metadata
from onnxscope_server.rewrite.build import build
from onnxscope_server.run.runner import Runner


@dataclass(frozen=True, slots=True)
class SparseAutoencoder:
    """How a sparse autoencoder encodes; see probe_service.proto."""

    activation: str
    k: int
    subtract_decoder_bias: bool


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """What a file is a probe of; what is empty or None stands in the file.

    Attributes:
        name: to keep it under.
        model: a name or a digest.
        version: of the name.
        address: hook point that it reads.
        reduction: before it.
        overwrite: replace one of the same name.
        autoencoder: how to make a probe of the file, which then is no ONNX; None where it is.
    """

    name: str
    model: str
    version: str
    address: str
    reduction: Reduction | None
    overwrite: bool
    autoencoder: SparseAutoencoder | None


class Keeping:
    """Keeps the probes of the models in a catalog.

    Args:
        catalog: the models, with their probes.
        runner: does what blocks.
        check: trial load of a file; raises ModelInvalidError.
    """

    def __init__(self, catalog: Catalog, runner: Runner, check: Callable[[CatalogModel], None]) -> None:
        self._catalog = catalog
        self._runner = runner
        self._check = check

    @property
    def max_probe_bytes(self) -> int:
        """The largest file."""
        return self._catalog.probes.max_probe_bytes

    async def list(self, model: str, version: str) -> list[ProbeEntry]:
        """Returns the probes of a model, by name.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        return await self._runner.call(lambda: self._catalog.probes.list(self._digest(model, version)))

    async def get(self, model: str, version: str, name: str) -> KeptProbe:
        """Returns a probe with its file.

        Raises:
            ModelNotFoundError: there is no such model.
            ProbeNotFoundError: it has no such probe.
        """
        return await self._runner.call(lambda: self._catalog.probes.get(self._digest(model, version), name))

    async def arrays(self, probe: KeptProbe) -> dict[str, Array]:
        """Returns the arrays of a linear probe, by name; see `metadata.arrays`."""
        return await self._runner.call(metadata.arrays, probe.onnx)

    async def delete(self, model: str, version: str, name: str) -> None:
        """Takes a probe out of the catalog.

        Raises:
            ModelNotFoundError: there is no such model.
            ProbeNotFoundError: it has no such probe.
            ModelReadOnlyError: the probe lies in the models folder.
        """
        await self._runner.call(lambda: self._catalog.probes.delete(self._digest(model, version), name))

    async def bring_in(self, spec: ImportSpec, data: bytes) -> ProbeEntry:
        """Makes a file a probe of a model.

        Args:
            spec: what it is a probe of.
            data: the file: ONNX, or a sparse autoencoder's arrays.

        Returns:
            What is known of the probe.

        Raises:
            ModelNotFoundError: there is no such model.
            HookPointNotFoundError: it has no such hook point.
            ProbeInvalidError: the file is no probe, or none of this model and hook point.
            ProbeExistsError: there is another of this name.
            ValueInvalidError: neither the file nor the caller says what it is called.
            LimitExceededError: too many, or too large.
        """
        return await self._runner.call(self._bring_in, spec, data)

    def _digest(self, model: str, version: str) -> str:
        return self._catalog.resolve(model, version)[0].digest

    def _bring_in(self, spec: ImportSpec, data: bytes) -> ProbeEntry:
        _, model = self._catalog.resolve(spec.model, spec.version)
        if spec.autoencoder is not None:
            how = spec.autoencoder
            data = autoencoder.encoder(data, how.activation, how.k, subtract_decoder_bias=how.subtract_decoder_bias)
        file = self._tried(spec.name, data)
        said = metadata.read(data)
        info = _info(spec, said, model.digest)
        self._catalog.probes.check_free(model.digest, info.name, overwrite=spec.overwrite)
        onnx = data if info == said else metadata.written(data, info)
        entry = described(file, onnx, info)
        check_fits(model, entry)
        plan = Plan(model.digest, (), OutputMode.NONE, exact=False, probes=planned_probes(model, [entry]))
        build(model, plan, {entry.digest: onnx})
        probe = KeptProbe(info, onnx, entry.digest, entry.output_names)
        return self._catalog.probes.put(model.digest, probe, overwrite=spec.overwrite)

    def _tried(self, name: str, data: bytes) -> CatalogModel:
        """Returns the model that a file is, which onnxruntime loads."""
        model = as_model(data, name)
        try:
            self._check(model)
        except ModelInvalidError as error:
            raise ProbeInvalidError(
                f"The file of {name!r} is no probe: {error.message}", probe=name, detail=error.message
            ) from error
        return model


def _info(spec: ImportSpec, said: ProbeInfo | None, digest: str) -> ProbeInfo:
    """Returns what is known of a file that is brought in: what it says itself, and else what the caller does."""
    if said is None:
        said = ProbeInfo(spec.name, digest, spec.address, spec.reduction, ProbeKind.ONNX, Task.UNSUPERVISED)
    name, address, reduction = spec.name or said.name, spec.address or said.address, spec.reduction or said.reduction
    if not name:
        raise ValueInvalidError("The file does not say what the probe is called. Say name=.", value="name")
    if said.model_digest != digest:
        raise of_another_model(name, said.model_digest, digest)
    if not address:
        raise ProbeInvalidError(
            f"The file of {name!r} does not say which hook point it reads. Say at=.", probe=name, detail="no address"
        )
    if said.kind is not ProbeKind.ONNX and (address, reduction) != (said.address, said.reduction):
        raise ProbeInvalidError(
            f"The probe {name!r} was fitted at {said.address!r}, and what it learned means nothing elsewhere or with "
            "another reduction. Leave at= and reduce= out, or fit it there.",
            probe=name,
            detail=f"fitted at {said.address}",
        )
    return replace(said, name=name, address=address, reduction=reduction)
