"""Activations of one hook point, read from its store as they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Rows
from onnxscope_server.store.shards import Placed

_WINDOW_BYTES = 1 << 20  # most that is read at once
_GAP_BYTES = 1 << 15  # what lies between two examples is read too where that is quicker than a second call


@dataclass(frozen=True, slots=True)
class Segment:
    """Examples that lie together in one file.

    Attributes:
        path: of the file.
        placed: their type and features; the offset is of the first of them.
        count: of examples.
    """

    path: Path
    placed: Placed
    count: int


class StoredRows(Rows):
    """`probe_domain.Rows` of a store; thread-safe.

    It reads and does not map: pages that are mapped count as resident memory for as long as there is room, and these
    are as many as the data set has.

    Args:
        segments: in the order of the examples' numbers.
        feature_count: of each example.
    """

    def __init__(self, segments: Sequence[Segment], feature_count: int) -> None:
        self._segments = tuple(segment for segment in segments if segment.count)
        ends = list(itertools.accumulate((segment.count for segment in self._segments), initial=0))
        self._starts = np.array(ends[:-1], np.int64)
        self._shape = (ends[-1], feature_count)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples and of features."""
        return self._shape

    def take(self, examples: Array) -> Array:
        """Returns some examples, in the order of their numbers `examples` int64 [example].

        They are read in the order in which they lie, neighbours together.

        Returns:
            float32 [example, feature].

        Raises:
            IndexError: there is no such example.
        """
        taken = np.empty((len(examples), self._shape[1]), np.float32)
        if not taken.size:
            return taken
        order = np.argsort(examples, kind="stable")
        numbers = np.asarray(examples, np.int64)[order]
        if numbers[0] < 0 or numbers[-1] >= self._shape[0]:
            raise IndexError(f"examples {numbers[0]} to {numbers[-1]} of {self._shape[0]} are asked for")
        segment_of = np.searchsorted(self._starts, numbers, side="right") - 1
        within = numbers - self._starts[segment_of]
        for span in _spans(np.flatnonzero(np.diff(segment_of)) + 1, len(numbers)):
            segment = self._segments[segment_of[span.start]]
            with segment.path.open("rb", buffering=0) as file:
                _read(file, segment.placed, within[span], order[span], taken)
        return taken


def _read(file: FileIO, placed: Placed, within: Array, order: Array, taken: Array) -> None:
    """Reads examples of one segment, whose numbers `within` it ascend, to the places `order` of `taken`."""
    example_bytes = placed.example_bytes
    window = max(1, _WINDOW_BYTES // example_bytes)
    scratch = np.empty(min(window, int(within[-1] - within[0]) + 1) * example_bytes, np.uint8)
    parted = (np.diff(within) > 1 + _GAP_BYTES // example_bytes) | (np.diff((within - within[0]) // window) > 0)
    for span in _spans(np.flatnonzero(parted) + 1, len(within)):
        first, last = int(within[span.start]), int(within[span.stop - 1])
        buffer = scratch[: (last - first + 1) * example_bytes]
        file.seek(placed.offset + first * example_bytes)
        if _fill(file, buffer.data) < len(buffer):
            raise OSError(f"{file.name} was cut short while it was read")
        read = buffer.view(placed.dtype).reshape(-1, placed.feature_count)
        taken[order[span]] = read[within[span] - first]


def _fill(file: FileIO, buffer: memoryview) -> int:
    """Reads until a buffer is full; returns the bytes that came."""
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            break
        done += count
    return done


def _spans(cuts: Array, count: int) -> Iterator[slice]:
    return itertools.starmap(slice, itertools.pairwise([0, *cuts.tolist(), count]))
