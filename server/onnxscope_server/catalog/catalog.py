"""The catalog: the server's models, by name and by digest. Safe to call from many threads."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from onnxscope_server.catalog import in_place, models_folder, names
from onnxscope_server.catalog.description import ModelEntry
from onnxscope_server.catalog.digest import of_file
from onnxscope_server.catalog.in_place import InPlace
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.names import Names
from onnxscope_server.catalog.probes import ProbeLimits, Probes, ReadInfo
from onnxscope_server.catalog.runtime import Runtime
from onnxscope_server.catalog.store import DATA_FOLDER, GRAPH_FILE, Manifest, Store
from onnxscope_server.catalog.upload import Arrived, StoredGraph, Upload
from onnxscope_server.catalog.weights import ingest
from onnxscope_server.errors import ModelNotFoundError, ModelReadOnlyError, OnnxscopeServerError

Check: TypeAlias = Callable[[CatalogModel], None]
_MODELS_KEPT_PARSED = 32


class Catalog:
    """Models by digest and by name.

    Args:
        folder: the data folder; see `store`. Only one process may use it.
        max_model_bytes: largest model that may be uploaded, with its external data.
        durable: sync what is written; not needed for a temporary folder.
        runtime: tells what ONNX's own definitions don't.
        read_probe: reads what a probe's file says of itself.
        probe_limits: how many probes are kept.

    Attributes:
        probes: of the models. They go with the last name of their model, but not when the process ends.

    Raises:
        UnavailableError: another process uses the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_model_bytes: int,
        durable: bool = True,
        runtime: Runtime | None = None,
        read_probe: ReadInfo = lambda _: None,
        probe_limits: ProbeLimits | None = None,
    ) -> None:
        self._max_model_bytes = max_model_bytes
        self._runtime = runtime
        self._lock = threading.RLock()
        self._store = Store(folder, durable=durable)
        self._names = Names(self._store.load_names())
        self._in_place: dict[str, InPlace] = {}
        self._parsed: OrderedDict[str, CatalogModel] = OrderedDict()
        for digest in self._store.digests() - self._names.digests():
            self._store.remove(digest)
        self.probes = Probes(
            folder.resolve() / "probes", read_probe, probe_limits, durable=durable, has_model=self._has
        )

    def close(self) -> None:
        """Lets another process have the data folder."""
        self._store.close()

    def _has(self, digest: str) -> bool:
        with self._lock:
            return digest in self._names.digests()

    def entries(self) -> list[ModelEntry]:
        """Returns every version of every name, by name and then by version."""
        with self._lock:
            return self._names.entries()

    def resolve(self, model: str, version: str = "") -> tuple[ModelEntry, CatalogModel]:
        """Finds what a caller means.

        Args:
            model: a name or a digest.
            version: of the name. Default: the newest.

        Returns:
            The entry and the model.

        Raises:
            ModelNotFoundError: there is none; the text lists what there is.
        """
        with self._lock:
            entry = self._names.find(model, version)
            return entry, self._model(entry.digest)

    def at_hand(self, model: str, version: str = "") -> tuple[ModelEntry, CatalogModel] | None:
        """Does what `resolve` does where that takes no time; None where the model has to be parsed first.

        Raises:
            ModelNotFoundError: there is none.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            entry = self._names.find(model, version)
            digest = entry.digest
            is_parsed = digest in self._parsed or (digest in self._in_place and digest not in self._store.digests())
            return (entry, self._model(digest)) if is_parsed else None
        finally:
            self._lock.release()

    def unload(self, model: str, version: str = "") -> int:
        """Takes a name, one version of it, or all names of a digest away; bytes that no name stands for go.

        Returns:
            The number of versions that went.

        Raises:
            ModelNotFoundError: there is none.
            ModelReadOnlyError: it lies in the models folder.
        """
        with self._lock:
            found = self._names.matching(model, version)
            if any(entry.read_only for entry in found):
                raise ModelReadOnlyError(
                    f"{model!r} lies in the server's models folder. Take it away there and start the server again.",
                    model=model,
                )
            self._names.remove(found)
            self._store.save_names(self._names.kept())
            for digest in {entry.digest for entry in found} - self._names.digests():
                self._parsed.pop(digest, None)
                self._in_place.pop(digest, None)
                if digest in self._store.digests():
                    self._store.remove(digest)
                self.probes.forget(digest)
            return len(found)

    def begin_upload(self, graph_digest: str, graph_byte_count: int, name: str = "", version: str = "") -> Upload:
        """Begins to bring a model in.

        Args:
            graph_digest: SHA-256 of the model file.
            graph_byte_count: size of the model file.
            name: to keep it under. Default: the first 12 digits of the digest.
            version: of the name. Default: the version that these very bytes have, or the next whole number.

        Returns:
            The upload, which the caller must end.

        Raises:
            UploadInvalidError: a digest or a name that is none.
            LimitExceededError: it is too large.
        """
        names.check(name, version)
        return Upload(
            self,
            graph_digest=graph_digest,
            graph_byte_count=graph_byte_count,
            name=name,
            version=version,
            max_model_bytes=self._max_model_bytes,
        )

    def add_file(self, path: Path, name: str, version: str, check: Check, *, read_only: bool = False) -> ModelEntry:
        """Brings a model in from a file of this machine, without copying its external data.

        A model with external data stays where it is, and its name goes when the process ends; of others the catalog
        keeps a copy.

        Args:
            path: the model file.
            name: to keep it under. Default: the first 12 digits of the digest.
            version: of the name. Default: as in `begin_upload`.
            check: tries whether the model loads; not called for a model that the catalog has.
            read_only: it belongs to the models folder.

        Returns:
            The entry.

        Raises:
            ModelNotFoundError: there is no such file.
            ModelInvalidError: it is no ONNX model, or `check` refused it.
            ModelExistsError: name and version stand for another model.
            ExternalDataMissingError: external data is missing, too short, or lies outside of the model's folder.
        """
        names.check(name, version)
        if not path.is_file():
            raise ModelNotFoundError(f"There is no model file {str(path)!r}.", model=str(path), version="", known="")
        digest = of_file(path)
        with self._lock:
            if digest in self._store.digests():
                return self._name(name, version, digest, read_only=read_only)
        place = self.stage()
        try:
            ingested = ingest(path, place / DATA_FOLDER)
            if ingested.needed:
                found = in_place.locate(path, digest, ingested, self._runtime)
                return self._keep_in_place(found, name, version, check, read_only=read_only)
            (place / GRAPH_FILE).write_bytes(ingested.graph_bytes)
            manifest = Manifest(digest, digest, path.stat().st_size, {}, ingested.moved)
            arrived = Arrived(place, manifest)
            entry, _ = self._take_in(arrived, name, version, check, read_only=read_only)
            return entry
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def scan_models_folder(self, folder: Path, check: Check) -> list[models_folder.Failure]:
        """Brings in the models of a folder: `NAME.onnx` or `NAME/[VERSION/]model.onnx`, with `NAME/probes/*.onnx`.

        All of them are read-only; a probe that could not be brought in is logged.

        Args:
            folder: the models folder.
            check: tries whether a model loads.

        Returns:
            What could not be brought in, and why; it is logged too.

        Raises:
            ModelNotFoundError: there is no such folder.
        """
        failures = []
        digests: dict[str, set[str]] = {}
        for found in models_folder.listed(folder):
            try:
                entry = self.add_file(found.path, found.name, found.version, check, read_only=True)
            except (OnnxscopeServerError, OSError) as error:
                failures.append(models_folder.failure(found, error))
            else:
                digests.setdefault(found.name, set()).add(entry.digest)
        for name, versions in digests.items():
            self.probes.add_folder(models_folder.probes_of(folder, name), versions, check)
        return failures

    def stage(self) -> Path:
        """Makes an empty folder for a model on its way in; whoever asked removes it."""
        return self._store.stage()

    def stored_graph(self, graph_digest: str) -> StoredGraph | None:
        """Finds a model file that the server has."""
        with self._lock:
            for manifest in self._store.manifests():
                if manifest.graph_digest == graph_digest:
                    file = self._store.place(manifest.digest) / GRAPH_FILE
                    return StoredGraph(file, taken_apart=not manifest.files, moved=manifest.moved)
            for item in self._in_place.values():
                if item.graph_digest == graph_digest and item.model_file.is_file():
                    return StoredGraph(item.model_file, taken_apart=False, moved=False)
        return None

    def stored_file(self, digest: str) -> Path | None:
        """Finds a file of external data that the server has; its bytes may have changed since."""
        with self._lock:
            for manifest in self._store.manifests():
                for path, file in manifest.files.items():
                    if file.digest == digest:
                        return self._store.place(manifest.digest) / DATA_FOLDER / path
            for item in self._in_place.values():
                for path, found in item.file_digests.items():
                    if found == digest:
                        return item.files[path]
        return None

    def check_free(self, name: str, version: str, digest: str) -> None:
        """Raises ModelExistsError where name and version stand for another model than this."""
        with self._lock:
            self._names.check_free(name or digest[: names.DEFAULT_NAME_DIGITS], version, digest)

    def take_in(self, arrived: Arrived, name: str, version: str, check: Check) -> tuple[ModelEntry, CatalogModel]:
        """Makes a complete staged model visible; see `Upload.commit`."""
        return self._take_in(arrived, name, version, check, read_only=False)

    def _take_in(
        self, arrived: Arrived, name: str, version: str, check: Check, *, read_only: bool
    ) -> tuple[ModelEntry, CatalogModel]:
        manifest = arrived.manifest
        self.check_free(name, version, manifest.digest)
        with self._lock:
            there = manifest.digest in self._store.digests()
        if not there:
            check(self._loaded(arrived.place, manifest))
            self._store.seal(arrived.place, manifest)
        with self._lock:
            self.check_free(name, version, manifest.digest)
            if manifest.digest not in self._store.digests():
                if there:
                    self._store.seal(arrived.place, manifest)
                self._store.publish(arrived.place, manifest)
            entry = self._name(name, version, manifest.digest, read_only=read_only)
            return entry, self._model(manifest.digest)

    def _name(self, name: str, version: str, digest: str, *, read_only: bool) -> ModelEntry:
        entry = self._names.add(name, version, digest, read_only=read_only, kept=not read_only)
        self._store.save_names(self._names.kept())
        return entry

    def _keep_in_place(self, found: InPlace, name: str, version: str, check: Check, *, read_only: bool) -> ModelEntry:
        digest = found.model.digest
        self.check_free(name, version, digest)
        with self._lock:
            there = digest in self._in_place
        if not there:
            check(found.model)
        with self._lock:
            self.check_free(name, version, digest)
            self._in_place.setdefault(digest, found)
            return self._names.add(name, version, digest, read_only=read_only, kept=False)

    def _model(self, digest: str) -> CatalogModel:
        model = self._parsed.get(digest)
        if model is None and digest in self._store.digests():
            model = self._loaded(self._store.place(digest), self._store.manifest(digest))
        if model is None:
            return self._in_place[digest].model
        self._parsed[digest] = model
        self._parsed.move_to_end(digest)
        while len(self._parsed) > _MODELS_KEPT_PARSED:
            self._parsed.popitem(last=False)
        return model

    def _loaded(self, place: Path, manifest: Manifest) -> CatalogModel:
        return CatalogModel(
            digest=manifest.digest,
            byte_count=manifest.byte_count,
            graph_bytes=(place / GRAPH_FILE).read_bytes(),
            data_folder=place / DATA_FOLDER if manifest.files or manifest.moved else None,
            runtime=self._runtime,
        )
