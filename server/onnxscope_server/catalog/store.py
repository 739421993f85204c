"""The data folder: models on disk, whole or not at all.

    lock                        held while a process uses the folder
    names.json                  names and versions of the models
    models/DIGEST/
      manifest.json             what the model was made of
      graph.onnx                the graph; large inline weights moved out
      data/                     external data under its own paths, or weights.bin
    probes/DIGEST/NAME.onnx     probes of that model; see `probe_files`
    staging/RANDOM/             a model on its way in

A model is written to staging, synced, and renamed to its place; a name is written to a temporary file and renamed.
What a crash leaves in staging goes at the next start.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxscope_server.catalog.description import ModelEntry
from onnxscope_server.catalog.digest import is_digest
from onnxscope_server.catalog.durable import lock_folder, sync, sync_folder, write_whole
from onnxscope_server.catalog.names import Named
from onnxscope_server.catalog.weights import WEIGHTS_FILE
from onnxscope_server.errors import UnavailableError

_logger = logging.getLogger(__name__)
_FORMAT = 1
GRAPH_FILE = "graph.onnx"
DATA_FOLDER = "data"
_MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of external data: its digest and its size."""

    digest: str
    byte_count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stored model was made of.

    Attributes:
        digest: of the model.
        graph_digest: of the model file as it came.
        byte_count: of the model file as it came and of its external data.
        files: external data of the model's own, by path.
        moved: whether the weights were moved out of the graph.
    """

    digest: str
    graph_digest: str
    byte_count: int
    files: dict[str, DataFile] = field(default_factory=dict)
    moved: bool = False


class Store:
    """Models and names in a folder. It does not lock against threads.

    Args:
        folder: the data folder; made where it is missing.
        durable: sync what is written; not needed for a temporary folder.

    Raises:
        UnavailableError: another process uses the folder.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._durable = durable
        self._models = self._folder / "models"
        self._staging = self._folder / "staging"
        self._models.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(self._folder)
        if lock is None:
            raise UnavailableError(
                f"The data folder {str(self._folder)!r} is in use by another onnxscope process. Stop that one, or give "
                "another folder with --data.",
                target=str(self._folder),
            )
        self._lock = lock
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()
        self._manifests = {}
        for place in sorted(self._models.iterdir()):
            manifest = _read_manifest(place)
            if manifest is None:
                _logger.warning("%s is not a complete model and is removed", place)
                shutil.rmtree(place, ignore_errors=True)
            else:
                self._manifests[manifest.digest] = manifest

    def close(self) -> None:
        """Lets another process have the folder."""
        os.close(self._lock)

    def digests(self) -> set[str]:
        """Returns the digests of all models."""
        return set(self._manifests)

    def manifest(self, digest: str) -> Manifest:
        """Returns what a model was made of."""
        return self._manifests[digest]

    def manifests(self) -> list[Manifest]:
        """Returns what every model was made of."""
        return list(self._manifests.values())

    def place(self, digest: str) -> Path:
        """Returns the folder of a model."""
        return self._models / digest

    def stage(self) -> Path:
        """Makes an empty folder for a model on its way in; the caller removes it."""
        place = self._staging / secrets.token_hex(8)
        place.mkdir()
        return place

    def seal(self, place: Path, manifest: Manifest) -> None:
        """Writes the manifest into a staged folder and syncs everything in it."""
        (place / _MANIFEST_FILE).write_text(
            json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1), encoding="utf-8"
        )
        if self._durable:
            for root, _, files in os.walk(place, topdown=False):
                for name in files:
                    sync(Path(root, name))
                sync_folder(Path(root))

    def publish(self, place: Path, manifest: Manifest) -> None:
        """Renames a sealed folder to its place, in one step."""
        place.rename(self.place(manifest.digest))
        if self._durable:
            sync_folder(self._models)
        self._manifests[manifest.digest] = manifest

    def remove(self, digest: str) -> None:
        """Deletes a model; sessions that have its files mapped keep them."""
        del self._manifests[digest]
        gone = self.place(digest).rename(self._staging / secrets.token_hex(8))
        shutil.rmtree(gone, ignore_errors=True)

    def save_names(self, entries: list[ModelEntry]) -> None:
        """Writes the names, in one step."""
        listed = [{"name": e.name, "version": e.version, "digest": e.digest, "load_time": e.load_time} for e in entries]
        data = json.dumps({"format": _FORMAT, "names": listed}, indent=1).encode()
        advice = "Unload models, or give it a larger one."
        write_whole(self._folder / "names.json", data, advice, durable=self._durable)

    def load_names(self) -> list[Named]:
        """Reads the names whose models are there; the others are dropped with a warning."""
        try:
            text = (self._folder / "names.json").read_text(encoding="utf-8")
            entries = [
                ModelEntry(e["name"], e["version"], e["digest"], float(e["load_time"]), read_only=False)
                for e in json.loads(text)["names"]
            ]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            _logger.warning("names.json cannot be read and is ignored: %s", error)
            return []
        for entry in entries:
            if entry.digest not in self._manifests:
                _logger.warning(
                    "%r version %r is dropped: its model %s is gone", entry.name, entry.version, entry.digest
                )
        return [Named(entry, kept=True) for entry in entries if entry.digest in self._manifests]


def link_or_copy(source: Path, target: Path) -> None:
    """Puts a file in a second place, without its bytes where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _read_manifest(place: Path) -> Manifest | None:
    try:
        read: dict[str, Any] = json.loads((place / _MANIFEST_FILE).read_text(encoding="utf-8"))
        files = {path: DataFile(**item) for path, item in read["files"].items()}
        whole = (place / GRAPH_FILE).is_file() and all(
            (place / DATA_FOLDER / path).stat().st_size == item.byte_count for path, item in files.items()
        )
        whole = whole and (not read["moved"] or (place / DATA_FOLDER / WEIGHTS_FILE).is_file())
        manifest = Manifest(read["digest"], read["graph_digest"], read["byte_count"], files, read["moved"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole and is_digest(place.name) and manifest.digest == place.name else None
