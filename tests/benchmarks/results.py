"""Outcomes in a file: a run replaces those that it measured and leaves the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure, Measured, NotMeasured, Outcome, Side, Spread


def keep(path: Path, outcomes: Sequence[Outcome], figures: Sequence[Figure]) -> None:
    """Writes outcomes beside those that the file has.

    Args:
        path: the file, or where it is to be.
        outcomes: what was measured.
        figures: all there are, in order; what the file has of others goes.
    """
    known = {outcome.figure.name: outcome for outcome in (*read(path, figures), *outcomes)}
    kept = [known[figure.name] for figure in figures if figure.name in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_plain(outcome) for outcome in kept], indent=1))


def read(path: Path, figures: Sequence[Figure]) -> list[Outcome]:
    """Returns the outcomes that a file has; none where there is no file."""
    if not path.exists():
        return []
    named = {figure.name: figure for figure in figures}
    return [_outcome(item, named[item["figure"]["name"]]) for item in _items(path) if item["figure"]["name"] in named]


def _items(path: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(path.read_text())
    return items


def _plain(outcome: Outcome) -> dict[str, Any]:
    plain = asdict(outcome)
    if isinstance(outcome, Measured):
        plain["met"] = outcome.figure.is_met(outcome.value.median)
    return plain


def _outcome(item: Mapping[str, Any], figure: Figure) -> Outcome:
    if "value" not in item:
        return NotMeasured(figure, item["reason"], is_failure=item["is_failure"])
    sides = tuple(Side(**{**side, "spread": Spread(**side["spread"])}) for side in item["sides"])
    return Measured(figure, Spread(**item["value"]), sides, item["note"])
