"""Where a sweep stands: what it keeps its probes under, what it has finished, and whether it can be gone on with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from onnxscope_server.catalog.probes import Probes, check_name
from onnxscope_server.errors import ProbeExistsError
from onnxscope_server.pipeline.probing.records import Ledger, data_digest
from onnxscope_server.pipeline.probing.sweep_folders import SweepFolders
from onnxscope_server.pipeline.probing.targets import Target
from onnxscope_server.probe_domain import KeptProbe, ProbeSpec


class Sweep:
    """One sweep; only of one with a name is there something to go on with.

    Args:
        spec: what was asked for.
        target: what is probed.
        probes: where probes are kept.
        folders: of all sweeps.

    Attributes:
        names: what each probe is kept under, by address.

    Raises:
        ProbeExistsError: probes of these names are of another sweep.
        ModelReadOnlyError: one of them lies in the models folder.
        ValueInvalidError: a name that is none.
    """

    def __init__(self, spec: ProbeSpec, target: Target, probes: Probes, folders: SweepFolders) -> None:
        name = spec.name or f"sweep-{secrets.token_hex(4)}"
        self.names: Mapping[str, str] = {place.address: f"{name}/{place.address}" for place in target.places}
        self._target = target
        self._probes = probes
        self._digests: list[str] = []
        self._ledger: Ledger | None = None
        if spec.name:
            check_name(spec.name)
            taken = {address: self._is_taken(name) for address, name in self.names.items()}
            folder = folders.of(target.digest, spec.name)
            self._ledger = Ledger(folder, spec.name, digest_of(spec, target), taken, overwrite=spec.overwrite)

    @property
    def folder(self) -> Path | None:
        """What it can be gone on with lies there; None without a name."""
        return self._ledger.folder if self._ledger else None

    @property
    def resumed(self) -> tuple[str, ...]:
        """Addresses that an earlier run of it has finished."""
        return self._ledger.resumed if self._ledger else ()

    @property
    def is_over(self) -> bool:
        """Whether all probes are finished, as far as it is recorded."""
        return self._ledger is not None and self._ledger.is_over

    @property
    def data_digest(self) -> str:
        """Digest of all rows and labels."""
        return data_digest(self._digests)

    def saw(self, digest: str) -> None:
        """Takes the digest of the next batch.

        Raises:
            ProbeExistsError: the sweep of this name was for other data.
        """
        self._digests.append(digest)
        if self._ledger is not None:
            self._ledger.saw(digest)

    def complete(self) -> None:
        """Is told that all batches have come.

        Raises:
            ProbeExistsError: the sweep of this name was for other data.
        """
        if self._ledger is not None:
            self._ledger.complete()

    def kept(self, address: str) -> KeptProbe:
        """Returns a probe that is finished."""
        return self._probes.get(self._target.digest, self.names[address])

    def keep(self, probe: KeptProbe) -> None:
        """Keeps a probe in the catalog."""
        may_replace = self._ledger is not None and self._ledger.may_replace
        self._probes.put(self._target.digest, probe, overwrite=may_replace)

    def finish(self, probe: KeptProbe) -> None:
        """Is told that a probe was kept."""
        if self._ledger is not None:
            self._ledger.finish(probe.info.address)

    def _is_taken(self, name: str) -> bool:
        try:
            self._probes.check_free(self._target.digest, name)
        except ProbeExistsError:
            self._probes.check_free(self._target.digest, name, overwrite=True)
            return True
        return False


def digest_of(spec: ProbeSpec, target: Target) -> str:
    """Returns a digest of all that a sweep was asked for but its name and rows."""
    asked = replace(spec, name="", model="", version="", overwrite=False, selectors=(), reductions=())
    weight = spec.class_weight
    told = (
        target.digest,
        target.places,
        replace(asked, params={}, class_weight=None),
        sorted(spec.params.items()),
        weight if weight is None or isinstance(weight, str) else sorted(weight.items(), key=repr),
    )
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()
