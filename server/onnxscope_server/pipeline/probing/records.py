"""What is known of a named sweep between two runs of the server: which data it was for, and what it has finished."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxscope_server.catalog.durable import sync, sync_folder

_FILE = "sweep.json"
_PART = "sweep.json.part"


@dataclass(slots=True)
class Record:
    """A sweep of one name on one model.

    Attributes:
        spec_digest: of the model and of what was asked for.
        batches: digest of each batch; as many as had come when it was written.
        is_complete: whether all batches had come.
        finished: addresses whose probes are in the catalog.
        is_over: whether the sweep has finished all of them.
    """

    spec_digest: str
    batches: list[str] = field(default_factory=list)
    is_complete: bool = False
    finished: list[str] = field(default_factory=list)
    is_over: bool = False

    def fits(self, index: int, digest: str) -> bool:
        """Tells whether a batch is the one that the sweep had at that place, as far as is known."""
        if index < len(self.batches):
            return self.batches[index] == digest
        return not self.is_complete

    @property
    def data_digest(self) -> str:
        """Digest of all rows and labels."""
        return hashlib.blake2b("".join(self.batches).encode(), digest_size=16).hexdigest()


class Records:
    """The sweeps of a server, each in a folder of its own.

    Args:
        folder: of all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, model_digest: str, name: str) -> Path:
        """Returns the folder of a sweep; its activations lie in it too."""
        key = hashlib.blake2b(f"{model_digest}/{name}".encode(), digest_size=16).hexdigest()
        return self._folder / key

    def read(self, place: Path) -> Record | None:
        """Returns what is known of a sweep; None where there is nothing, or nothing that can be read."""
        try:
            told: dict[str, Any] = json.loads((place / _FILE).read_text(encoding="utf-8"))
            return Record(**told)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, place: Path, record: Record) -> None:
        """Keeps what is known of a sweep, by one rename."""
        place.mkdir(parents=True, exist_ok=True)
        part = place / _PART
        part.write_text(json.dumps(asdict(record)), encoding="utf-8")
        sync(part)
        part.replace(place / _FILE)
        sync_folder(place)
