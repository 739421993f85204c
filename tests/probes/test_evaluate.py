"""What a report says is true: figures that were measured elsewhere, and data of which the truth is known."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from tests.probes.evaluated import evaluated, feature

from onnxscope_server.probe_domain import Metric, ProbeKind, Task

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def network():
    """The digits and the hidden layers of a network that learned them, with the rows that it did not see."""
    images, y = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    train, test = train_test_split(np.arange(len(y)), test_size=0.3, stratify=y, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((64, 32), random_state=0, max_iter=300).fit(images[train], y[train])
    first = np.maximum(images @ model.coefs_[0] + model.intercepts_[0], 0)
    second = np.maximum(first @ model.coefs_[1] + model.intercepts_[1], 0)
    return {"input": images, "h1": first, "h2": second}, y, np.isin(np.arange(len(y)), test)


def test_the_digits_have_the_figures_that_were_measured(network):
    """Accuracy within .01, control score within .03, compression within 15 %; h2 compresses 1.8 times as the input."""
    layers, y, test = network
    expected = {"input": (0.972, 0.354, 6.88), "h1": (0.978, 0.385, 12.7), "h2": (0.980, 0.326, 15.1)}
    compression = {}
    for name, (accuracy, control, code) in expected.items():
        reports = [evaluated(layers[name], y, raw=layers["input"], test=test, seed=seed)[1] for seed in range(2)]
        assert np.mean([one.scores[0].value for one in reports]) == pytest.approx(accuracy, abs=0.01)
        assert np.mean([one.control_score for one in reports]) == pytest.approx(control, abs=0.03)
        compression[name] = np.mean([one.compression for one in reports])
        assert compression[name] == pytest.approx(code, rel=0.15)
        assert {one.control_types for one in reports} == {"k-means of the input"}
        assert all(one.train_score > 0.99 for one in reports)
        assert (reports[0].train_count, reports[0].test_count) == (1257, 540)
    assert compression["h2"] > 1.8 * compression["input"]


def test_permuted_labels_are_at_chance(network):
    """The interval holds one tenth, and the code of permuted labels is longer than the uniform one."""
    layers, y, test = network
    permuted = np.random.default_rng(0).permutation(y)
    report = evaluated(layers["input"], permuted, test=test)[1]
    assert report.scores[0].low <= 0.1 <= report.scores[0].high
    assert report.compression < 1
    assert report.scores[0].value - report.baseline < 0.05


@pytest.mark.parametrize("folds", [0, 4])
@pytest.mark.parametrize(
    "kind", [one for one in ProbeKind if one not in {ProbeKind.PCA, ProbeKind.KMEANS, ProbeKind.ONNX, ProbeKind.MLP}]
)
def test_every_kind_finds_a_feature_where_it_is_and_not_where_it_is_not(kind, folds):
    """Held: near perfect and compressed; destroyed: the score is at chance, also that of the raw input."""
    y, held, noise = feature()
    report = evaluated(held, y, kind=kind, raw=noise, shuffled=noise, fold_count=folds)[1]
    assert report.scores[0].value > 0.9
    assert report.compression > 1.5
    assert abs(report.input_score - 0.5) < 0.12
    assert abs(report.shuffled_score - 0.5) < 0.12
    assert report.selectivity > 0.2
    assert report.baseline == pytest.approx(0.5, abs=0.1)
    assert report.fold_count == folds
    assert np.sum(report.confusion) == report.test_count
    nothing = evaluated(noise, y, kind=kind, raw=noise, fold_count=folds, seed=3)[1]
    assert abs(nothing.scores[0].value - 0.5) < 0.12
    assert nothing.compression < 1.1


@pytest.mark.parametrize("kind", [one for one in ProbeKind if one != ProbeKind.ONNX])
def test_a_layer_that_is_constant_holds_nothing(kind):
    """Dead units everywhere end no sweep: classes are at chance, and figures without meaning are 0 or noted."""
    y, held, _ = feature(80)
    labels = None if kind in {ProbeKind.PCA, ProbeKind.KMEANS} else y
    report = evaluated(np.zeros_like(held), labels, kind=kind, raw=held)[1]
    assert all(np.isfinite([one.value, one.low, one.high]).all() for one in report.scores)
    if labels is not None:
        assert report.scores[0].value == pytest.approx(0.5, abs=0.15)
        assert report.compression < 1.1


def test_a_learning_curve_rises_to_the_score():
    """Its points are by rising number of rows, and the last is the score itself."""
    y, held, _ = feature()
    report = evaluated(held, y)[1]
    sizes = [size for size, _ in report.learning_curve]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == report.train_count
    assert report.learning_curve[-1][1] == report.scores[0].value
    assert report.learning_curve[0][1] < report.learning_curve[-1][1]


def test_positions_of_a_row_stay_together():
    """Activations that tell only of which row a position is are worth nothing, as no row is on both sides."""
    generator = np.random.default_rng(0)
    row = np.repeat(np.arange(100), 6)
    y = generator.integers(0, 2, 100)[row]
    report = evaluated(generator.normal(size=(100, 200))[row], y, row=row)[1]
    assert report.scores[0].low <= 0.5 <= report.scores[0].high
    assert (report.train_count, report.test_count) == (70, 30)
    assert np.sum(report.confusion) == 180


@pytest.mark.parametrize(
    ("kind", "metric"), [(ProbeKind.PCA, Metric.EXPLAINED_VARIANCE), (ProbeKind.KMEANS, Metric.SILHOUETTE)]
)
@pytest.mark.parametrize("folds", [0, 3])
def test_without_labels_held_out_rows_are_scored(kind, metric, folds):
    """Two far clusters on a line: one component holds them, and two clusters fit; there is no control task."""
    generator = np.random.default_rng(0)
    side = generator.integers(0, 2, 200)
    activations = np.outer(side * 10.0, np.ones(4)) + generator.normal(size=(200, 4))
    params = {"n_components": 1} if kind == ProbeKind.PCA else {"n_clusters": 2}
    report = evaluated(activations, None, kind=kind, params=params, raw=activations, fold_count=folds)[1]
    assert [one.metric for one in report.scores] == [metric]
    assert 0.7 < report.scores[0].low <= report.scores[0].high < 1
    assert (report.control_score, report.baseline, report.compression) == (None, None, None)


def test_the_metric_that_was_asked_for_comes_first():
    """Everything in the report is then of that metric."""
    y, held, _ = feature()
    report = evaluated(held, y, metric=Metric.ROC_AUC)[1]
    assert report.scores[0].metric == Metric.ROC_AUC
    assert report.baseline == 0.5


@pytest.mark.parametrize("kind", [ProbeKind.LOGISTIC, ProbeKind.KNN, ProbeKind.LDA, ProbeKind.NEAREST_CENTROID])
def test_six_rows_are_enough_for_a_report(kind):
    """Nothing in it is NaN, and the interval is wide."""
    activations = np.array([[0, 1], [5, 1], [1, 0], [6, 0], [0, 0], [5, 5]])
    report = evaluated(activations, np.array([0, 1] * 3), kind=kind, raw=activations)[1]
    numbers = [one for score in report.scores for one in (score.value, score.low, score.high)]
    assert np.isfinite([*numbers, report.train_score, report.baseline, report.compression]).all()
    assert report.scores[0].high - report.scores[0].low > 0.5


def test_the_same_seed_gives_the_same_report():
    """Every figure is the same again, and other draws with another seed."""
    y, held, noise = feature()
    first, again, other = (evaluated(held, y, raw=noise, seed=seed)[1] for seed in (1, 1, 2))
    assert first == again
    assert first.codelength_bits != other.codelength_bits


def test_a_probe_over_folds_learned_from_all_rows():
    """Counts are of all rows, each of which was held out once."""
    y, held, _ = feature(90)
    probe, report = evaluated(held, y, fold_count=3)
    assert probe.scaler.n_samples_seen_ == 90
    assert (report.train_count, report.test_count) == (90, 90)
    alone, _ = evaluated(held, y)
    assert alone.scaler.n_samples_seen_ == 63


def test_weights_change_what_is_learned():
    """Rows of weight 0 are not learned from; the split and the scores are of all rows."""
    y, held, _ = feature()
    lies = np.arange(400) % 2 == 0
    told = np.where(lies, 1 - y, y)
    report = evaluated(held, told, weights=(~lies).astype(np.float64))[1]
    assert report.scores[0].value == pytest.approx(0.5, abs=0.12)
    assert np.sum(report.confusion) == 120


def test_text_labels_and_numbers_have_the_same_report():
    """Classes are named by the caller's words."""
    y, held, _ = feature()
    probe, report = evaluated(held, np.where(y == 1, "yes", "no").astype(object), class_weight={"yes": 1.0})
    assert probe.classes == ("no", "yes")
    assert report.scores == evaluated(held, y)[1].scores


def test_regression_of_integers_is_said_by_the_task():
    """Integers are classes unless the task says otherwise."""
    generator = np.random.default_rng(0)
    activations = generator.normal(size=(100, 2))
    y = np.round(activations[:, 0] * 10).astype(np.int64)
    report = evaluated(activations, y, kind=ProbeKind.RIDGE, task=Task.REGRESSION)[1]
    assert report.scores[0].metric == Metric.R2
    assert report.scores[0].value > 0.9
