"""Repetitions in turns: timings drift by the minute, the ratios of what ran side by side do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")
# after a run onnxruntime's threads spin for a while: on few cores the next contender would pay for that
_REST_SECONDS = 0.08


def interleaved(contenders: Mapping[str, Callable[[], T]], *, rounds: int, warmups: int = 3) -> dict[str, list[T]]:
    """Lets contenders take turns; who begins changes from round to round.

    Args:
        contenders: each a function that does the work once and returns what it measured.
        rounds: how often each has its turn.
        warmups: rounds before these that do not count.

    Returns:
        What each measured, by round.
    """
    names = list(contenders)
    found: dict[str, list[T]] = {name: [] for name in names}
    for turn in range(-warmups, rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            time.sleep(_REST_SECONDS)
            measured = contenders[name]()
            if turn >= 0:
                found[name].append(measured)
    return found


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Returns a contender that takes the seconds until the result is there; letting go of it is not counted."""

    def measure() -> float:
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        del result
        return seconds

    return measure
