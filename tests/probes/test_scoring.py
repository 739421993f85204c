"""Scores are scikit-learn's, and their intervals cover the truth as often as they say."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as reference

from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Metric, ProbeKind, Task
from onnxscope_server.probes import scoring
from onnxscope_server.probes.scoring import Outcome


def outcome(task, truth, scores, *, probabilities=True, unit=None, fold=None):
    """Makes an outcome, of which each example is a unit."""
    unit = np.arange(len(truth)) if unit is None else unit
    fold = np.zeros(len(truth), dtype=np.int64) if fold is None else fold
    return Outcome(task, truth, scores, probabilities, unit, fold)


def noisy_classes(count, classes, seed=0):
    """Returns classes and probabilities that often are right."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, count)
    scores = np.exp(generator.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth])
    return truth, scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_class_scores_are_scikit_learns(classes):
    """Accuracy, balanced accuracy, macro F1 and ROC AUC are scikit-learn's figures, ties included."""
    truth, scores = noisy_classes(200, classes)
    scores = np.round(scores, 2)
    scores /= scores.sum(axis=1, keepdims=True)
    given = scores.argmax(axis=1)
    area = scores[:, 1] if classes == 2 else scores
    expected = {
        Metric.ACCURACY: reference.accuracy_score(truth, given),
        Metric.BALANCED_ACCURACY: reference.balanced_accuracy_score(truth, given),
        Metric.MACRO_F1: reference.f1_score(truth, given, average="macro"),
        Metric.ROC_AUC: reference.roc_auc_score(truth, area, multi_class="ovr"),
    }
    for metric, value in expected.items():
        assert scoring.scored(metric, outcome(Task.CLASSES, truth, scores)) == pytest.approx(value)
    assert scoring.confusion(outcome(Task.CLASSES, truth, scores)) == tuple(
        tuple(row) for row in reference.confusion_matrix(truth, given).tolist()
    )


def test_scores_of_several_labels_are_scikit_learns():
    """Accuracy is of all labels at once; macro F1 and ROC AUC are means over the labels."""
    generator = np.random.default_rng(0)
    truth = generator.random((300, 4)) < 0.3
    scores = np.clip(truth * 0.3 + generator.random((300, 4)) * 0.7, 0, 1)
    said = outcome(Task.MULTILABEL, truth, scores)
    assert scoring.scored(Metric.ACCURACY, said) == pytest.approx(reference.accuracy_score(truth, scores > 0.5))
    assert scoring.scored(Metric.MACRO_F1, said) == pytest.approx(
        reference.f1_score(truth, scores > 0.5, average="macro")
    )
    assert scoring.scored(Metric.ROC_AUC, said) == pytest.approx(reference.roc_auc_score(truth, scores))
    balanced = [reference.balanced_accuracy_score(truth[:, one], scores[:, one] > 0.5) for one in range(4)]
    assert scoring.scored(Metric.BALANCED_ACCURACY, said) == pytest.approx(np.mean(balanced))


def test_regression_scores_are_scikit_learns():
    """R2 and MAE are scikit-learn's, also far from zero and for a target that does not vary."""
    generator = np.random.default_rng(0)
    truth = 1e6 + generator.normal(size=(100, 2))
    given = truth + generator.normal(size=(100, 2)) * 0.5
    said = outcome(Task.REGRESSION, truth, given)
    assert scoring.scored(Metric.R2, said) == pytest.approx(reference.r2_score(truth, given))
    assert scoring.scored(Metric.MAE, said) == pytest.approx(reference.mean_absolute_error(truth, given))
    constant = outcome(Task.REGRESSION, np.full((9, 1), 0.1), np.full((9, 1), 0.2))
    score = scoring.with_interval(Metric.R2, constant, 0)
    assert (score.value, score.low, score.high) == (0, 0, 0)


@pytest.mark.parametrize("metric", scoring.CLASS_METRICS)
@pytest.mark.parametrize("positions", [1, 5])
def test_intervals_cover_the_truth_in_95_of_100_draws(metric, positions):
    """Of 200 intervals 91 to 99 % hold the population's score, also where a row has five positions that are alike."""
    truth, scores = noisy_classes(100_000, 3, seed=1)
    expected = scoring.scored(metric, outcome(Task.CLASSES, truth, scores))
    covered = 0
    for draw in range(200):
        rows = np.repeat(np.arange(draw * 100, draw * 100 + 100), positions)
        score = scoring.with_interval(metric, outcome(Task.CLASSES, truth[rows], scores[rows], unit=rows), draw)
        covered += score.low <= expected <= score.high
    assert 0.91 <= covered / 200 <= 0.99


@pytest.mark.parametrize("metric", [Metric.ACCURACY, Metric.ROC_AUC])
def test_intervals_of_good_probes_cover_the_truth_on_few_rows(metric):
    """Near 1 too, where shares have a long tail below: 92 to 99 % of 300 intervals of 50 rows hold the score."""
    generator = np.random.default_rng(0)
    expected = norm.cdf(1.5 if metric == Metric.ACCURACY else 3 / np.sqrt(2))
    covered = 0
    for draw in range(300):
        truth = generator.integers(0, 2, 50)
        decision = 3 * truth + generator.normal(size=50) - 1.5
        said = outcome(Task.CLASSES, truth, np.stack([-decision, decision], axis=1), probabilities=False)
        score = scoring.with_interval(metric, said, draw)
        covered += score.low <= expected <= score.high
    assert 0.92 <= covered / 300 <= 0.99


def test_intervals_of_regression_cover_the_truth():
    """R2's interval holds the population's R2 in about 95 of 100 draws."""
    generator = np.random.default_rng(0)
    covered = 0
    for draw in range(200):
        truth = generator.normal(size=(100, 1))
        said = outcome(Task.REGRESSION, truth, truth + generator.normal(size=(100, 1)) * 0.5)
        score = scoring.with_interval(Metric.R2, said, draw)
        covered += score.low <= 0.75 <= score.high
    assert 0.88 <= covered / 200 <= 0.99


def test_bundles_of_many_rows_have_the_same_interval():
    """The interval of 40,000 rows, resampled in bundles, is that of the binomial distribution."""
    truth, scores = noisy_classes(40_000, 2)
    score = scoring.with_interval(Metric.ACCURACY, outcome(Task.CLASSES, truth, scores), 0)
    error = np.sqrt(score.value * (1 - score.value) / 40_000)
    assert score.value - score.low == pytest.approx(1.96 * error, rel=0.15)
    assert score.high - score.value == pytest.approx(1.96 * error, rel=0.15)


def test_all_right_on_few_rows_is_not_certain():
    """Five of five right says little: the interval reaches down to the binomial's bound, and never to NaN."""
    truth = np.array([0, 1, 0, 1, 1])
    score = scoring.with_interval(Metric.ACCURACY, outcome(Task.CLASSES, truth, np.eye(2)[truth]), 0)
    assert (score.value, score.high) == (1, 1)
    assert score.low == pytest.approx(0.025 ** (1 / 5))
    wrong = scoring.with_interval(Metric.ACCURACY, outcome(Task.CLASSES, truth, np.eye(2)[1 - truth]), 0)
    assert (wrong.value, wrong.low) == (0, 0)
    assert wrong.high == pytest.approx(1 - 0.025 ** (1 / 5))


@pytest.mark.parametrize("metric", scoring.CLASS_METRICS)
def test_a_class_that_is_missing_does_no_harm(metric):
    """Held-out rows without one of three classes have every score; of a single class they have no ROC AUC."""
    truth, scores = np.array([0, 1, 0, 1, 0]), np.eye(3)[[0, 1, 2, 1, 0]]
    score = scoring.with_interval(metric, outcome(Task.CLASSES, truth, scores), 0)
    assert np.isfinite([score.value, score.low, score.high]).all()
    alone = scoring.scored(metric, outcome(Task.CLASSES, np.zeros(5, dtype=np.int64), scores))
    assert (alone is None) == (metric == Metric.ROC_AUC)


def test_roc_auc_compares_examples_of_a_fold_only():
    """Scores of two folds on scales of their own, each in perfect order, have an area of 1."""
    truth = np.array([0, 1, 0, 1])
    scores = np.array([[-1, 1], [-2, 2], [-11, 11], [-12, 12]], dtype=np.float64)
    fold = np.array([0, 0, 1, 1])
    said = outcome(Task.CLASSES, truth, scores, probabilities=False, fold=fold)
    assert scoring.scored(Metric.ROC_AUC, said) == 1


def test_distances_are_compared_by_their_margin():
    """Negative distances of examples near to and far from both centroids still order by the nearer one."""
    truth = np.array([0, 1, 0, 1])
    scores = -np.array([[1, 2], [2, 1], [11, 12], [12, 11]], dtype=np.float64)
    assert scoring.scored(Metric.ROC_AUC, outcome(Task.CLASSES, truth, scores, probabilities=False)) == 1


def test_a_metric_of_another_task_is_refused():
    """The error names the metrics that there are."""
    with pytest.raises(DataInvalidError, match="r2, mae"):
        scoring.metrics(ProbeKind.RIDGE, Task.REGRESSION, Metric.ACCURACY)
    assert scoring.metrics(ProbeKind.RIDGE, Task.REGRESSION, Metric.MAE) == (Metric.MAE, Metric.R2)
