"""What is known of a named sweep between two runs of the server: which data it was for, and what it has finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from onnxscope_server.catalog.durable import write_whole
from onnxscope_server.errors import ProbeExistsError

_FILE = "sweep.json"
_SHOWN = 3


@dataclass(slots=True)
class Record:
    """A sweep of one name on one model.

    Attributes:
        spec_digest: of the model, the hook points and what was asked for.
        batches: digest of each batch, once all had come.
        is_complete: whether all had come: probes of the sweep's names are its own since then.
        finished: addresses whose probes are in the catalog.
    """

    spec_digest: str
    batches: list[str] = field(default_factory=list)
    is_complete: bool = False
    finished: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """Returns what is known of a sweep; None where there is nothing, or nothing that can be read."""
        try:
            return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path, *, durable: bool) -> None:
        """Keeps it, by one rename; with `durable` a power failure can't undo that.

        Raises:
            LimitExceededError: the disk is full.
        """
        data = json.dumps(asdict(self)).encode()
        write_whole(folder / _FILE, data, "Delete probes or models, or give it a larger one.", durable=durable)


class Ledger:
    """Keeps the record of a sweep while it goes on; used by one thread at a time.

    Args:
        folder: of the sweep.
        name: of the sweep.
        spec_digest: as of `Record`.
        taken: whether the catalog has a probe of the sweep's name, by address.
        overwrite: replace what is there.

    Attributes:
        folder: of the sweep.
        resumed: addresses that an earlier run of the sweep has finished.

    Raises:
        ProbeExistsError: the catalog has probes of these names that are not of this sweep.
    """

    def __init__(
        self, folder: Path, name: str, spec_digest: str, taken: Mapping[str, bool], *, overwrite: bool
    ) -> None:
        self.folder = folder
        self._name = name
        self._addresses = tuple(taken)
        self._overwrite = overwrite
        self._seen: list[str] = []
        record = Record.read(folder)
        if record is None or record.spec_digest != spec_digest:
            record = Record(spec_digest)
        finished = [address for address in record.finished if taken.get(address)]
        if overwrite and len(finished) == len(taken):
            record, finished = Record(spec_digest), []
        foreign = [address for address in taken if taken[address] and not record.is_complete]
        if foreign and not overwrite:
            raise self._exists(f"it has probes of a sweep over other hook points or settings, at {_listed(foreign)}")
        self._record = record
        record.finished = finished
        self.resumed: tuple[str, ...] = tuple(finished)
        record.write(folder, durable=True)

    @property
    def may_replace(self) -> bool:
        """Whether probes of the sweep's names may be replaced: because that was asked for, or they are its own."""
        return self._overwrite or self._record.is_complete

    @property
    def is_over(self) -> bool:
        """Whether all probes are finished."""
        return len(self._record.finished) == len(self._addresses)

    @property
    def data_digest(self) -> str:
        """Digest of all batches that have come."""
        return data_digest(self._seen)

    def saw(self, digest: str) -> None:
        """Takes the digest of the next batch.

        Raises:
            ProbeExistsError: the sweep of this name was for other data.
        """
        known, index = self._record.batches, len(self._seen)
        self._seen.append(digest)
        if self._record.is_complete and (index >= len(known) or known[index] != digest):
            self._differs(f"batch {index} is not what it was")

    def complete(self) -> None:
        """Is told that all batches have come.

        Raises:
            ProbeExistsError: the sweep of this name was for other data.
        """
        if self._record.is_complete and len(self._seen) < len(self._record.batches):
            self._differs(f"it had {len(self._record.batches)} batches, and now there are {len(self._seen)}")
        if not self._record.is_complete:
            self._record.batches, self._record.is_complete = self._seen, True
            self._record.write(self.folder, durable=True)

    def finish(self, address: str) -> None:
        """Is told that a probe is in the catalog."""
        self._record.finished.append(address)
        self._record.write(self.folder, durable=self.is_over)

    def _differs(self, why: str) -> None:
        if not self._overwrite and self.resumed:
            raise self._exists(f"it was for other data ({why})")
        if self.is_over:
            raise self._exists(f"it was replaced for other data just now ({why})")
        self._record.finished, self._record.batches, self._record.is_complete = [], [], False
        self.resumed = ()

    def _exists(self, why: str) -> ProbeExistsError:
        return ProbeExistsError(
            f"There is a sweep {self._name!r} already, and {why}. A sweep goes on where its name, rows, labels and "
            "settings are the same; choose another name, or say overwrite=True.",
            probe=self._name,
        )


def data_digest(batches: list[str]) -> str:
    """Returns the digest of all rows and labels from those of the batches."""
    return hashlib.blake2b("".join(batches).encode(), digest_size=16).hexdigest()


def _listed(addresses: list[str]) -> str:
    return ", ".join(addresses[:_SHOWN]) + (", ..." if len(addresses) > _SHOWN else "")
