"""What to say of a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_NAMES = 5


def closest(name: object, known: Iterable[str], noun: str) -> str:
    """Returns the text of an error: that there is no such name, and the closest ones.

    Args:
        name: what was asked for.
        known: what there is.
        noun: what the names are names of.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=_MAX_NAMES, cutoff=0.4) or names[:_MAX_NAMES]
    listed = ", ".join(map(repr, near))
    return f"no {noun} {name!r} here; " + (f"the closest are {listed}" if names else f"there are no {noun}s at all")
