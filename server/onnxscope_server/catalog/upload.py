"""One model on its way into the catalog: the conversation of `UploadModel`, without the wire."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from onnxscope_server.catalog import digest as digests
from onnxscope_server.catalog import external_data
from onnxscope_server.catalog.description import ModelEntry
from onnxscope_server.catalog.durable import is_full
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.store import DATA_FOLDER, GRAPH_FILE, DataFile, Manifest, link_or_copy
from onnxscope_server.catalog.weights import ingest
from onnxscope_server.errors import LimitExceededError, UploadInvalidError

_GRAPH = ""
_ARRIVING_FILE = "arriving"


@dataclass(frozen=True, slots=True)
class StoredGraph:
    """A model file that the server has: as it came, or already taken apart in a stored model's folder."""

    file: Path
    taken_apart: bool
    moved: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """A complete model in a staged folder, but for its manifest."""

    place: Path
    manifest: Manifest


class Shelf(Protocol):
    """What an upload needs of the catalog."""

    def stage(self) -> Path:
        """Makes an empty folder; whoever asked removes it."""

    def stored_graph(self, graph_digest: str) -> StoredGraph | None:
        """Finds a model file that the server has."""

    def stored_file(self, digest: str) -> Path | None:
        """Finds a file of external data that the server has; its bytes may have changed since."""

    def check_free(self, name: str, version: str, digest: str) -> None:
        """Raises ModelExistsError where name and version stand for another model."""

    def take_in(
        self, arrived: Arrived, name: str, version: str, check: Callable[[CatalogModel], None]
    ) -> tuple[ModelEntry, CatalogModel]:
        """Makes a complete model visible."""


@dataclass(slots=True)
class _Arriving:
    """A file of which bytes arrive, in order."""

    file: Path
    digest: str
    byte_count: int
    ignored: bool = False
    received: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)


class Upload:
    """An upload: graph, then digests of external data, then files; nothing is visible before `commit`.

    Not for several threads at once. Use it as a context manager, or call `abort`, so that a broken upload leaves
    nothing.

    Args:
        shelf: the catalog.
        graph_digest: of the model file, announced.
        graph_byte_count: size of the model file, announced.
        name: to keep it under; empty for the default.
        version: of the name; empty for the default.
        max_model_bytes: largest model, with its external data.

    Attributes:
        graph_needed: whether the server lacks the model file.
        received_byte_count: how much was really taken.

    Raises:
        UploadInvalidError: a digest that is none.
        LimitExceededError: the model file is too large.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        graph_digest: str,
        graph_byte_count: int,
        name: str,
        version: str,
        max_model_bytes: int,
    ) -> None:
        if not digests.is_digest(graph_digest):
            raise UploadInvalidError(
                "The upload's graph_digest must be the SHA-256 of the model file: 64 lower-case hex digits.",
                path=_GRAPH,
            )
        self._shelf = shelf
        self._name = name
        self._version = version
        self._limit = max_model_bytes
        self._announced = 0
        self._announce(graph_byte_count)
        self._needed: dict[str, int] | None = None
        self._moved = False
        self._files: dict[str, _Arriving] = {}
        self._wanted: tuple[str, ...] | None = None
        self.received_byte_count = 0
        self._place = shelf.stage()
        try:
            self._graph = _Arriving(self._place / _ARRIVING_FILE, graph_digest, graph_byte_count)
            self._begin()
        except BaseException:
            self.abort()
            raise

    def _begin(self) -> None:
        stored = self._shelf.stored_graph(self._graph.digest)
        if stored is None:
            pass
        elif stored.taken_apart:
            folder = stored.file.parent
            link_or_copy(stored.file, self._place / GRAPH_FILE)
            for source in (folder / DATA_FOLDER).glob("*"):
                link_or_copy(source, self._place / DATA_FOLDER / source.name)
            self._moved = stored.moved
            self._needed = {}
            self._graph.ignored = True
        else:
            shutil.copyfile(stored.file, self._graph.file)
            self._graph.ignored = digests.of_file(self._graph.file) == self._graph.digest
            if not self._graph.ignored:
                self._graph.file.unlink()
        self.graph_needed = not self._graph.ignored

    def write(self, path: str, offset: int, data: bytes) -> None:
        """Takes a piece of a file; what the server has already is ignored.

        Args:
            path: empty for the model file, else one of `files_wanted`.
            offset: bytes of the file before this piece.
            data: the piece.

        Raises:
            UploadInvalidError: a path that was not announced, a gap, or more than was announced.
            LimitExceededError: the disk is full.
        """
        arriving = self._graph if path == _GRAPH else self._files.get(path)
        if arriving is None:
            raise UploadInvalidError(
                f"A chunk is of {path!r}, which was not announced. Answer digests_wanted with its file_digest first.",
                path=path,
            )
        if arriving.ignored:
            return
        if offset != arriving.received:
            raise UploadInvalidError(
                f"A chunk of {path or 'the model file'!r} starts at byte {offset}, not at {arriving.received}. "
                "Send pieces in order and without gaps.",
                path=path,
            )
        if offset + len(data) > arriving.byte_count:
            raise UploadInvalidError(
                f"{_shown(path)} was announced with {arriving.byte_count} bytes and more than that arrived.", path=path
            )
        try:
            arriving.file.parent.mkdir(parents=True, exist_ok=True)
            with arriving.file.open("ab") as file:
                file.write(data)
        except OSError as error:
            if not is_full(error):
                raise
            raise LimitExceededError(
                "The disk of the server's data folder is full. Unload models, or give it a larger one.",
                setting="data",
                limit="the disk",
                got=str(self._announced),
            ) from error
        arriving.sha256.update(data)
        arriving.received += len(data)
        self.received_byte_count += len(data)

    def graph_done(self) -> tuple[str, ...]:
        """Ends the model file and looks into it.

        Returns:
            Paths of its external data, of which `file_digest` must tell the digests; empty where there is none.

        Raises:
            UploadInvalidError: the file is not what was announced.
            ModelInvalidError: it is no ONNX model.
            ExternalDataMissingError: its external data leads out of the model's folder.
        """
        if self._needed is None:
            if not self._graph.ignored:
                _finish(_GRAPH, self._graph)
            ingested = ingest(self._graph.file, self._place / DATA_FOLDER)
            self._graph.file.unlink()
            (self._place / GRAPH_FILE).write_bytes(ingested.graph_bytes)
            self._needed = ingested.needed
            self._moved = ingested.moved
            self._graph.ignored = True
        if not self._needed:
            self._check_free()
        return tuple(sorted(self._needed))

    def file_digest(self, path: str, digest: str, byte_count: int) -> None:
        """Announces a file of external data.

        Raises:
            UploadInvalidError: a path that the graph does not name or that was announced before; a digest that is none.
            ExternalDataMissingError: it is shorter than the graph needs.
            LimitExceededError: the model is too large.
        """
        needed = self._needed_paths()
        if path not in needed:
            raise UploadInvalidError(f"The graph names no external data file {path!r}.", path=path)
        if path in self._files:
            raise UploadInvalidError(f"The digest of {path!r} was announced twice.", path=path)
        if not digests.is_digest(digest):
            raise UploadInvalidError(f"The digest of {path!r} must be a SHA-256: 64 lower-case hex digits.", path=path)
        external_data.check_size(path, byte_count, needed)
        self._announce(byte_count)
        self._files[path] = _Arriving(self._place / DATA_FOLDER / path, digest, byte_count)

    def files_wanted(self) -> tuple[str, ...]:
        """Returns the paths whose chunks the server wants; files that it has are put in place from there.

        Raises:
            UploadInvalidError: the digest of a file was not announced.
            ModelExistsError: name and version stand for another model.
        """
        if self._wanted is None:
            missing = sorted(self._needed_paths().keys() - self._files)
            if missing:
                raise UploadInvalidError(
                    f"The digest of {missing[0]!r} was not announced. Answer every path of digests_wanted.",
                    path=missing[0],
                )
            self._check_free()
            for arriving in self._files.values():
                arriving.ignored = self._fetch(arriving)
            self._wanted = tuple(path for path, item in sorted(self._files.items()) if not item.ignored)
        return self._wanted

    def commit(self, check: Callable[[CatalogModel], None]) -> tuple[ModelEntry, CatalogModel]:
        """Makes the model visible.

        Args:
            check: tries whether the model loads; not called for a model that the catalog has.

        Returns:
            The entry and the model.

        Raises:
            UploadInvalidError: something is missing or is not what was announced.
            ModelInvalidError: `check` refused it.
            ModelExistsError: name and version stand for another model.
        """
        self._needed_paths()
        for path in self.files_wanted():
            _finish(path, self._files[path])
        files = {path: DataFile(item.digest, item.byte_count) for path, item in self._files.items()}
        manifest = Manifest(self._digest(), self._graph.digest, self._announced, files, self._moved)
        taken = self._shelf.take_in(Arrived(self._place, manifest), self._name, self._version, check)
        self.abort()
        return taken

    def abort(self) -> None:
        """Forgets the upload and what it brought; after `commit` there is nothing to forget."""
        shutil.rmtree(self._place, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _announce(self, byte_count: int) -> None:
        self._announced += byte_count
        if self._announced > self._limit:
            raise LimitExceededError(
                f"The model has at least {self._announced} bytes, above the server's max_model_bytes of {self._limit}.",
                setting="max_model_bytes",
                limit=str(self._limit),
                got=str(self._announced),
            )

    def _needed_paths(self) -> dict[str, int]:
        if self._needed is None:
            raise UploadInvalidError("The model file must be complete before anything else.", path=_GRAPH)
        return self._needed

    def _digest(self) -> str:
        return digests.of_model(self._graph.digest, {path: item.digest for path, item in self._files.items()})

    def _check_free(self) -> None:
        self._shelf.check_free(self._name, self._version, self._digest())

    def _fetch(self, arriving: _Arriving) -> bool:
        """Puts a file in place that the server has; tells whether it had it."""
        source = self._shelf.stored_file(arriving.digest)
        if source is None:
            return False
        try:
            # no link: of a file with several, onnxruntime takes no tensor into a body
            arriving.file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, arriving.file)
        except OSError:
            return False
        if digests.of_file(arriving.file) == arriving.digest:
            return True
        arriving.file.unlink()
        return False


def _finish(path: str, arriving: _Arriving) -> None:
    if not arriving.received and not arriving.byte_count:
        arriving.file.parent.mkdir(parents=True, exist_ok=True)
        arriving.file.touch()
    if arriving.received != arriving.byte_count:
        raise UploadInvalidError(
            f"{_shown(path)} is incomplete: {arriving.received} of the announced {arriving.byte_count} bytes arrived.",
            path=path,
        )
    if arriving.sha256.hexdigest() != arriving.digest:
        raise UploadInvalidError(
            f"{_shown(path)} has another digest than announced: it changed while it was read, or was damaged on "
            "the way. Upload it again.",
            path=path,
        )


def _shown(path: str) -> str:
    return f"The file {path!r}" if path else "The model file"
