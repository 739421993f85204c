"""The layout of the models folder: `NAME.onnx` or `NAME/[VERSION/]model.onnx`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from onnxscope_server.errors import ModelNotFoundError

_logger = logging.getLogger(__name__)
_MODEL_FILE = "model.onnx"
_SUFFIX = ".onnx"
_PROBES_FOLDER = "probes"


@dataclass(frozen=True, slots=True)
class Found:
    """A model file of the folder; `version` is empty where the layout gives none."""

    path: Path
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A model file that could not be brought in."""

    path: Path
    reason: str


def listed(folder: Path) -> list[Found]:
    """Lists the models of a folder, those that state a version first.

    Raises:
        ModelNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"The models folder {str(folder)!r} does not exist.", model=str(folder), version="", known=""
        )
    found = []
    for item in sorted(folder.iterdir()):
        if item.name.startswith("."):
            continue
        if item.is_file() and item.suffix == _SUFFIX:
            found.append(Found(item, item.stem, ""))
        elif item.is_dir():
            found.extend(_in_folder(item))
    return sorted(found, key=lambda model: not model.version)


def probes_of(folder: Path, name: str) -> Path:
    """Returns where the probes of a model of the folder are, all its versions together."""
    return folder / name / _PROBES_FOLDER


def failure(found: Found, error: Exception) -> Failure:
    """Logs and returns why a model could not be brought in."""
    _logger.error("%s is left out: %s", found.path, error)
    return Failure(found.path, str(error))


def _in_folder(folder: Path) -> list[Found]:
    found = []
    if (folder / _MODEL_FILE).is_file():
        found.append(Found(folder / _MODEL_FILE, folder.name, ""))
    versions = [item for item in sorted(folder.iterdir()) if item.name != _PROBES_FOLDER]
    found.extend(
        Found(item / _MODEL_FILE, folder.name, item.name) for item in versions if (item / _MODEL_FILE).is_file()
    )
    return found
