"""The cache of sessions, by plan: bounded, each made once however many ask for it at the same time."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from onnxscope_server.domain import Segment
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.heap import trim
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Fingerprint
from onnxscope_server.run.sharing import Sharing

__all__ = ["Chain", "Sessions"]

_TIDY_SECONDS = 1.0
_Key = tuple[Hashable, bool]


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: str
    chain: Chain


@dataclass(frozen=True, slots=True)
class _Making:
    digest: str
    keeps_optimised: bool
    task: asyncio.Task[Chain]


@dataclass(slots=True)
class Counts:
    """What happened to a cache since it was made.

    Attributes:
        hits: how often a chain was there that somebody asked for.
        misses: how often it had to be made, or was being made.
        evictions: chains that went because there were too many, or too large ones.
        made: sessions.
        making_seconds: that making them took.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    made: int = 0
    making_seconds: float = 0.0


class Sessions:
    """Chains of sessions by key, the least recently used of which go first; used from one event loop.

    A chain that goes lives on until its last run has ended.

    Args:
        runner: makes sessions in its threads.
        opening: how they are opened.
        max_sessions: how many chains are kept.
        max_bytes: how much memory they may take by their estimates, weights that several share counted once; None for
            no limit. The newest one is always kept.
        fingerprint: reads the file of an optimised graph, for `Chain.cones`.
        sharing: lets the sessions of a model share its weights; None where each has its own.

    Attributes:
        counts: what happened so far.
    """

    def __init__(
        self,
        runner: Runner,
        opening: Opening,
        *,
        max_sessions: int,
        max_bytes: int | None = None,
        fingerprint: Fingerprint | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.counts = Counts()
        self._runner = runner
        self._opening = opening
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._fingerprint = fingerprint
        self._sharing = sharing
        self._tidying: asyncio.TimerHandle | None = None
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._making: dict[_Key, _Making] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def session_count(self) -> int:
        """Number of onnxruntime sessions; a chain has one or more."""
        return sum(len(item.chain.sessions) for item in self._kept.values())

    @property
    def byte_count(self) -> int:
        """Estimate of their memory; weights that several share count once."""
        own = 0
        shared: dict[Hashable, int] = {}
        for item in self._kept.values():
            for session in item.chain.sessions:
                own += session.byte_count
                shared |= {(item.digest, weight): size for weight, size in session.shared.items()}
        return own + sum(shared.values())

    async def get(
        self,
        key: Hashable,
        digest: str,
        build: Callable[[], Sequence[Segment]],
        *,
        exact: bool,
        keep_optimised: bool = False,
    ) -> Chain:
        """Returns the chain of a key; makes it where there is none.

        Who asks while it is made waits for it and shares its failure; a failure is not kept. A caller that is
        cancelled takes nothing from the others.

        Args:
            key: equal keys get the same chain, per value of `exact`.
            digest: of the model, for `drop`.
            build: makes the segments; runs in a thread.
            exact: without optimisation.
            keep_optimised: keep the optimised graphs until `Chain.cones` has read them.

        Raises:
            ModelInvalidError: onnxruntime refuses the first segment.
            OutOfMemoryError: there is not enough memory for it.
            LimitExceededError: too much work waits already.
        """
        chain = self.at_hand(key, exact=exact, keep_optimised=keep_optimised)
        if chain is not None:
            return chain
        place = (key, exact)
        self.counts.misses += 1
        making = self._making.get(place)
        if making is None or (keep_optimised and not making.keeps_optimised):
            task = asyncio.create_task(self._make(place, digest, build, keep_optimised=keep_optimised))
            making = self._making[place] = _Making(digest, keep_optimised, task)
            task.add_done_callback(_read)
        return await asyncio.shield(making.task)

    def at_hand(self, key: Hashable, *, exact: bool, keep_optimised: bool = False) -> Chain | None:
        """Does what `get` does where the chain is there; None where it has to be made."""
        place = (key, exact)
        kept = self._kept.get(place)
        if kept is None or (keep_optimised and not kept.chain.keeps_optimised):
            return None
        self._kept.move_to_end(place)
        self.counts.hits += 1
        return kept.chain

    def release(self, key: Hashable, *, exact: bool) -> None:
        """Forgets one chain; it lives on until its last run has ended."""
        self._kept.pop((key, exact), None)

    async def prepare(self, digest: str) -> None:
        """Makes the weights of a model ready to be shared, so that its first chain need not wait for that."""
        if self._sharing is not None:
            await self._runner.call(self._sharing.prepare, digest)
            self._tidy()

    async def drop(self, digest: str) -> None:
        """Forgets all chains of a model that is gone, those too that are being made, and its shared weights."""
        for kept in [place for place, item in self._kept.items() if item.digest == digest]:
            del self._kept[kept]
        for making in [place for place, item in self._making.items() if item.digest == digest]:
            del self._making[making]
        if self._sharing is not None:
            await self._runner.call(self._sharing.forget, digest)
        self._tidy()

    async def _make(
        self, place: _Key, digest: str, build: Callable[[], Sequence[Segment]], *, keep_optimised: bool
    ) -> Chain:
        loop, exact = asyncio.get_running_loop(), place[1]
        share = functools.partial(self._sharing.placed, digest, exact=exact) if self._sharing is not None else None

        def made(seconds: float) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._made, seconds)

        def work() -> Chain:
            return Chain(
                build(),
                self._opening,
                exact=exact,
                fingerprint=self._fingerprint if keep_optimised else None,
                place=share,
                made=made,
            )

        task = asyncio.current_task()
        try:
            chain = await self._runner.call(work)
            making = self._making.get(place)
            if making is not None and making.task is task:
                self._kept[place] = _Kept(digest, chain)
                self._kept.move_to_end(place)
                self._shrink()
            return chain
        finally:
            making = self._making.get(place)
            if making is not None and making.task is task:
                del self._making[place]

    def _made(self, seconds: float) -> None:
        self.counts.made += 1
        self.counts.making_seconds += seconds
        self._shrink()
        self._tidy()

    def _tidy(self) -> None:
        """Gives freed memory back in a while: making the next session is much faster where it is still there."""
        if self._tidying is not None:
            self._tidying.cancel()
        loop = asyncio.get_running_loop()
        self._tidying = loop.call_later(_TIDY_SECONDS, loop.run_in_executor, None, trim)

    def _shrink(self) -> None:
        while len(self._kept) > 1 and (len(self._kept) > self._max_sessions or self._is_too_large):
            self._kept.popitem(last=False)
            self.counts.evictions += 1

    @property
    def _is_too_large(self) -> bool:
        return self._max_bytes is not None and self.byte_count > self._max_bytes


def _read(task: asyncio.Task[Chain]) -> None:
    """Reads a task's error, so that it is not reported as forgotten when all who waited have gone."""
    if not task.cancelled():
        task.exception()
