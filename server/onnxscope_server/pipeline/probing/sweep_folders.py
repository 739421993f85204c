"""Folders of sweeps in the data folder: `DIGEST OF THE MODEL/DIGEST OF THE NAME`, and how much may lie there."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path

from onnxscope_server.catalog.durable import lock_folder

STORE = "activations"
# folders of what has no name, and is not gone on with
_UNNAMED = "unnamed-"
_HOUR_SECONDS = 3600


class SweepFolders:
    """Where sweeps keep what they go on with; thread-safe. Only one process may use it.

    Args:
        folder: of all sweeps.
        most_bytes: that the activations of sweeps which nobody goes on with may take; the oldest go.
        most_hours: after which they go in any case.
    """

    def __init__(self, folder: Path, most_bytes: int, most_hours: float) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._most_seconds = most_hours * _HOUR_SECONDS
        # of processes that were killed
        for left in folder.glob(f"{_UNNAMED}*"):
            shutil.rmtree(left, ignore_errors=True)
        self.clear()

    def of(self, model_digest: str, name: str) -> Path:
        """Returns the folder of a sweep."""
        return self._folder / model_digest / hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def unnamed(self) -> Path:
        """Returns a folder for activations that nobody goes on with."""
        return self._folder / f"{_UNNAMED}{secrets.token_hex(8)}"

    def forget(self, model_digest: str) -> None:
        """Removes what is known of the sweeps of a model; of one that goes on, its activations stay until it ends."""
        for folder in self._folder.glob(f"{model_digest}/*"):
            if not (folder / STORE).is_dir() or _removed(folder / STORE):
                shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Removes activations that have waited too long for their sweep, and the oldest of too many."""
        found = []
        for store in self._folder.glob(f"*/*/{STORE}"):
            stats = _stats(store)
            changed = max((stat.st_mtime for stat in stats), default=0.0)
            found.append((changed, sum(stat.st_size for stat in stats), store))
        total = 0
        for changed, size, store in sorted(found, reverse=True):
            total += size
            if total > self._most_bytes or time.time() - changed > self._most_seconds:
                _removed(store)
                total -= size


def _stats(store: Path) -> list[os.stat_result]:
    try:
        return [path.stat() for path in store.iterdir()]
    except OSError:  # it goes just now
        return []


def _removed(store: Path) -> bool:
    """Removes activations; tells whether nothing uses them, so that they could be."""
    try:
        lock = lock_folder(store)
    except FileNotFoundError:
        return True
    if lock is None:
        return False
    try:
        shutil.rmtree(store, ignore_errors=True)
    finally:
        os.close(lock)
    return True
