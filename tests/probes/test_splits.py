"""Rows, and groups of rows, are never parted, and classes keep their shares."""

import numpy as np
import pytest

from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Labels, ProbeKind, ProbeSpec
from onnxscope_server.probes import splits, targets

COUNT = 120


def parts(y, row=None, kind=ProbeKind.LOGISTIC, groups=None, test=None, **spec):
    """Looks at labels and splits them."""
    said = ProbeSpec("p", kind, **spec)
    row = np.arange(len(y)) if row is None else row
    found = targets.of(said, Labels(y, row, groups, None, test), len(y))
    return found, splits.of(said, found)


@pytest.mark.parametrize("folds", [0, 4])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("task", ["classes", "labels", "numbers"])
def test_no_unit_stands_on_both_sides(folds, grouped, positions, task):
    """For every task, with and without groups, positions and folds: units are whole, and every example is used."""
    generator = np.random.default_rng(0)
    row = np.repeat(np.arange(COUNT), positions)
    groups = generator.integers(0, 20, COUNT) if grouped else None
    y = {
        "classes": generator.integers(0, 3, len(row)),
        "labels": generator.random((len(row), 3)) < 0.3,
        "numbers": generator.normal(size=len(row)),
    }[task]
    kind = ProbeKind.RIDGE
    found, made = parts(y, row, kind, groups, fold_count=folds)
    for part in made:
        assert not set(found.unit[part.train]) & set(found.unit[part.test])
        assert sorted([*part.train, *part.test]) == list(range(len(row)))
    if folds:
        assert sorted(np.concatenate([part.test for part in made])) == list(range(len(row)))
    else:
        assert len(made[0].test) / len(row) == pytest.approx(0.3, abs=0.1 if grouped else 0.01)


@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_rare_classes_are_on_both_sides(folds, grouped):
    """A class of one row in ten keeps its share of the held-out rows; with groups nearly."""
    y = np.tile([1] + [0] * 9, COUNT // 10)
    groups = np.arange(COUNT) // 4 if grouped else None
    for seed in range(5):
        for part in parts(y, groups=groups, fold_count=folds, seed=seed)[1]:
            assert y[part.test].mean() == pytest.approx(0.1, abs=0.05 if grouped else 0.02)
            assert y[part.train].mean() == pytest.approx(0.1, abs=0.05)


def test_a_class_of_one_row_is_learned_from():
    """It can't be on both sides, and ends nothing."""
    y = np.array([0, 1] * 20 + [2])
    assert 40 in parts(y)[1][0].train


def test_seeds_draw_anew():
    """The same seed draws the same rows, another one others."""
    y = np.arange(COUNT) % 2
    first, again, other = (parts(y, seed=seed)[1][0].test.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_rows_that_the_caller_holds_out_are_held_out():
    """`test` is by row, also where rows have positions."""
    row = np.repeat(np.arange(20), 3)
    test = np.arange(20) >= 15
    part = parts(row % 2, row, test=test)[1][0]
    assert set(row[part.test]) == {15, 16, 17, 18, 19}


@pytest.mark.parametrize(
    ("y", "options", "says"),
    [
        ([0, 1, 0], {}, "3 rows"),
        ([0] * 10, {}, "every label y is 0"),
        ([0, 1] * 5, {"groups": np.zeros(10)}, "one group"),
        ([0, 1] * 5, {"groups": np.zeros(9)}, "one for each row"),
        ([0, 1] * 5, {"test": np.ones(10, dtype=bool)}, "every row is held out"),
        ([0, 1] * 5, {"test": np.zeros(10, dtype=bool)}, "0 rows"),
        ([0, 1] * 5, {"test": np.arange(10) % 2 == 1}, "single class"),
        ([0, 1] * 5, {"test": np.arange(10) < 3, "groups": np.arange(10) // 5}, "parts a group"),
        ([0, 1] * 5, {"test": np.arange(10) < 3, "fold_count": 2}, "no folds"),
        ([0, 1] * 5, {"test_share": 0.0}, "test_size"),
        ([0, 1] * 5, {"test_share": 1.5}, "test_size"),
        ([0, 1] * 5, {"fold_count": 1}, "at least 2 folds"),
        ([0, 1] * 5, {"fold_count": 6}, "6 folds of 10"),
        ([0, 1] * 5, {"fold_count": -1}, "at least 2 folds"),
        (list(range(10)), {}, "no class has two rows"),
        ([[0, 1]] * 10, {}, "same labels"),
        ([[0, 2]] * 10, {}, "0 and 1"),
        ([0.5, np.nan] * 5, {"kind": ProbeKind.RIDGE}, "example 1"),
        ([0.5] * 10, {"kind": ProbeKind.RIDGE}, "same number"),
        ([0.5, 1.0] * 5, {}, "integers or text"),
        ([0, 1] * 5, {"class_weight": {2: 1.0}}, "class_weight names 2"),
        ([0, 1] * 5, {"class_weight": {"1": 0.0}}, "above 0"),
    ],
)
def test_data_of_which_nothing_can_be_learned_is_refused(y, options, says):
    """Each error says what is wrong and what to do."""
    with pytest.raises(DataInvalidError, match=says):
        parts(np.array(y), **options)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (Labels(np.arange(9) % 2, np.arange(10)), "labels y"),
        (Labels(None, np.arange(10)), "needs labels"),
        (Labels(np.arange(10) % 2, np.arange(9)), "rows for 9"),
        (Labels(np.arange(10) % 2, np.arange(10), weights=np.ones(9)), "sample_weight"),
        (Labels(np.arange(10) % 2, np.arange(10), weights=-np.ones(10)), "below 0"),
        (Labels(np.arange(10) % 2, np.arange(10), weights=np.zeros(10)), "some above"),
        (Labels(np.arange(10) % 2, np.arange(10), weights=np.full(10, np.nan)), "finite"),
    ],
)
def test_labels_of_another_length_are_refused(labels, says):
    """Labels, rows and weights are one for each example; weights are finite and not negative."""
    with pytest.raises(DataInvalidError, match=says):
        targets.of(ProbeSpec("p"), labels, 10)
