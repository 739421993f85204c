"""The process's heap."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Gives freed memory back to the system, where the C library keeps it and has a way to say so.

    glibc keeps what was freed for itself: making one session may leave as much as its largest weight behind.
    """
    if _trim is not None:
        _trim(0)


_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
