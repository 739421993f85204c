"""The bench's own arithmetic."""

from __future__ import annotations

import pytest
from tests.benchmarks.figures import Figure, Spread

_AT_MOST = Figure("cost", "cost", 2.0)
_AT_LEAST = Figure("gain", "gain", 3.0, at_most=False)


def test_a_spread_is_the_median_between_the_quartiles() -> None:
    """One slow repetition moves neither."""
    assert Spread.of([3, 1, 2, 5, 400, 4, 0]) == Spread(1.5, 3, 4.5, 7)


def test_one_value_is_its_own_spread() -> None:
    """What is read once has no quartiles of its own."""
    assert Spread.of([2.5]) == Spread(2.5, 2.5, 2.5, 1)


def test_ratios_are_of_rounds() -> None:
    """A machine that is three times slower in some rounds changes no ratio."""
    bottoms = [1.0, 3.0, 1.0, 3.0, 1.0, 1.0, 3.0]
    assert Spread.of_ratios([2 * seconds for seconds in bottoms], bottoms) == Spread(2, 2, 2, 7)


@pytest.mark.parametrize(
    ("figure", "value", "is_met", "is_failed"),
    [
        (_AT_MOST, 2.0, True, False),
        (_AT_MOST, 2.1, False, False),
        (_AT_MOST, 2.6, False, False),
        (_AT_MOST, 2.61, False, True),
        (_AT_LEAST, 3.0, True, False),
        (_AT_LEAST, 2.9, False, False),
        (_AT_LEAST, 2.11, False, False),
        (_AT_LEAST, 2.09, False, True),
    ],
)
def test_a_figure_fails_beyond_30_percent(figure: Figure, value: float, is_met: bool, is_failed: bool) -> None:
    """Between target and 30 % worse it is missed and does not fail, above as below."""
    assert (figure.is_met(value), figure.is_failed(value)) == (is_met, is_failed)
