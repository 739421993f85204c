"""Memory for arrays that arrive, used again for the next ones when nobody holds the array any more.

Fresh memory costs more than what is copied into it: the system hands it out page by page, each on its first touch.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np

from onnxscope.v1.codec import Array

IDLE_BYTES = 256 << 20
# smaller ones come from memory that malloc keeps itself
_LEAST_BYTES = 128 << 10
_KEPT_BY_MALLOC_BYTES = 31 << 20


class _Given(weakref.ref[Array]):
    """Tells when nobody holds an array any more; the block is what the array was made over."""

    __slots__ = ("block",)
    block: Array


class Blocks:
    """A place to take arrays from.

    Args:
        idle_bytes: memory that may wait for its next use; beyond that the system gets it back, longest idle size first.
    """

    def __init__(self, idle_bytes: int = IDLE_BYTES) -> None:
        self._limit = idle_bytes
        self._idle: dict[int, list[Array]] = {}
        self._idle_bytes = 0
        self._given: dict[int, _Given] = {}
        self._ended: deque[_Given] = deque()
        self._lock = threading.Lock()
        # glibc keeps as much as the largest block that was freed so far: without this one, which nobody touches, it
        # would give the memory of each message back to the system and ask for it again
        np.empty(_KEPT_BY_MALLOC_BYTES, np.uint8)

    @property
    def idle_bytes(self) -> int:
        """Memory that waits for its next use."""
        with self._lock:
            self._take_back()
            return self._idle_bytes

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Returns an array of one's own with arbitrary contents, as `numpy.empty` does."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LEAST_BYTES:
            return np.empty(shape, dtype)
        with self._lock:
            self._take_back()
            blocks = self._idle.get(size)
            if blocks:
                block = blocks.pop()
                self._idle_bytes -= size
            else:
                block = np.empty(size, np.uint8)
            # over a memoryview, because numpy lets every view of it hold this very array, and not the block itself
            given = np.frombuffer(block.data, np.uint8)
            reference = _Given(given, self._ended.append)
            reference.block = block
            self._given[id(reference)] = reference
        return given.view(dtype).reshape(shape)

    def _take_back(self) -> None:
        while self._ended:
            ended = self._ended.popleft()
            del self._given[id(ended)]
            size = ended.block.nbytes
            # to the end: the size that was given back last is kept longest
            blocks = self._idle[size] = self._idle.pop(size, [])
            blocks.append(ended.block)
            self._idle_bytes += size
        while self._idle_bytes > self._limit:
            size = next(iter(self._idle))
            blocks = self._idle[size]
            if blocks:
                blocks.pop()
                self._idle_bytes -= size
            else:
                del self._idle[size]
