"""Runs that take less time than a thread would need to take them over: the event loop does those itself.

They wake no other threads either, which on busy cores may not come for milliseconds: another session of the same
segment computes them in the loop's thread alone, if it gives the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxscope_server.domain import Array, Value
from onnxscope_server.pipeline.by_shapes import ByShapes, InputShapes
from onnxscope_server.result_domain import Result
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.session import Feeds, Session

# a thread that takes over, and the loop after it, cost as much or more
_MOST_SECONDS = 200e-6
# above that the result is best written where the caller wants it, which may mean making that memory
_MOST_BYTES = 64 << 10
_RUNS = 4


def shapes_of(inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> InputShapes | None:
    """Returns the shapes of what a call brings; None where anything is no array of numbers."""
    values = (*inputs.items(), *masks.items())
    if not all(isinstance(value, np.ndarray) and value.dtype.kind not in "OUST" for _, value in values):
        return None
    return tuple((name, value.shape) for name, value in values if isinstance(value, np.ndarray))


class RunKind:
    """What is known of the runs of one session on inputs of the same shapes.

    Attributes:
        count: how many of the last runs were brief.
        is_looked_for: whether a session without threads was looked for.
        single: a session that does a brief run without other threads; None where the first one is to do it.
    """

    __slots__ = ("count", "is_looked_for", "single")

    def __init__(self) -> None:
        self.count = 0
        self.is_looked_for = False
        self.single: Session | None = None

    @property
    def is_brief(self) -> bool:
        """Whether the next run will be brief, as far as one can know."""
        return self.count >= _RUNS

    def learn(self, *, is_brief: bool) -> None:
        """Keeps whether a run was brief."""
        # the loop may have been held up from outside: a thread, whose clock can tell, has the next one
        self.count = min(_RUNS, self.count + 1) if is_brief else _RUNS - 1 if self.count == _RUNS else 0


class BriefRuns:
    """Knows which runs are brief: by the session and the shapes of what it runs on.

    A run is when the last few of the kind were. After one that was not, a thread does the next, and where that is not
    brief either it takes a few again. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: ByShapes[RunKind] = ByShapes()

    def kind(self, session: Session, given: InputShapes) -> RunKind:
        """Returns what is known of a kind of run."""
        with self._lock:
            found = self._kinds.get(session, given)
            if found is None:
                found = RunKind()
                self._kinds.put(session, given, found)
            return found

    def timed(
        self,
        kind: RunKind,
        is_steady: Callable[[], bool],
        work: Callable[[Any], Result],
        clock: Callable[[], float],
    ) -> Callable[[Any], Result]:
        """Returns the work of one run, which then learns how long it took.

        Args:
            kind: of the run.
            is_steady: tells whether shapes alone say how long runs take; asked in the thread of the first brief run.
            work: takes the options of the run.
            clock: gives seconds.
        """

        def run(options: Any) -> Result:
            start = clock()
            result = work(options)
            is_quick = clock() - start <= _MOST_SECONDS
            is_brief = is_quick and _is_small(result) and is_steady()
            with self._lock:
                kind.learn(is_brief=is_brief)
            return result

        return run

    def wants_single(self, kind: RunKind) -> bool:
        """Tells whether it is time for `find_single`: once for each kind of run."""
        if kind.is_looked_for:
            return False
        with self._lock:
            wants, kind.is_looked_for = not kind.is_looked_for, True
            return wants

    def find_single(self, chain: Chain, kind: RunKind, feeds: Feeds) -> None:
        """Makes the session of a kind that needs no other threads, and keeps it where it gives the same bits.

        Args:
            chain: of one segment.
            kind: of the runs.
            feeds: of such a run.
        """
        session, other = chain.session(0), chain.without_threads()
        if other is None:
            return
        names = list(session.outputs)
        if _same_bits(session.run(feeds, names), other.run(feeds, names)):
            kind.single = other


def _same_bits(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    pairs = [(value, other[name]) for name, value in one.items()]
    return all(
        isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in pairs
    )


def _is_small(result: Result) -> bool:
    return result.byte_count <= _MOST_BYTES
