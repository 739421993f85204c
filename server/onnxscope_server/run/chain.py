"""The sessions that serve one plan: a segment each, run one after the other."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxscope_server.catalog.shared_weights import Placed
from onnxscope_server.domain import Output, Reading, Segment
from onnxscope_server.result_domain import ValueKind
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.readings import outputs_read
from onnxscope_server.run.session import Fingerprint, Session

# of a session that may be made twice
_SMALL_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value that a segment brings.

    Attributes:
        kind: as `Result` names it.
        name: of the value.
        reading: how it is read.
        names: the outputs of segments that it is read from.
    """

    kind: ValueKind
    name: str
    reading: Reading
    names: tuple[str, ...]


class Chain:
    """Segments and their sessions. The first session is made at once, the others when they are asked for.

    Every session of a chain is opened in the same way, whenever it is made, and gives the same bits. Threads may share
    it.

    Args:
        segments: in the order in which they run; one or more.
        opening: how their sessions are opened.
        exact: without optimisation.
        fingerprint: reads the files of optimised graphs, for `cones`; None where nobody will ask.
        place: makes a segment share its weights where it can; None for no sharing.
        made: told when a session was made, in its thread, and in how many seconds.

    Attributes:
        segments: in the order in which they run.

    Raises:
        ModelInvalidError: onnxruntime refuses the first segment.
        OutOfMemoryError: there is not enough memory for it.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        opening: Opening,
        *,
        exact: bool,
        fingerprint: Fingerprint | None = None,
        place: Callable[[Segment], Placed | None] | None = None,
        made: Callable[[float], None] | None = None,
    ) -> None:
        self.segments = tuple(segments)
        self._opening = opening
        self._exact = exact
        self._fingerprint = fingerprint
        self._place = place
        self._made = made
        self._sessions: list[Session | None] = [None] * len(segments)
        self._without_threads: Session | None = None
        self._locks = [threading.Lock() for _ in segments]
        self.session(0)

    @property
    def keeps_optimised(self) -> bool:
        """Whether `cones` has an answer."""
        return self._fingerprint is not None

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are made."""
        return [session for session in (*self._sessions, self._without_threads) if session is not None]

    @property
    def node_count(self) -> int:
        """Number of nodes that run."""
        return sum(segment.node_count for segment in self.segments)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model outputs that it computes."""
        return tuple(name for segment in self.segments for name in segment.outputs)

    @functools.cached_property
    def needed_after(self) -> tuple[frozenset[str], ...]:
        """For each segment the names of values that segments behind it need."""
        needed: list[frozenset[str]] = []
        later: set[str] = set()
        for segment, wanted in zip(reversed(self.segments), reversed(self.wanted), strict=True):
            needed.append(frozenset(later))
            later.update(segment.carried, *(one.names for one in wanted))
        return tuple(reversed(needed))

    @functools.cached_property
    def wanted(self) -> tuple[tuple[Wanted, ...], ...]:
        """For each segment what it brings."""
        return tuple(tuple(_wanted(segment)) for segment in self.segments)

    def is_made(self) -> bool:
        """Tells whether all sessions are there."""
        return None not in self._sessions

    def make(self) -> None:
        """Makes the sessions that are missing, one after the other."""
        for index in range(len(self.segments)):
            self.session(index)

    def session(self, index: int) -> Session:
        """Returns a segment's session; makes it in this thread where it is missing.

        Raises:
            ModelInvalidError: onnxruntime refuses the segment.
            OutOfMemoryError: there is not enough memory for it.
        """
        with self._locks[index]:
            session = self._sessions[index]
            if session is None:
                start = time.perf_counter()
                session = self._sessions[index] = self._session(self.segments[index])
                if self._made is not None:
                    self._made(time.perf_counter() - start)
            return session

    def without_threads(self) -> Session | None:
        """Returns a further session of the one segment, which computes in the thread that runs it.

        Returns:
            The session, made in this thread the first time; None where there can't be one, where the first is like
            that, and where it would take much memory of its own.
        """
        opening = self._opening.without_threads
        first = self.session(0)
        if opening is None or len(self.segments) > 1 or first.shared or first.byte_count > _SMALL_BYTES:
            return None
        with self._locks[0]:
            if self._without_threads is None:
                self._without_threads = Session(self.segments[0], opening, exact=self._exact)
            return self._without_threads

    def _session(self, segment: Segment) -> Session:
        placed = self._place(segment) if self._place is not None else None
        return Session(segment, self._opening, exact=self._exact, fingerprint=self._fingerprint, placed=placed)

    def cones(self) -> Mapping[str, Any]:
        """Returns the fingerprints of the model's own outputs, over all segments; makes what sessions are missing."""
        known: dict[str, Any] = {}
        for index in range(len(self.segments)):
            known |= self.session(index).cones(known)
        return known


def _wanted(segment: Segment) -> Iterator[Wanted]:
    outputs = {name: Output(name) for name in segment.outputs}
    kinds: tuple[tuple[ValueKind, Mapping[str, Reading]], ...] = (
        ("activations", segment.captures),
        ("scalings", segment.scalings),
        ("probes", segment.probes),
        ("outputs", outputs),
    )
    for kind, readings in kinds:
        for name, reading in readings.items():
            yield Wanted(kind, name, reading, tuple(outputs_read(reading)))
