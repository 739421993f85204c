"""How far a run over rows has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from onnxscope.errors import ValueInvalidError

Progress = Callable[[int, int | None], None]

_WIDTH = 30
_SECONDS = 0.1


def of(progress: Any) -> Progress:
    """Returns what is to be told the number of rows done, and of all, None where it is unknown.

    Args:
        progress: None or False for silence, True for a bar on stderr where that is a terminal, or a
            function of the two numbers.

    Raises:
        ValueInvalidError: it is something else.
    """
    if callable(progress):
        told: Progress = progress
        return told
    if progress is True and sys.stderr.isatty():
        return Bar(sys.stderr)
    if progress is None or isinstance(progress, bool):
        return _nothing
    raise ValueInvalidError(f"progress is True, None or a function, not {progress!r}")


class Staged:
    """Progress of work that has several stages.

    Args:
        tell: is told the stage, how much of it is done and how much there is, None where that is unknown.
        end: is called when the work is over, whatever came of it.
    """

    def __init__(self, tell: Callable[[str, int, int | None], None], end: Callable[[], None] = lambda: None) -> None:
        self.tell = tell
        self.end = end


def staged(progress: Any, first: str) -> Staged:
    """Returns what is to be told how far each stage has come.

    Args:
        progress: as `of`, whose functions are told of rows alone; or a `Staged`.
        first: the stage that goes over the rows.
    """
    if isinstance(progress, Staged):
        return progress
    tell = of(progress)
    if not isinstance(tell, Bar):
        return Staged(lambda stage, done, total: tell(done, total) if stage == first else None)
    return Staged(
        lambda stage, done, total: tell.show(stage, done, total, "rows" if stage == first else "hook points"),
        tell.clear,
    )


class Bar:
    """One line that is written over and over.

    Args:
        out: where it is written.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next = 0.0
        self._stage = ""

    def __call__(self, done: int, total: int | None) -> None:
        """Writes the line, ten times a second at most."""
        self.show("", done, total, "rows")

    def show(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """Writes the line of a stage, ten times a second at most."""
        if stage != self._stage:
            self._stage, self._next = stage, 0.0
        name = f"{stage}  " if stage else ""
        is_last = total is not None and done >= total and not stage
        now = time.monotonic()
        if now < self._next and not is_last:
            return
        self._next = now + _SECONDS
        if total:
            filled = min(_WIDTH, _WIDTH * done // total)
            line = f"{name}{'█' * filled}{'░' * (_WIDTH - filled)} {done} of {total} {unit}"
        else:
            line = f"{name}{done} {unit}"
        self._out.write(f"\r{line}\x1b[K" + ("\n" if is_last else ""))
        self._out.flush()

    def clear(self) -> None:
        """Takes the line away."""
        self._out.write("\r\x1b[K")
        self._out.flush()


def _nothing(done: int, total: int | None) -> None:
    """Says nothing."""
