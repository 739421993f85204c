"""Files of probes in the data folder: `probes/DIGEST OF THE MODEL/NAME.onnx`, whole or not at all.

A name that no file system could mistake is the file's name. Of any other, which may hold `/`, `::`, capitals or
thousands of letters, the file's name has what is plain, a `~` and a digest of the name; the name itself is in the file.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from onnxscope_server.catalog.durable import PART, write_whole

SUFFIX = ".onnx"
_logger = logging.getLogger(__name__)
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,99}")
# names of devices on Windows, whatever their suffix
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
_SHOWN = 40
_DIGEST_BYTES = 16


class ProbeFiles:
    """The files; it does not lock against threads.

    Args:
        folder: where they are; made where it is missing.
        durable: sync what is written; not needed for a temporary folder.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._folder.mkdir(parents=True, exist_ok=True)
        # of writes that a crash ended
        for left in self._folder.glob(f"*/.*{PART}"):
            left.unlink(missing_ok=True)

    def found(self) -> Iterator[tuple[str, Path]]:
        """Yields the model's digest and the path of every file."""
        for folder in sorted(self._folder.iterdir()):
            if folder.is_dir():
                yield from ((folder.name, path) for path in sorted(folder.glob(f"*{SUFFIX}")))

    def path(self, model_digest: str, name: str) -> Path:
        """Returns the path of a probe's file."""
        return self._folder / model_digest / f"{_escaped(name)}{SUFFIX}"

    def write(self, path: Path, data: bytes) -> None:
        """Writes a file in one step.

        Raises:
            LimitExceededError: the disk is full.
        """
        write_whole(path, data, "Delete probes, or give it a larger one.", durable=self._durable)

    def remove_all(self, model_digest: str) -> None:
        """Deletes all probes of a model."""
        shutil.rmtree(self._folder / model_digest, ignore_errors=True)


def _escaped(name: str) -> str:
    if _PLAIN.fullmatch(name) and not _DEVICE.fullmatch(name):
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    shown = re.sub(r"[^a-z0-9_]+", "-", name.lower())[:_SHOWN]
    return f"{shown}~{digest}"
