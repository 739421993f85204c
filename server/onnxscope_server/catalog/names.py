"""Names and versions: what callers say, and which digest each stands for."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from onnxscope_server.catalog.description import ModelEntry
from onnxscope_server.catalog.digest import is_digest
from onnxscope_server.errors import ModelExistsError, ModelNotFoundError, UploadInvalidError

DEFAULT_NAME_DIGITS = 12
_MAX_LENGTH = 200
_KNOWN_SHOWN = 20
_NUMBER = re.compile(r"[0-9]+")


def check(name: str, version: str) -> None:
    """Checks what a caller wants to call a model; empty stands for the default.

    Raises:
        UploadInvalidError: it is too long, holds characters that don't print, or could be taken for a digest.
    """
    for what, text in (("name", name), ("version", version)):
        if len(text) > _MAX_LENGTH or not text.isprintable() or text != text.strip():
            raise UploadInvalidError(
                f"The {what} {text[:_MAX_LENGTH]!r} cannot be used: give up to {_MAX_LENGTH} printable characters "
                "without blanks around them.",
                path="",
            )
    if is_digest(name):
        raise UploadInvalidError(f"The name {name!r} looks like a model's digest. Give another one.", path="")


@dataclass(frozen=True, slots=True)
class Named:
    """An entry, and whether it outlives the process."""

    entry: ModelEntry
    kept: bool


class Names:
    """The entries of a catalog, in memory. It does not lock.

    Args:
        named: entries to begin with.
    """

    def __init__(self, named: Iterable[Named] = ()) -> None:
        self._named = {(item.entry.name, item.entry.version): item for item in named}
        # what callers asked for since the names last changed
        self._found: dict[tuple[str, str], ModelEntry] = {}

    def entries(self) -> list[ModelEntry]:
        """Returns all entries, by name and then by version."""
        return sorted((item.entry for item in self._named.values()), key=_order)

    def kept(self) -> list[ModelEntry]:
        """Returns the entries that outlive the process, by name and then by version."""
        return sorted((item.entry for item in self._named.values() if item.kept), key=_order)

    def digests(self) -> set[str]:
        """Returns the digests that some entry stands for."""
        return {item.entry.digest for item in self._named.values()}

    def find(self, model: str, version: str = "") -> ModelEntry:
        """Finds what a caller means.

        Args:
            model: a name or a digest.
            version: of the name. Default: the highest whole number; of other versions, the one loaded last.

        Raises:
            ModelNotFoundError: there is none; the text lists what there is.
        """
        found = self._found.get((model, version))
        if found is None:
            matches = self.matching(model, version)
            found = max(matches, key=lambda entry: (*_newness(entry.version), entry.load_time))
            self._found[model, version] = found
        return found

    def matching(self, model: str, version: str = "") -> list[ModelEntry]:
        """Returns all entries of a name or a digest, or of one version of it.

        Raises:
            ModelNotFoundError: there is none; the text lists what there is.
        """
        of_model = [
            entry for entry in self.entries() if entry.name == model or (is_digest(model) and entry.digest == model)
        ]
        found = [entry for entry in of_model if version in ("", entry.version)]
        if found:
            return found
        if of_model:
            known = [entry.version for entry in of_model]
            text = f"The model {model!r} has no version {version!r}. It has {_listed(known)}."
        else:
            known = sorted({entry.name for entry in self.entries()})
            closest = difflib.get_close_matches(model, known, n=1)
            hint = f" Did you mean {closest[0]!r}?" if closest else ""
            what = f"There is no model {model!r}." if model else "Say which model: a name or a digest."
            text = f"{what}{hint} The catalog has {_listed(known) if known else 'no models yet'}."
        raise ModelNotFoundError(text, model=model, version=version, known=", ".join(known[:_KNOWN_SHOWN]))

    def check_free(self, name: str, version: str, digest: str) -> None:
        """Checks that a name and version, where both are given, don't stand for another model.

        Raises:
            ModelExistsError: they do.
        """
        there = self._named.get((name, version))
        if there is not None and there.entry.digest != digest:
            raise ModelExistsError(
                f"{name!r} version {version!r} stands for another model ({there.entry.digest[:DEFAULT_NAME_DIGITS]}). "
                "Leave the version out to get the next one, or unload it first.",
                model=name,
                version=version,
                digest=there.entry.digest,
            )

    def add(self, name: str, version: str, digest: str, *, read_only: bool = False, kept: bool = True) -> ModelEntry:
        """Makes a name and version stand for a model.

        Args:
            name: default the first digits of the digest.
            version: default the version that this model has under that name, else the next whole number.
            digest: of the model.
            read_only: it lies in the models folder.
            kept: it outlives the process.

        Returns:
            The entry; the one that was there where name, version and digest are the same.

        Raises:
            ModelExistsError: name and version stand for another model.
        """
        name = name or digest[:DEFAULT_NAME_DIGITS]
        siblings = [item.entry for item in self._named.values() if item.entry.name == name]
        if not version:
            same = [entry.version for entry in siblings if entry.digest == digest]
            version = max(same, key=_newness) if same else str(_highest(siblings) + 1)
        self.check_free(name, version, digest)
        there = self._named.get((name, version))
        if there is not None:
            self._named[name, version] = Named(there.entry, kept=there.kept or kept)
            return there.entry
        entry = ModelEntry(name, version, digest, time.time(), read_only)
        self._found.clear()
        self._named[name, version] = Named(entry, kept)
        return entry

    def remove(self, entries: Iterable[ModelEntry]) -> None:
        """Takes entries away."""
        self._found.clear()
        for entry in entries:
            del self._named[entry.name, entry.version]


def _listed(known: list[str]) -> str:
    more = f" and {len(known) - _KNOWN_SHOWN} more" if len(known) > _KNOWN_SHOWN else ""
    return ", ".join(repr(item) for item in known[:_KNOWN_SHOWN]) + more


def _newness(version: str) -> tuple[int, int]:
    return (1, int(version)) if _NUMBER.fullmatch(version) else (0, 0)


def _highest(entries: Iterable[ModelEntry]) -> int:
    return max((_newness(entry.version)[1] for entry in entries), default=0)


def _order(entry: ModelEntry) -> tuple[str, int, int, str]:
    number, value = _newness(entry.version)
    return (entry.name, -number, value, entry.version)
