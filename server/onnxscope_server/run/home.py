"""The core that onnxruntime leaves to the thread that runs a session.

With as many threads as there are cores, onnxruntime pins its own to all but the first. A thread that runs a session on
one of these shares it with the thread that it waits for, until the system moves it, which takes milliseconds: runs then
take up to twice as long, now and then.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SIBLINGS = Path("/sys/devices/system/cpu")


class Home:
    """Keeps one run at a time on that core; those beside it go wherever the system puts them.

    Args:
        processors: of the core; none where runs have no such core.
    """

    def __init__(self, processors: Collection[int] = ()) -> None:
        self._processors = frozenset(processors)
        self._lock = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keeps the thread that calls at home within the block, if nobody else is there."""
        if not self._processors or not self._lock.acquire(blocking=False):
            yield
            return
        try:
            before = os.sched_getaffinity(0)
            # a container may take processors away at any time
            with suppress(OSError):
                os.sched_setaffinity(0, self._processors)
            try:
                yield
            finally:
                with suppress(OSError):
                    os.sched_setaffinity(0, before)
        finally:
            self._lock.release()


def first_core() -> frozenset[int]:
    """Returns the processors of the core that onnxruntime counts first; none where nobody knows or it is alone."""
    # elsewhere onnxruntime may count the cores in another order, large ones first
    if not hasattr(os, "sched_setaffinity") or platform.machine() != "x86_64":
        return frozenset()
    mine = os.sched_getaffinity(0)
    first = min(mine)
    try:
        listed = (_SIBLINGS / f"cpu{first}" / "topology" / "thread_siblings_list").read_text()
        found = frozenset(_numbers(listed)) & mine
    except (OSError, ValueError):
        found = frozenset({first})
    return found if found < mine else frozenset()


def _numbers(listed: str) -> Iterator[int]:
    """Yields the numbers of a list as the kernel writes it: "0,64" or "0-1"."""
    for part in listed.strip().split(","):
        start, _, end = part.partition("-")
        yield from range(int(start), int(end or start) + 1)
