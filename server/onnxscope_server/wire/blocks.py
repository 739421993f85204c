"""Blocks of memory that the server shares with one client on its host: which are in use, and by whom."""

from __future__ import annotations

import fcntl
import functools
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onnxscope.v1.sharing import Record, mapped
from onnxscope_server.domain import Array
from onnxscope_server.result_domain import Destination

# a process may have some 65,000 mappings, and others need some too
MOST_BLOCKS = 16_384
_DESTINATIONS_KEPT = 4 * MOST_BLOCKS
_PAGE_BYTES = 4096
# free memory that stays however much is made beside, and how long other memory may be free then: calls that bring the
# same again and again, also in turns, find theirs
_SPARE_BYTES = 32 << 20
_SPARE_SECONDS = 0.25
# sizes from one power of two to the next: at most an eighth of a block is left over
_STEPS = 8

# kind, number, count and descriptor of a record -> whether it was sent
Tell = Callable[[Record, int, int, int | None], bool]


class Allowance:
    """What the blocks of all clients may take together. Thread-safe.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._block_count = 0
        self.byte_count = 0

    def take(self, byte_count: int) -> bool:
        """Counts a block; returns whether it may be made."""
        with self._lock:
            if self.byte_count + byte_count > self._limit or self._block_count >= MOST_BLOCKS:
                return False
            self.byte_count += byte_count
            self._block_count += 1
            return True

    def give_back(self, byte_count: int) -> None:
        """Counts a block that has gone."""
        with self._lock:
            self.byte_count -= byte_count
            self._block_count -= 1


class Block:
    """A block.

    Attributes:
        number: tells it apart; never used again.
        byte_count: its size.
        memory: its bytes.
        use: the server's use of it; None where no array lies in it.
        is_sent: whether a client was told of what this use wrote.
        is_held: whether the client may still read it.
        sent_count: how often it was sent.
        free_since: when it was last used, `time.monotonic`.
    """

    __slots__ = ("byte_count", "free_since", "is_held", "is_sent", "memory", "number", "sent_count", "use")

    def __init__(self, number: int, byte_count: int, memory: memoryview) -> None:
        self.number = number
        self.byte_count = byte_count
        self.memory = memory
        self.use: _Use | None = None
        self.is_sent = False
        self.is_held = False
        self.sent_count = 0
        self.free_since = 0.0


class _Use(weakref.ref[Array]):
    """An array in a block, which every array made from it keeps alive: its end is the end of the use."""

    __slots__ = ("block", "owner_id")
    block: Block
    owner_id: int


class Blocks:
    """The blocks of one client. Not thread-safe; but what arrays' ends set off may come at any time.

    A block is in use while an array of the server's lies in it, or the client holds it. After that it waits to be used
    again, as memory that was written before costs nothing to write again.

    Args:
        allowance: what all clients share.
        tell: sends a record to the client.
    """

    def __init__(self, allowance: Allowance, tell: Tell) -> None:
        self._allowance = allowance
        self._tell = tell
        self._next = 1
        self._blocks: dict[int, Block] = {}
        # by size and number; which was free first is first
        self._free: dict[int, dict[int, Block]] = {}
        # the number of the block in which a destination was written last
        self._last: dict[Destination, int] = {}
        self._by_owner: dict[int, Block] = {}
        self._ended: deque[_Use] = deque()
        self._is_closed = False

    @property
    def is_empty(self) -> bool:
        """Whether no block is left, and no array in one."""
        return not self._blocks and not self._by_owner

    def reused(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], destination: Destination | None = None
    ) -> Array | None:
        """Returns an array in a block that is free and large enough, or None.

        Args:
            shape: of the array, which has elements.
            dtype: of the array.
            destination: what the array is for: the block in which that was written last comes first.
        """
        if self._ended:
            self.settle()
        free = self._free.get(_size(shape, dtype))
        if not free:
            return None
        block = free.pop(self._last.get(destination, 0), None) if destination is not None else None
        return self._used(free.popitem()[1] if block is None else block, shape, dtype, destination)

    def made(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], destination: Destination | None = None
    ) -> Array | None:
        """Returns an array in a new block; None where there may or can be none. Arguments are as of `reused`."""
        block = self._new(_size(shape, dtype))
        return None if block is None else self._used(block, shape, dtype, destination)

    def lend(self, byte_count: int) -> Block | None:
        """Returns a block that is the client's from now on, to write in; None where there is none."""
        self.settle()
        size = _rounded(byte_count)
        free = self._free.get(size)
        block = free.popitem()[1] if free else self._new(size)
        if block is not None:
            block.is_held = True
        return block

    def find(self, array: Array) -> tuple[Block, int] | None:
        """Returns the block that an array lies in, and the bytes before it there."""
        owner = array
        block = self._by_owner.get(id(array))
        if block is None:
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            block = self._by_owner.get(id(owner))
        if block is None or block.use is None or block.use() is not owner:
            return None
        # what is as large is all of it; asking for addresses takes a while
        return block, 0 if array.nbytes == owner.nbytes else array.ctypes.data - owner.ctypes.data

    def held(self, number: int) -> memoryview | None:
        """Returns the memory of a block that the client holds; None where it does not."""
        block = self._blocks.get(number)
        return block.memory if block is not None and block.is_held else None

    def release(self, number: int, *, for_ever: bool = False) -> bool:
        """Takes the client's word that it lets go of a block, or keeps it; returns whether it held it."""
        block = self._blocks.get(number)
        if block is None or not block.is_held:
            return False
        if for_ever:
            del self._blocks[number]
        self.let_go(block)
        return True

    def let_go(self, block: Block) -> None:
        """Says that the client does not hold a block any more."""
        block.is_held = False
        self._rest(block)

    def settle(self) -> None:
        """Takes note of arrays that have died."""
        while self._ended:
            use = self._ended.popleft()
            if self._by_owner.get(use.owner_id) is use.block:
                del self._by_owner[use.owner_id]
            use.block.use = None
            self._rest(use.block)

    def idle(self, before: float) -> Iterator[Block]:
        """Takes out the blocks that have been free since before a time; memory goes when the caller forgets them."""
        for size, free in self._free.items():
            while (block := next(iter(free.values()), None)) is not None and block.free_since < before:
                if not self._tell(Record.DROPPED, block.number, 0, None):
                    break
                del free[block.number], self._blocks[block.number]
                self._allowance.give_back(size)
                yield block

    def close(self) -> None:
        """Drops all blocks; one in which an array lies goes with the array."""
        self._is_closed = True
        self._free.clear()
        dropped, self._blocks = self._blocks, {}
        for block in dropped.values():
            block.is_held = False
            if block.use is None:
                self._allowance.give_back(block.byte_count)
        self.settle()

    def _used(
        self, block: Block, shape: tuple[int, ...], dtype: np.dtype[Any], destination: Destination | None
    ) -> Array:
        if destination is not None and self._last.get(destination) != block.number:
            if len(self._last) >= _DESTINATIONS_KEPT:
                self._last.clear()
            self._last[destination] = block.number
        owner: Array = np.ndarray(shape, dtype, block.memory)
        use = block.use = _Use(owner, self._ended.append)
        use.block = block
        use.owner_id = id(owner)
        self._by_owner[use.owner_id] = block
        return owner

    def _rest(self, block: Block) -> None:
        if block.use is not None or block.is_held:
            return
        if block.number not in self._blocks:
            self._allowance.give_back(block.byte_count)
            return
        block.is_sent = False
        block.free_since = time.monotonic()
        self._free.setdefault(block.byte_count, {})[block.number] = block

    def _new(self, size: int) -> Block | None:
        self._give_way()
        if self._is_closed or not (self._allowance.take(size) or self._exchange(size)):
            return None
        try:
            memory = self._memory(size)
        except OSError:
            memory = None
        if memory is None:
            self._allowance.give_back(size)
            return None
        block = self._blocks[self._next] = Block(self._next, size, memory)
        self._next += 1
        return block

    def _give_way(self) -> None:
        """Gives up blocks of other sizes, before there is another block, that nobody had a use for of late."""
        free_bytes = sum(size * len(free) for size, free in self._free.items())
        if free_bytes > _SPARE_BYTES:
            for block in self.idle(time.monotonic() - _SPARE_SECONDS):
                free_bytes -= block.byte_count
                if free_bytes <= _SPARE_BYTES:
                    break

    def _memory(self, size: int) -> memoryview | None:
        """Makes the memory of the next block, and tells the client of it."""
        descriptor = os.memfd_create("onnxscope", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            memory = mapped(descriptor, size)
            return memory if self._tell(Record.BLOCK, self._next, size, descriptor) else None
        finally:
            os.close(descriptor)

    def _exchange(self, size: int) -> bool:
        """Gives up free blocks of other sizes for a new one; returns whether that was enough."""
        return any(self._allowance.take(size) for _ in self.idle(math.inf))


@functools.lru_cache(4096)
def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return _rounded(math.prod(shape) * dtype.itemsize)


def _rounded(byte_count: int) -> int:
    """Returns the size of blocks for so many bytes."""
    step = max(_PAGE_BYTES, (1 << (byte_count - 1).bit_length()) // (2 * _STEPS))
    return -(-byte_count // step) * step
