"""What the catalog knows of a probe, and what a file must be to be one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from onnxscope_server.catalog import external_data, graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import ValueType
from onnxscope_server.errors import OnnxscopeServerError, ProbeInvalidError
from onnxscope_server.probe_domain import ProbeInfo


@dataclass(frozen=True, slots=True, eq=False)
class ProbeEntry:
    """What is known of a probe without its file.

    Attributes:
        info: what its file says.
        digest: of its file.
        outputs: of its graph, with their types.
        input: type of its one input.
        byte_count: of its file.
        path: of its file.
        read_only: whether it lies in the models folder.
    """

    info: ProbeInfo
    digest: str
    outputs: tuple[tuple[str, ValueType | None], ...]
    input: ValueType | None
    byte_count: int
    path: Path = Path()
    read_only: bool = False

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of its outputs."""
        return tuple(name for name, _ in self.outputs)


def of_another_model(name: str, found: str, wanted: str) -> ProbeInvalidError:
    """Returns the error that refuses a probe of another model."""
    return ProbeInvalidError(
        f"The probe {name!r} was made for the model {found} and not for {wanted}: what it learned means nothing there. "
        "Fit it on this model.",
        probe=name,
        detail=f"model {found}",
    )


def described(model: CatalogModel, data: bytes, info: ProbeInfo) -> ProbeEntry:
    """Returns what a catalog says of a file.

    Args:
        model: as `as_model` gives it.
        data: the file.
        info: what is known of it.
    """
    outputs = tuple((spec.name, spec.type) for spec in model.outputs)
    return ProbeEntry(info, digest_of(data), outputs, model.inputs[0].type, len(data))


def as_model(data: bytes, name: str) -> CatalogModel:
    """Returns the model that a probe's file is.

    Args:
        data: the file.
        name: of the probe, for errors.

    Raises:
        ProbeInvalidError: it is no ONNX model of one file with one input.
    """
    try:
        model = CatalogModel.from_bytes(data)
        outside = external_data.needed_bytes(graph.parse(data))
    except OnnxscopeServerError as error:
        raise ProbeInvalidError(
            f"The file of {name!r} is no probe: {error.message}", probe=name, detail=error.message
        ) from error
    if outside:
        files = ", ".join(outside)
        raise ProbeInvalidError(
            f"The file of {name!r} keeps weights in other files: {files}. Save it with its weights inside.",
            probe=name,
            detail=f"external data: {files}",
        )
    if len(model.inputs) != 1:
        names = ", ".join(spec.name for spec in model.inputs) or "none"
        raise ProbeInvalidError(
            f"A probe has one input, the activations. The file of {name!r} has {len(model.inputs)}: {names}. Give the "
            "others a default or make them constants.",
            probe=name,
            detail=f"inputs: {names}",
        )
    return model


def digest_of(data: bytes) -> str:
    """Returns the digest of a file."""
    return hashlib.blake2b(data).hexdigest()
