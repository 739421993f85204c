"""Which examples are learned from and which are held out: always whole rows, and whole groups of rows.

One example a unit (a group, else a row) with classes: scikit-learn's stratified splits; a class with one example stays
in training. Many examples a unit: for folds `StratifiedGroupKFold`, and to hold out the one of twenty draws of units
whose held-out part has its share of every class (or label) most nearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import (
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import ProbeSpec, Task
from onnxscope_server.probes.targets import Targets

DRAWS = 20
MIN_TEST_UNITS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Numbers of the examples to learn from and of those held out, int64, each rising."""

    train: Array
    test: Array


def of(spec: ProbeSpec, targets: Targets) -> list[Split]:
    """Returns one split, or one for each fold.

    Raises:
        DataInvalidError: there is nothing to learn from or to test on.
    """
    if targets.test is not None:
        if spec.fold_count:
            raise DataInvalidError("test says which rows are held out, so that there are no folds: leave one out")
        split = Split(np.nonzero(~targets.test)[0], np.nonzero(targets.test)[0])
        if len(np.intersect1d(targets.unit[split.train], targets.unit[split.test])):
            raise DataInvalidError("test parts a group: hold out all rows of a group, or none")
        found = [split]
    elif spec.fold_count:
        found = _folds(spec, targets)
    else:
        found = [_held_out(spec, targets)]
    for split in found:
        _check(split, targets)
    return found


def _check(split: Split, targets: Targets) -> None:
    if not len(split.train):
        raise DataInvalidError("every row is held out, and none is left to learn from: hold out fewer")
    held_out = len(np.unique(targets.unit[split.test]))
    if held_out < MIN_TEST_UNITS:
        raise DataInvalidError(
            f"{held_out} rows (or groups) would be held out, too few for an interval: hold out {MIN_TEST_UNITS} or more"
        )
    if targets.task == Task.CLASSES and len(np.unique(targets.truth[split.train])) == 1:
        raise DataInvalidError(
            "the rows to learn from hold a single class: give more rows of the others, or other groups or held-out rows"
        )


def _single(targets: Targets) -> bool:
    """Tells whether each unit has one example, so that examples can be drawn by their class."""
    return targets.task == Task.CLASSES and len(np.unique(targets.unit)) == len(targets.unit)


def _held_out(spec: ProbeSpec, targets: Targets) -> Split:
    if not 0 < spec.test_share < 1:
        raise DataInvalidError(f"test_size is {spec.test_share}: give a share of the rows between 0 and 1, such as 0.3")
    if _single(targets):
        counts = np.bincount(targets.truth)
        common = np.nonzero(counts[targets.truth] > 1)[0]
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=spec.test_share, random_state=spec.seed)
        try:
            _, test = next(splitter.split(common, targets.truth[common]))
        except ValueError:  # more classes than rows to hold out
            return _drawn(spec, targets)
        return _split(np.isin(np.arange(len(targets.unit)), common[test]))
    return _drawn(spec, targets)


def _drawn(spec: ProbeSpec, targets: Targets) -> Split:
    units, unit = np.unique(targets.unit, return_inverse=True)
    counts = np.stack([np.bincount(unit, column, len(units)) for column in _columns(targets).T], axis=1)
    totals = np.maximum(counts.sum(axis=0), 1.0)
    try:
        draws = list(ShuffleSplit(DRAWS, test_size=spec.test_share, random_state=spec.seed).split(units))
    except ValueError as error:
        raise DataInvalidError(
            f"{len(units)} rows (or groups) are too few to hold out a share of {spec.test_share}: give more"
        ) from error
    far = [float(np.square(counts[test].sum(axis=0) / totals - spec.test_share).sum()) for _, test in draws]
    return _split(np.isin(unit, draws[int(np.argmin(far))][1]))


def _columns(targets: Targets) -> Array:
    """Returns what each example has of everything that both parts should have: float64 [example, column]."""
    ones = np.ones((len(targets.unit), 1))
    if targets.task == Task.CLASSES:
        return np.concatenate([ones, np.eye(len(targets.classes))[targets.truth]], axis=1)
    return np.concatenate([ones, targets.truth], axis=1) if targets.task == Task.MULTILABEL else ones


def _folds(spec: ProbeSpec, targets: Targets) -> list[Split]:
    units, unit = np.unique(targets.unit, return_inverse=True)
    count = spec.fold_count
    if count < 2 or count * MIN_TEST_UNITS > len(units):  # noqa: PLR2004 - one fold has nothing to learn from
        raise DataInvalidError(
            f"{count} folds of {len(units)} rows (or groups): give at least 2 folds, and {MIN_TEST_UNITS} rows for each"
        )
    options = {"n_splits": count, "shuffle": True, "random_state": spec.seed}
    if targets.task == Task.CLASSES:
        try:
            if _single(targets):
                pairs = list(StratifiedKFold(**options).split(unit, targets.truth))
            else:
                pairs = list(StratifiedGroupKFold(**options).split(unit, targets.truth, unit))
            return [Split(train, test) for train, test in pairs]
        except ValueError:  # every class has fewer examples than there are folds
            pass
    return [_split(np.isin(unit, test)) for _, test in KFold(**options).split(units)]


def _split(held_out: Array) -> Split:
    return Split(np.nonzero(~held_out)[0], np.nonzero(held_out)[0])
