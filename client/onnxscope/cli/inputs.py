"""`--input`: what a user gives, matched with what the model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from onnxscope.cli import archives, images
from onnxscope.cli.console import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscope.results import TensorSpec

_STRINGS = "string"


def read(
    given: Sequence[str],
    specs: Sequence[TensorSpec],
    preparation: images.Preparation,
    *,
    cast: bool = False,
) -> dict[str, Any]:
    """Reads the inputs of a model.

    Args:
        given: each `NAME=FILE`, `NAME:=JSON`, or `FILE` alone: an archive whose arrays have the names of inputs, or
            the only input's.
        specs: of the model's inputs, the optional ones too.
        preparation: of images.
        cast: converts arrays to the dtype that the model declares.

    Returns:
        Values by the inputs' names; the client checks them.

    Raises:
        CommandError: something cannot be read, or it is not clear which input it is meant for.
    """
    if not given:
        listed = "; ".join(map(str, specs))
        raise CommandError(f"give the model its inputs with --input NAME=FILE; it takes {listed}")
    known = {spec.name: spec for spec in specs}
    values: dict[str, Any] = {}
    for item in given:
        for name, value in _one(item, known, preparation).items():
            if name in values:
                raise CommandError(f"input {name!r} is given twice")
            values[name] = _cast(value, known[name]) if cast else value
    return values


def _one(item: str, known: dict[str, TensorSpec], preparation: images.Preparation) -> dict[str, Any]:
    # names may hold any character: they are looked up, longest first, never split at the first sign
    for name in sorted(known, key=len, reverse=True):
        if item.startswith(f"{name}:="):
            return {name: _literal(item.removeprefix(f"{name}:="))}
        if item.startswith(f"{name}="):
            return {name: _file(Path(item.removeprefix(f"{name}=")), known[name], preparation)}
    path = Path(item)
    if "=" in item and not path.is_file():
        name = item.partition("=")[0].removesuffix(":")
        raise CommandError(f"the model has no input {name!r}; it takes {_listed(known)}")
    if path.suffix.lower() in (".npz", ".safetensors"):
        arrays = archives.load(path)
        if strange := [name for name in arrays if name not in known]:
            raise CommandError(f"{path} has {strange[0]!r}, which is no input of the model; it takes {_listed(known)}")
        return arrays
    if len(known) != 1:
        raise CommandError(f"say which input {path} is, as NAME={path}; the model takes {_listed(known)}")
    (spec,) = known.values()
    return {spec.name: _file(path, spec, preparation)}


def _file(path: Path, spec: TensorSpec, preparation: images.Preparation) -> Any:
    if path.suffix.lower() in images.SUFFIXES:
        return images.read(path, spec, preparation)
    arrays = archives.load(path)
    if spec.name in arrays:
        return arrays[spec.name]
    if len(arrays) != 1:
        raise CommandError(f"{path} has {len(arrays)} arrays ({', '.join(arrays)}), none of them named {spec.name!r}")
    (value,) = arrays.values()
    return value


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{text!r} after := is not JSON: {error}") from error


def _cast(value: Any, spec: TensorSpec) -> Any:
    is_array = isinstance(value, np.ndarray)
    if not is_array or spec.dtype in (_STRINGS, value.dtype.name):
        return value
    dtype: Any = getattr(ml_dtypes, spec.dtype, None)
    try:
        return value.astype(np.dtype(dtype or spec.dtype))
    except (TypeError, ValueError) as error:
        raise CommandError(f"{spec.name} cannot be cast from {value.dtype} to {spec.dtype}: {error}") from error


def _listed(known: dict[str, TensorSpec]) -> str:
    return "; ".join(map(str, known.values())) or "no input"
