"""Shards: safetensors files that hold some batches of every hook point, whole or not at all.

A shard is `shard-NUMBER-CHECKSUM.safetensors`; the checksum is of all its bytes, so one that was cut short or changed
is known by its name. The examples of one hook point lie together in it, batch after batch; `__metadata__` says which
batches, and how many examples each has at which hook point.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from types import MappingProxyType

import ml_dtypes
import numpy as np

from onnxscope_server.catalog.durable import PART, sync_folder
from onnxscope_server.domain import Array

METADATA = "__metadata__"
PATTERN = "shard-*.safetensors"
_READ_BYTES = 1 << 20
_NAMES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.uint8): "U8",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint16): "U16",
    np.dtype(np.int16): "I16",
    np.dtype(np.uint32): "U32",
    np.dtype(np.int32): "I32",
    np.dtype(np.uint64): "U64",
    np.dtype(np.int64): "I64",
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float32): "F32",
    np.dtype(np.float64): "F64",
    np.dtype(ml_dtypes.float8_e4m3fn): "F8_E4M3",
    np.dtype(ml_dtypes.float8_e5m2): "F8_E5M2",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
HELD: frozenset[np.dtype[np.generic]] = frozenset(_NAMES)
"""Types that a shard can hold."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a shard: its number, the digest of what the model read, and examples by hook point."""

    index: int
    digest: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a shard has a hook point's examples: their type, features of one, and byte offset of the first."""

    dtype: np.dtype[np.generic]
    feature_count: int
    offset: int

    @property
    def example_bytes(self) -> int:
        """Bytes of one example."""
        return self.dtype.itemsize * self.feature_count


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that is whole."""

    path: Path
    number: int
    batches: tuple[Batch, ...]
    placed: Mapping[str, Placed]
    byte_count: int

    def offsets(self, name: str) -> dict[int, int]:
        """Returns the byte offset of a hook point's first example in each batch, by the batch's index."""
        place = self.placed[name]
        sizes = [batch.counts[name] * place.example_bytes for batch in self.batches]
        starts = itertools.accumulate(sizes[:-1], initial=place.offset)
        return {batch.index: start for batch, start in zip(self.batches, starts, strict=True)}


def write(folder: Path, number: int, batches: Sequence[tuple[int, str, Mapping[str, Array]]]) -> Shard:
    """Writes a shard under a temporary name, syncs it, and makes it visible by one rename.

    Args:
        folder: of the shards.
        number: above those of the shards that are there.
        batches: index, digest and activations [example, feature] by hook point: at least one batch, all with the same
            hook points, types and features, C-contiguous.
    """
    head = _head(batches)
    part = folder / f"shard-{number:06}{PART}"
    checksum, size = 0, 0
    try:
        with part.open("wb", buffering=0) as file:
            arrays = (held[name] for name in batches[0][2] for _, _, held in batches)
            for data in (memoryview(head), *(array.reshape(-1).view(np.uint8).data for array in arrays)):
                checksum = zlib.crc32(data, checksum)
                size += len(data)
                _write(file, data)
            os.fsync(file.fileno())
        path = part.replace(folder / f"shard-{number:06}-{checksum:08x}.safetensors")
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    listed, placed = _parsed(head[8:])
    return Shard(path, number, listed, placed, size)


def read(path: Path) -> Shard | None:
    """Reads what a shard holds; None where it is not whole."""
    try:
        _, number, checksum = path.stem.split("-")
        found, size = 0, 0
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            head = file.read(start - 8) if start <= path.stat().st_size else b""
            file.seek(0)
            while piece := file.read(_READ_BYTES):
                found = zlib.crc32(piece, found)
                size += len(piece)
        if f"{found:08x}" != checksum:
            return None
        batches, placed = _parsed(head)
        return Shard(path, int(number), batches, placed, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _head(batches: Sequence[tuple[int, str, Mapping[str, Array]]]) -> bytes:
    """Returns what stands before the data."""
    held = [
        asdict(Batch(index, digest, {name: len(array) for name, array in arrays.items()}))
        for index, digest, arrays in batches
    ]
    listed: dict[str, object] = {METADATA: {"batches": json.dumps(held)}}
    offset = 0
    for name, first in batches[0][2].items():
        count = sum(len(arrays[name]) for _, _, arrays in batches)
        end = offset + count * first.shape[1] * first.itemsize
        listed[name] = {
            "dtype": _NAMES[first.dtype],
            "shape": [count, first.shape[1]],
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(listed).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(file: FileIO, data: memoryview) -> None:
    """Writes all of it, though the system may take it piece by piece."""
    while data:
        data = data[file.write(data) :]


def _parsed(head: bytes) -> tuple[tuple[Batch, ...], Mapping[str, Placed]]:
    listed = json.loads(head)
    batches = tuple(Batch(**held) for held in json.loads(listed.pop(METADATA)["batches"]))
    start = 8 + len(head)
    placed = {
        name: Placed(_TYPES[told["dtype"]], told["shape"][1], start + told["data_offsets"][0])
        for name, told in listed.items()
    }
    return batches, MappingProxyType(placed)
