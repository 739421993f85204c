"""What is measured and what came out: figures with their targets, spreads, outcomes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Role = Literal["limit", "onnxscope", "peer"]
Unit = Literal["s", "B", "1/s", "x", "MiB"]
_SLACK = 0.3


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio that has a target.

    Attributes:
        name: to ask for it by.
        work: what is measured, in words.
        target: to reach.
        at_most: whether the target is an upper bound; a lower one otherwise.
        unit: "x" for a ratio; what has none is measured for itself.
        slack: share of the bound by which CI lets the figure be worse.
        reached: what it came to where the target is missed, on two fast cores: then that is CI's bound, so that it gets
            no worse unseen. None where the target is the bound.
    """

    name: str
    work: str
    target: float
    at_most: bool = True
    unit: Unit = "x"
    slack: float = _SLACK
    reached: float | None = None

    @property
    def bound(self) -> float:
        """What CI compares with."""
        return self.target if self.reached is None else self.reached

    def is_met(self, value: float) -> bool:
        """Tells whether the target is reached."""
        return value <= self.target if self.at_most else value >= self.target

    def is_failed(self, value: float) -> bool:
        """Tells whether a value is worse than the bound by more than the slack."""
        if self.at_most:
            return value > self.bound * (1 + self.slack)
        return value < self.bound * (1 - self.slack)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some repetitions, between their quartiles."""

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Sums repetitions up; at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high, len(values))

    @classmethod
    def of_ratios(cls, tops: Sequence[float], bottoms: Sequence[float]) -> Self:
        """Sums up the ratios of each round: what slows a whole round down, slows both of its sides."""
        return cls.of([top / bottom for top, bottom in zip(tops, bottoms, strict=True)])


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that were measured side by side."""

    label: str
    role: Role
    spread: Spread
    unit: Unit = "s"


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its value, and what it is the ratio of."""

    figure: Figure
    value: Spread
    sides: tuple[Side, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A figure without a value. `is_failure` where it should have one."""

    figure: Figure
    reason: str
    is_failure: bool = False


Outcome = Measured | NotMeasured


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share.

    Attributes:
        cache: folder for models, environments and results.
        short: whether this is the form that CI runs.
    """

    cache: Path
    short: bool = False

    def rounds(self, whole: int, short: int = 7) -> int:
        """Returns how often to repeat."""
        return short if self.short else whole


@dataclass(frozen=True, slots=True)
class Measurement:
    """A run that gives one figure or several.

    Attributes:
        figures: what it gives.
        measure: measures them.
        needs: what it needs beyond the installed packages, for which the short form leaves it out.
    """

    figures: tuple[Figure, ...]
    measure: Callable[[Bench], Sequence[Outcome]]
    needs: str = ""
