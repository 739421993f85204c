"""A store of activations on disk: what one pass of a model over a data set brought, at many hook points.

    lock                                    held while a process uses the store
    manifest.json                           of which format and for which specification the shards are
    shard-NUMBER-CHECKSUM.safetensors       some batches, all hook points; see shards.py

Each shard says itself which batches it holds, and becomes visible by one rename: nothing else has to be written for a
batch to be whole, so a process may be killed at any moment. A later shard's batch stands for an earlier one's of the
same number.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxscope_server.catalog.durable import PART, is_full, lock_folder, write_whole
from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError, LimitExceededError, UnavailableError
from onnxscope_server.store import shards
from onnxscope_server.store.rows import Segment, StoredRows
from onnxscope_server.store.shards import Batch, Shard

_logger = logging.getLogger(__name__)
_FORMAT = 1
_SHARD_BYTES = 64 << 20
_MANIFEST_FILE = "manifest.json"
_SETTING = "probe_store_bytes"


class ActivationStore:
    """Activations of one specification in a folder of their own; thread-safe.

    What `put` takes is buffered in memory up to a shard, and then written.

    Args:
        folder: made where it is missing.
        spec_digest: of all that says what the activations are (model, hook points, reductions ...). What the folder
            holds for another is removed.
        max_bytes: that the store may take on disk.
        shard_bytes: of a shard, unless a single batch brings more.

    Raises:
        UnavailableError: another process, or another store of this one, uses the folder.
    """

    def __init__(self, folder: Path, spec_digest: str, max_bytes: int, *, shard_bytes: int = _SHARD_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._shard_bytes = shard_bytes
        self._guard = threading.RLock()
        self._waiting: dict[int, tuple[str, Mapping[str, Array]]] = {}
        self._waiting_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder)
        if lock is None:
            raise UnavailableError(
                f"The activations in {str(folder)!r} are in use by another fit or sweep. Wait for that one or cancel "
                "it, or give this one another name.",
                target=str(folder),
            )
        self._lock: int | None = lock
        try:
            self._shards = self._opened(spec_digest)
            self._number = max((shard.number for shard in self._shards), default=0)
            self._batches: dict[int, tuple[Shard, Batch]] = {}
            for shard in self._shards:
                self._batches.update((batch.index, (shard, batch)) for batch in shard.batches)
            self._drop_replaced()
        except BaseException:
            self.close()
            raise

    @property
    def byte_count(self) -> int:
        """Bytes on disk and waiting for it."""
        with self._guard:
            return sum(shard.byte_count for shard in self._shards) + self._waiting_bytes

    def has(self, batch_index: int, batch_digest: str) -> bool:
        """Tells whether a batch is there, of inputs that have this digest; so also after `put`, before `flush`."""
        with self._guard:
            if batch_index in self._waiting:
                return self._waiting[batch_index][0] == batch_digest
            return batch_index in self._batches and self._batches[batch_index][1].digest == batch_digest

    def put(self, batch_index: int, batch_digest: str, activations: Mapping[str, Array]) -> None:
        """Takes a batch, instead of what was there under its number. It survives the process once it is flushed.

        Args:
            batch_index: number of the batch in the data set, 0 ...
            batch_digest: of the batch's inputs.
            activations: by hook point [example, feature], of any number type; copied. What safetensors has no type for
                is kept as float32.

        Raises:
            DataInvalidError: other hook points, types or features than the batches before.
            LimitExceededError: the store would grow beyond `max_bytes`, or the disk is full.
        """
        with self._guard:
            batch = {name: _kept(name, array) for name, array in activations.items()}
            self._check_alike(batch)
            size = sum(array.nbytes for array in batch.values())
            got = self.byte_count + size
            if got > self._max_bytes:
                raise LimitExceededError(
                    f"The activations need more than the {self._max_bytes} bytes of disk that {_SETTING} allows. "
                    "Reduce them in the graph (reduce=), choose fewer hook points or rows, or start the server with a "
                    f"larger --{_SETTING.replace('_', '-')}.",
                    setting=_SETTING,
                    limit=str(self._max_bytes),
                    got=str(got),
                )
            if self._waiting_bytes + size > self._shard_bytes or batch_index in self._waiting:
                self.flush()
            self._waiting[batch_index] = (batch_digest, batch)
            self._waiting_bytes += size
            if self._waiting_bytes >= self._shard_bytes:
                self.flush()

    def flush(self) -> None:
        """Writes what waits, durably.

        Raises:
            LimitExceededError: the disk is full.
        """
        with self._guard:
            if not self._waiting:
                return
            batches = [(index, digest, arrays) for index, (digest, arrays) in sorted(self._waiting.items())]
            try:
                shard = shards.write(self._folder, self._number + 1, batches)
            except OSError as error:
                if not is_full(error):
                    raise
                raise LimitExceededError(
                    f"The disk that holds {str(self._folder)!r} is full. Reduce activations in the graph (reduce=), "
                    "choose fewer hook points or rows, or give the server a larger disk for --data.",
                    setting="data",
                    limit="the disk",
                    got=str(self._waiting_bytes),
                ) from error
            self._waiting, self._waiting_bytes = {}, 0
            self._number = shard.number
            self._shards.append(shard)
            self._batches.update((batch.index, (shard, batch)) for batch in shard.batches)
            self._drop_replaced()

    def truncate(self, batch_count: int) -> None:
        """Forgets batches numbered `batch_count` and above, which an earlier, longer pass left."""
        with self._guard:
            self.flush()
            self._batches = {index: place for index, place in self._batches.items() if index < batch_count}
            self._drop_replaced()

    def rows(self, name: str) -> StoredRows:
        """Returns a hook point's activations, flushed before: in the order of the batches' numbers.

        They stay as they are while batches are added, and may be read until one is replaced or all are deleted.

        Raises:
            DataInvalidError: the store has no such hook point.
        """
        with self._guard:
            self.flush()
            places = [self._batches[index] for index in sorted(self._batches)]
            if not places or name not in places[0][0].placed:
                raise DataInvalidError(
                    f"There are no activations of {name!r}: the data set is empty, or the pass did not ask for it.",
                    detail=name,
                )
            return StoredRows(list(_joined(places, name)), places[0][0].placed[name].feature_count)

    def close(self) -> None:
        """Lets another process have the folder; what was not flushed is lost. May be called again."""
        with self._guard:
            self._waiting, self._waiting_bytes = {}, 0
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def delete(self) -> None:
        """Removes the folder and closes the store."""
        with self._guard:
            if self._lock is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self.close()

    def _opened(self, spec_digest: str) -> list[Shard]:
        """Returns the whole shards of a specification, by number; everything else in the folder goes."""
        for part in self._folder.glob(f"*{PART}"):
            part.unlink()
        manifest = {"format": _FORMAT, "spec_digest": spec_digest}
        same = _read_manifest(self._folder / _MANIFEST_FILE) == manifest
        kept = []
        for path in sorted(self._folder.glob(shards.PATTERN)):
            shard = shards.read(path) if same else None
            if shard is None:
                path.unlink()
                if same:
                    _logger.warning("%s is damaged and is removed: its batches are computed again", path)
            else:
                kept.append(shard)
        if not same:
            data = json.dumps(manifest, indent=1).encode()
            write_whole(self._folder / _MANIFEST_FILE, data, "Give it a larger one.", durable=True)
        return kept

    def _drop_replaced(self) -> None:
        """Removes shards of which no batch counts any more."""
        counting = {shard.number for shard, _ in self._batches.values()}
        for shard in self._shards:
            if shard.number not in counting:
                shard.path.unlink(missing_ok=True)
        self._shards = [shard for shard in self._shards if shard.number in counting]

    def _check_alike(self, batch: Mapping[str, Array]) -> None:
        """Refuses a batch that is not of the same hook points, types and features as those before."""
        if self._waiting:
            before = {name: _form(array) for name, array in next(iter(self._waiting.values()))[1].items()}
        elif self._batches:
            placed = next(iter(self._batches.values()))[0].placed
            before = {name: (place.dtype, place.feature_count) for name, place in placed.items()}
        else:
            return
        now = {name: _form(array) for name, array in batch.items()}
        if now != before:
            name = next(name for name in (*now, *before) if now.get(name) != before.get(name))
            raise DataInvalidError(
                f"Activations of {name!r} differ from batch to batch in type or number of features, or are missing "
                "from some: reduce them to a fixed size (reduce=).",
                detail=name,
            )


def _form(array: Array) -> tuple[np.dtype[np.generic], int]:
    return array.dtype, array.shape[1]


def _kept(name: str, array: Array) -> Array:
    """Returns a copy of activations as a shard can hold them."""
    rank = 2
    number = array.dtype.kind in "biuf" or array.dtype.kind == "V"  # ml_dtypes' are of kind V
    if array.ndim != rank or not number or name == shards.METADATA:
        raise DataInvalidError(
            f"Activations of {name!r} are {array.dtype} of shape {list(array.shape)}: a probe needs numbers [example, "
            "feature].",
            detail=name,
        )
    return np.array(array, dtype=array.dtype if array.dtype in shards.HELD else np.float32, order="C")


def _joined(places: list[tuple[Shard, Batch]], name: str) -> Iterator[Segment]:
    """Yields where the batches of a hook point lie; batches that follow one another in a shard are one segment."""
    offsets = {shard.number: shard.offsets(name) for shard, _ in places}
    segment: Segment | None = None
    for shard, batch in places:
        place, offset, count = shard.placed[name], offsets[shard.number][batch.index], batch.counts[name]
        if segment and segment.path == shard.path and _end(segment) == offset:
            segment = replace(segment, count=segment.count + count)
            continue
        if segment:
            yield segment
        segment = Segment(shard.path, replace(place, offset=offset), count)
    if segment:
        yield segment


def _end(segment: Segment) -> int:
    return segment.placed.offset + segment.count * segment.placed.example_bytes


def _read_manifest(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
