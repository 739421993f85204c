"""What is known of sessions by the shapes of what they run on."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from onnxscope_server.run.session import Session

T = TypeVar("T")
InputShapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
_KEPT = 64


class ByShapes(Generic[T]):
    """Something of each session and shapes of inputs: of a session the newest few, as long as it lives.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Session, OrderedDict[InputShapes, T]] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Number of sessions of which anything is known."""
        return len(self._known)

    def get(self, session: Session, given: InputShapes) -> T | None:
        """Returns what is known; None where nothing is."""
        known = self._known.get(session)
        return None if known is None else known.get(given)

    def put(self, session: Session, given: InputShapes, value: T) -> None:
        """Keeps something, in place of what was known before."""
        known = self._known.setdefault(session, OrderedDict())
        known[given] = value
        while len(known) > _KEPT:
            known.popitem(last=False)

    def forget(self, session: Session) -> None:
        """Forgets all of a session."""
        self._known.pop(session, None)
