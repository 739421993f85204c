"""What is printed and kept, and what fails."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import results
from tests.benchmarks.figures import Figure, Measured, NotMeasured, Side, Spread
from tests.benchmarks.pictures import draw
from tests.benchmarks.table import amount, failures, notes, table

_COST = Figure("cost", "a cost", 2.0)
_GAIN = Figure("gain", "a gain", 3.0, at_most=False)
_SIDES = (
    Side("in process", "limit", Spread.of([0.01])),
    Side("capture", "onnxscope", Spread.of([0.05])),
    Side("Other", "peer", Spread.of([1.5])),
)
_SLOW = Measured(_COST, Spread(4.5, 5.0, 5.5, 7), _SIDES, "a note")
_MISSING = NotMeasured(_GAIN, "there is none")


def test_limit_and_peers_stand_beside() -> None:
    """A line has the target, the figure between its quartiles, and who was measured."""
    assert table([_SLOW, _MISSING]).splitlines()[2:] == [
        "| a cost | <= 2.00 | 5.00 | 4.50 .. 5.50 | missed | in process 10 ms | capture 50 ms | Other 1.5 s |",
        "| a gain | >= 3.00 | not measured |  | there is none |  |  |  |",
    ]
    assert notes([_SLOW, _MISSING]) == ["cost: a note"]


def test_amounts_have_units() -> None:
    """Times take the unit that fits."""
    assert [amount(value, "s") for value in (12.34, 0.01234, 1.44e-5)] == ["12.3 s", "12.3 ms", "14.4 us"]
    assert amount(3 << 20, "B") == "3 MiB"
    assert amount(12345, "1/s") == "12,345 /s"


def test_what_is_worse_fails_only_where_it_is_checked() -> None:
    """Without --check a slow machine is no failure."""
    assert failures([_SLOW], check=False) == []
    assert failures([_SLOW], check=True) == ["WORSE: cost: 5.00 where <= 2.00 is the target, 30% allowed"]


def test_a_missed_target_is_held_where_it_came_to() -> None:
    """What is reached is the bound then; that the target is missed stands in the table all the same."""
    held = Measured(Figure("cost", "a cost", 2.0, reached=4.0), Spread(4.5, 5.0, 5.5, 7), ())
    assert failures([held], check=True) == []
    assert "missed" in table([held])
    worse = Measured(held.figure, Spread(5.3, 5.3, 5.3, 7), ())
    assert failures([worse], check=True) == ["WORSE: cost: 5.30 where <= 4.00 is what was reached, 30% allowed"]


def test_what_cannot_be_had_is_no_failure_but_what_breaks_is() -> None:
    """A figure of a feature that is not there is left out; one that ends in an error fails, checked or not."""
    assert failures([_MISSING], check=True) == []
    broken = NotMeasured(_GAIN, "KeyError: 1", is_failure=True)
    assert failures([broken], check=False) == ["FAILED: gain: KeyError: 1"]


def test_results_replace_only_their_own(tmp_path: Path) -> None:
    """A run of some figures leaves the others in the file; the order is the registry's."""
    path, figures = tmp_path / "folder" / "results.json", [_COST, _GAIN]
    results.keep(path, [_MISSING], figures)
    results.keep(path, [_SLOW], figures)
    assert results.read(path, figures) == [_SLOW, _MISSING]
    assert results.read(path, [_GAIN]) == [_MISSING]


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    """Also where a figure is zero, and where one has no value."""
    draw([_SLOW, _MISSING, Measured(_GAIN, Spread.of([0.0]), ())], tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
