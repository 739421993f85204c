"""What probes of several hook points have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Shared:
    """What is measured of the same rows, labels and raw input whatever hook point is probed: once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Hashable, Any] = {}

    def once(self, what: Hashable, measure: Callable[[], T]) -> T:
        """Returns what `measure` has returned for the same thing before, or else does now; others wait for it.

        Args:
            what: names the thing.
            measure: what it raises goes on to the caller, and the next one measures again.
        """
        with self._lock:
            if what not in self._found:
                self._found[what] = measure()
            found: T = self._found[what]
            return found
