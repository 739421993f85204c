"""The catalog's probes, by their model's digest and by name. Safe to call from many threads.

What is known of a probe stands in its file, which is all that is kept: a file that is copied takes its report along.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probe_entry import ProbeEntry, as_model, described, digest_of, of_another_model
from onnxscope_server.catalog.probe_files import SUFFIX, ProbeFiles
from onnxscope_server.errors import (
    LimitExceededError,
    ModelNotFoundError,
    ModelReadOnlyError,
    OnnxscopeServerError,
    ProbeExistsError,
    ProbeInvalidError,
    ProbeNotFoundError,
    ValueInvalidError,
)
from onnxscope_server.probe_domain import KeptProbe, ProbeInfo

ReadInfo: TypeAlias = Callable[[bytes], ProbeInfo | None]
_logger = logging.getLogger(__name__)
_GIB = 1 << 30
_NAME_LETTERS = 4096
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """How much is kept: bytes of one file, bytes of all files, and number of probes; see `Settings`."""

    max_probe_bytes: int = _GIB
    probe_bytes: int = 16 * _GIB
    max_probes: int = 100_000


class Probes:
    """Probes by the digest of their model and by name.

    Args:
        folder: where their files are; see `probe_files`. Only one process may use it.
        read: reads what a file says of itself; None where it says nothing.
        limits: how much is kept.
        durable: sync what is written; not needed for a temporary folder.
        has_model: whether there is a model of a digest; may wait for a lock, but not for this catalog's.
    """

    def __init__(
        self,
        folder: Path,
        read: ReadInfo,
        limits: ProbeLimits | None = None,
        *,
        durable: bool = True,
        has_model: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._read = read
        self._has_model = has_model
        self._limits = limits or ProbeLimits()
        self._lock = threading.RLock()
        self._files = ProbeFiles(folder, durable=durable)
        self._entries: dict[str, dict[str, ProbeEntry]] = {}
        for digest, path in self._files.found():
            try:
                entry = self._entry(path, read_only=False)
            except (OnnxscopeServerError, OSError) as error:
                _logger.warning("%s is no probe and is left out: %s", path, error)
                continue
            if entry.info.model_digest == digest and path == self._files.path(digest, entry.info.name):
                self._entries.setdefault(digest, {})[entry.info.name] = entry
            else:
                _logger.warning("%s lies where the probe %r of another model or name belongs", path, entry.info.name)

    @property
    def max_probe_bytes(self) -> int:
        """The largest file."""
        return self._limits.max_probe_bytes

    def put(self, digest: str, probe: KeptProbe, *, overwrite: bool = False) -> ProbeEntry:
        """Keeps a probe under the name that its info has.

        Args:
            digest: of its model, as its info has it.
            probe: the probe; its file says what its info does.
            overwrite: let it replace one of the same name.

        Returns:
            What is known of it.

        Raises:
            ModelNotFoundError: its model was unloaded.
            ProbeExistsError: there is another of this name, and `overwrite` is not asked for.
            ProbeInvalidError: its file is no probe, or is one of another model.
            ModelReadOnlyError: the one of this name lies in the models folder.
            LimitExceededError: it is too large, there are too many, or the disk is full.
            ValueInvalidError: a name that is none.
        """
        name = probe.info.name
        check_name(name)
        path = self._files.path(digest, name)
        entry = replace(described(as_model(probe.onnx, name), probe.onnx, probe.info), path=path)
        if probe.info.model_digest != digest:
            raise of_another_model(name, probe.info.model_digest, digest)
        with self._lock:
            self.check_free(digest, name, overwrite=overwrite)
            self._check_room(entry, self._entries.get(digest, {}).get(name))
            self._files.write(path, probe.onnx)
            self._entries.setdefault(digest, {})[name] = entry
        # asked afterwards: a model that is unloaded takes along what is there then
        if not self._has_model(digest):
            self.forget(digest)
            raise ModelNotFoundError(
                f"The model of the probe {name!r} was unloaded meanwhile. Load it and fit the probe again.",
                model=digest,
            )
        return entry

    def check_free(self, digest: str, name: str, *, overwrite: bool = False) -> None:
        """Checks that a probe could be kept under a name.

        Raises:
            ProbeExistsError: there is one, and `overwrite` is not asked for.
            ModelReadOnlyError: there is one, and it lies in the models folder.
            ValueInvalidError: a name that is none.
        """
        check_name(name)
        with self._lock:
            there = self._entries.get(digest, {}).get(name)
        if there is None:
            return
        if not overwrite:
            raise ProbeExistsError(
                f"The model has a probe {name!r} already. Say overwrite=True to replace it, or choose another name.",
                probe=name,
                model=digest,
            )
        _check_writable(there)

    def get(self, digest: str, name: str) -> KeptProbe:
        """Returns a probe with its file.

        Raises:
            ProbeNotFoundError: there is none; the text lists what there is.
        """
        with self._lock:
            entry = self.entry(digest, name)
            data = self._bytes(entry, digest)
        return KeptProbe(entry.info, data, entry.digest, entry.output_names)

    def entry(self, digest: str, name: str) -> ProbeEntry:
        """Returns what is known of a probe, which takes no time.

        Raises:
            ProbeNotFoundError: there is none; the text lists what there is.
        """
        entries = self._entries.get(digest, {})
        found = entries.get(name)
        if found is None:
            known = ", ".join(sorted(entries)[:_SHOWN]) or "there are none"
            more = ", ..." if len(entries) > _SHOWN else ""
            raise ProbeNotFoundError(
                f"The model has no probe {name!r}. Its probes: {known}{more}. model.fit_probe or scope.load_probe "
                "make one.",
                probe=name,
                model=digest,
                known=known,
            )
        return found

    def file(self, digest: str, name: str, probe_digest: str) -> bytes:
        """Returns the file that a plan was made for.

        Raises:
            ProbeNotFoundError: it was deleted or overwritten since.
        """
        with self._lock:
            entry = self.entry(digest, name)
            if entry.digest != probe_digest:
                raise ProbeNotFoundError(
                    f"The probe {name!r} was overwritten while it was used. Ask again.",
                    probe=name,
                    model=digest,
                    known=name,
                )
            return self._bytes(entry, digest)

    def list(self, digest: str) -> list[ProbeEntry]:
        """Returns the probes of a model, by name."""
        with self._lock:
            entries = self._entries.get(digest, {})
            return [entries[name] for name in sorted(entries)]

    def delete(self, digest: str, name: str) -> None:
        """Takes a probe away.

        Raises:
            ProbeNotFoundError: there is none.
            ModelReadOnlyError: it lies in the models folder.
        """
        with self._lock:
            entry = self.entry(digest, name)
            _check_writable(entry)
            del self._entries[digest][name]
            entry.path.unlink(missing_ok=True)

    def forget(self, digest: str) -> None:
        """Takes all probes of a model away, which nobody can name any more."""
        with self._lock:
            if self._entries.pop(digest, None) is not None:
                self._files.remove_all(digest)

    def add_folder(self, folder: Path, digests: Collection[str], check: Callable[[CatalogModel], None]) -> None:
        """Takes the probes of a folder in, read-only and where they are; what can't be is logged.

        Args:
            folder: of `*.onnx`; it may be missing.
            digests: of the versions of the model whose folder it is.
            check: tries whether a probe loads.
        """
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
            try:
                entry = self._entry(path, read_only=True)
                if entry.info.model_digest not in digests:
                    raise of_another_model(entry.info.name, entry.info.model_digest, ", ".join(digests))
                check(CatalogModel.from_bytes(path.read_bytes()))
            except (OnnxscopeServerError, OSError) as error:
                _logger.warning("%s is left out: %s", path, error)
                continue
            with self._lock:
                self._entries.setdefault(entry.info.model_digest, {})[entry.info.name] = entry

    def _entry(self, path: Path, *, read_only: bool) -> ProbeEntry:
        if path.stat().st_size > self._limits.max_probe_bytes:
            raise self._too_large(path.name, path.stat().st_size)
        data = path.read_bytes()
        model = as_model(data, path.name)
        info = self._read(data)
        if info is None:
            raise ProbeInvalidError(
                "It does not say which model and hook point it is of. Bring it in with scope.load_probe, and save it.",
                probe=path.name,
                detail="no metadata",
            )
        entry = described(model, data, info if info.name else replace(info, name=path.stem))
        return replace(entry, path=path, read_only=read_only)

    def _bytes(self, entry: ProbeEntry, digest: str) -> bytes:
        try:
            data = entry.path.read_bytes()
        except OSError:
            data = b""
        if digest_of(data) != entry.digest:
            raise ProbeNotFoundError(
                f"The file of the probe {entry.info.name!r} is gone or was changed. Fit or load it again.",
                probe=entry.info.name,
                model=digest,
                known="",
            )
        return data

    def _check_room(self, entry: ProbeEntry, instead: ProbeEntry | None) -> None:
        if entry.byte_count > self._limits.max_probe_bytes:
            raise self._too_large(entry.info.name, entry.byte_count)
        kept = [one for entries in self._entries.values() for one in entries.values() if not one.read_only]
        total = sum(one.byte_count for one in kept if one is not instead) + entry.byte_count
        for setting, limit, got in (
            ("probe_bytes", self._limits.probe_bytes, total),
            ("max_probes", self._limits.max_probes, len(kept) + (instead is None)),
        ):
            if got > limit:
                raise LimitExceededError(
                    f"With {entry.info.name!r} the server would keep more probes than its {setting} of {limit} allows. "
                    f"Delete some, or start it with a larger --{setting.replace('_', '-')}.",
                    setting=setting,
                    limit=str(limit),
                    got=str(got),
                )

    def _too_large(self, name: str, size: int) -> LimitExceededError:
        limit = self._limits.max_probe_bytes
        return LimitExceededError(
            f"The probe {name!r} has {size} bytes, above the server's max_probe_bytes of {limit}.",
            setting="max_probe_bytes",
            limit=str(limit),
            got=str(size),
        )


def check_name(name: str) -> None:
    """Checks that a probe can have a name.

    Raises:
        ValueInvalidError: it is empty, too long, or has a character that nobody can read.
    """
    if not name.strip() or len(name) > _NAME_LETTERS or any(ord(letter) < ord(" ") for letter in name):
        raise ValueInvalidError(
            f"A probe's name must have 1 to {_NAME_LETTERS} characters, none of them a control character: "
            f"{name[:_SHOWN]!r}.",
            value="name",
        )


def _check_writable(entry: ProbeEntry) -> None:
    if entry.read_only:
        raise ModelReadOnlyError(
            f"The probe {entry.info.name!r} lies in the server's models folder. Change it there and start the server "
            "again.",
            model=entry.info.model_digest,
        )
