"""What waits, by caller; the callers take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Something with rows that has waited since some time."""

    @property
    def rows(self) -> int:
        """How many rows it has."""

    @property
    def since(self) -> float:
        """When it came."""


T = TypeVar("T", bound=Sized)


class Turns(Generic[T]):
    """A bounded queue for each caller, from which one item a caller is taken in turn.

    Attributes:
        rows: of all that waits.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._count = 0
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    @property
    def oldest(self) -> float:
        """When the item came that has waited longest; something must be waiting."""
        return min(queue[0].since for queue in self._queues.values())

    def add(self, caller: str, item: T) -> None:
        """Puts an item behind those of its caller."""
        self._queues.setdefault(caller, deque()).append(item)
        self._count += 1
        self.rows += item.rows

    def remove(self, caller: str, item: T) -> bool:
        """Takes an item out of the middle; tells whether it was there."""
        queue = self._queues.get(caller)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        self._left(item)
        if not queue:
            del self._queues[caller]
        return True

    def pop_of_busiest(self) -> T:
        """Takes out the newest item of the caller with the most items."""
        caller, queue = max(self._queues.items(), key=lambda entry: len(entry[1]))
        item = queue[-1]
        self.remove(caller, item)
        return item

    def take(self, room: int) -> list[T]:
        """Takes out what comes next, one item a caller and round.

        Args:
            room: how many rows all that is taken may have; the first item is taken in any case.

        Returns:
            The items; a caller whose next item finds no room is first the next time.
        """
        taken: list[T] = []
        passed_over = []
        while self._queues and (room > 0 or not taken):
            caller, queue = self._queues.popitem(last=False)
            if taken and queue[0].rows > room:
                passed_over.append((caller, queue))
                continue
            item = queue.popleft()
            self._left(item)
            taken.append(item)
            room -= item.rows
            if queue:
                self._queues[caller] = queue
        for caller, queue in reversed(passed_over):
            self._queues[caller] = queue
            self._queues.move_to_end(caller, last=False)
        return taken

    def _left(self, item: T) -> None:
        self._count -= 1
        self.rows -= item.rows
