"""The cache of sessions, by plan: bounded, each made once however many ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from onnxscope_server.domain import Segment
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Fingerprint, Opening

__all__ = ["Chain", "Sessions"]

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


class Sessions:
    """Chains of sessions by key, the least recently used of which go first; used from one event loop.

    A chain that goes lives on until its last run has ended.

    Args:
        runner: makes sessions in its threads.
        opening: how they are opened.
        max_sessions: how many chains are kept.
        max_bytes: how much memory they may take by their estimates; None for no limit. The newest one is always
            kept.
        fingerprint: reads the file of an optimised graph, for `Chain.cones`.
    """

    def __init__(
        self,
        runner: Runner,
        opening: Opening,
        *,
        max_sessions: int,
        max_bytes: int | None = None,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        self._runner = runner
        self._opening = opening
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._fingerprint = fingerprint
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._making: dict[_Key, _Making] = {}

    def __len__(self) -> int:
        return len(self._kept)

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
        place = (key, exact)
        kept = self._kept.get(place)
        if kept is not None and (kept.chain.keeps_optimised or not keep_optimised):
            self._kept.move_to_end(place)
            return kept.chain
        making = self._making.get(place)
        if making is None or (keep_optimised and not making.keeps_optimised):
            task = asyncio.create_task(self._make(place, digest, build, keep_optimised=keep_optimised))
            making = self._making[place] = _Making(digest, keep_optimised, task)
            task.add_done_callback(_read)
        return await asyncio.shield(making.task)

    def release(self, key: Hashable, *, exact: bool) -> None:
        """Forgets one chain; it lives on until its last run has ended."""
        self._kept.pop((key, exact), None)

    def drop(self, digest: str) -> None:
        """Forgets all chains of a model, those too that are being made."""
        for kept in [place for place, item in self._kept.items() if item.digest == digest]:
            del self._kept[kept]
        for making in [place for place, item in self._making.items() if item.digest == digest]:
            del self._making[making]

    async def _make(
        self, place: _Key, digest: str, build: Callable[[], Sequence[Segment]], *, keep_optimised: bool
    ) -> Chain:
        fingerprint = self._fingerprint if keep_optimised else None

        def work() -> Chain:
            return Chain(build(), self._opening, exact=place[1], fingerprint=fingerprint)

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

    def _shrink(self) -> None:
        while len(self._kept) > 1 and (len(self._kept) > self._max_sessions or self._too_large()):
            self._kept.popitem(last=False)

    def _too_large(self) -> bool:
        total = sum(item.chain.byte_count for item in self._kept.values())
        return self._max_bytes is not None and total > self._max_bytes


def _read(task: asyncio.Task[Chain]) -> None:
    """Reads a task's error, so that it is not reported as forgotten when all who waited have gone."""
    if not task.cancelled():
        task.exception()
