"""What a report says is true: figures that were measured elsewhere, and data of which the truth is known."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from onnxscope_server.errors import DataInvalidError, RunCancelledError
from onnxscope_server.probe_domain import Labels, Metric, ProbeKind, ProbeSpec, Task
from onnxscope_server.probes import batches, kinds
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.evaluate import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def evaluated(activations, y, *, kind=ProbeKind.LOGISTIC, raw=None, types=None, shuffled=None, **options):
    """Evaluates a probe; options are those of ProbeSpec and of Labels."""
    given = {name: options.pop(name) for name in ("row", "groups", "weights", "test") if name in options}
    row = given.pop("row", np.arange(len(activations)))
    stopped, told = options.pop("stopped", lambda: False), options.pop("told", [])
    spec = ProbeSpec("p", kind, **options)
    task = kinds.task_of(kind, y) if spec.task is None else spec.task
    return evaluate(
        spec,
        Labels(y, row, **given),
        in_memory(activations),
        learner=kinds.learner(kind, task, spec.params, spec.class_weight, spec.seed),
        raw=None if raw is None else in_memory(raw),
        types=types,
        shuffled=None if shuffled is None else in_memory(shuffled),
        tell=told.append,
        stopped=stopped,
    )


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


def feature(count=400, seed=0):
    """A feature, activations that hold it linearly, and activations that hold nothing."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, count)
    noise = generator.normal(size=(count, 8)).astype(np.float32)
    held = noise.copy()
    held[:, 0] += 4 * y
    return y, held, noise


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


def test_tokens_learned_by_heart_are_not_selective():
    """One-hot activations of token ids: the probe scores on any labels of tokens, and selectivity says that it does."""
    generator = np.random.default_rng(0)
    types = generator.integers(0, 20, 600)
    of_type = generator.integers(0, 4, 20)
    report = evaluated(np.eye(20)[types], of_type[types], types=types)[1]
    assert report.scores[0].value == 1
    assert report.control_score == 1
    assert report.selectivity == 0
    assert report.control_types == "token ids"


def test_positions_of_a_row_stay_together():
    """Activations that tell only of which row a position is are worth nothing, as no row is on both sides."""
    generator = np.random.default_rng(0)
    row = np.repeat(np.arange(100), 6)
    y = generator.integers(0, 2, 100)[row]
    report = evaluated(generator.normal(size=(100, 200))[row], y, row=row)[1]
    assert report.scores[0].low <= 0.5 <= report.scores[0].high
    assert (report.train_count, report.test_count) == (70, 30)
    assert np.sum(report.confusion) == 180


@pytest.mark.parametrize("kind", [ProbeKind.RIDGE, ProbeKind.KNN])
def test_regression_has_no_code(kind):
    """R2 and MAE with intervals, the mean as a baseline, a control task of random numbers, and no code."""
    generator = np.random.default_rng(0)
    activations = generator.normal(size=(300, 4))
    y = activations @ np.array([1.0, 2, 0, 0]) + 0.1 * generator.normal(size=300)
    report = evaluated(activations, y, kind=kind, raw=activations)[1]
    assert [one.metric for one in report.scores] == [Metric.R2, Metric.MAE]
    assert report.scores[0].value > 0.8
    assert all(one.low <= one.value <= one.high for one in report.scores)
    assert report.baseline == pytest.approx(0, abs=0.1)
    assert report.control_score < 0.6
    assert (report.codelength_bits, report.compression, report.confusion) == (None, None, ())


def test_several_labels_are_coded_one_by_one():
    """A label that is held and one that is not: the code is about half the uniform one."""
    y, held, _ = feature(800)
    other = np.random.default_rng(5).integers(0, 2, 800)
    report = evaluated(held, np.stack([y, other], axis=1).astype(bool), raw=held)[1]
    assert report.scores[0].metric == Metric.ACCURACY
    assert 1.2 < report.compression < 2
    assert report.control_score is not None


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


def test_a_class_without_held_out_rows_is_noted():
    """Scores are of the classes that are there, and a note names the one that is not."""
    y, held, _ = feature(60)
    y[:3] = 2
    test = np.arange(60) >= 40
    report = evaluated(held, y, test=test, raw=held)[1]
    assert any("to test on of class 2" in one for one in report.notes)
    assert np.shape(report.confusion) == (3, 3)
    learned = evaluated(held, y, test=np.arange(60) < 20)[1]
    assert any("to learn from of class 2" in one for one in learned.notes)
    assert np.isfinite([one.value for one in learned.scores]).all()


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


def test_what_cannot_be_measured_is_noted():
    """A raw input of NaN leaves out what needs it, and a note says why; without an input there is no control task."""
    y, held, _ = feature()
    report = evaluated(held, y, raw=np.full_like(held, np.nan))[1]
    assert (report.input_score, report.control_score, report.control_types) == (None, None, "")
    assert sum("was not measured" in one for one in report.notes) == 2
    assert any("no control task" in one for one in evaluated(held, y)[1].notes)


def test_without_controls_the_score_stands_alone():
    """Neither control, code nor curve is measured."""
    y, held, noise = feature()
    report = evaluated(held, y, raw=noise, controls=False)[1]
    assert (report.input_score, report.control_score, report.compression, report.learning_curve) == (None,) * 3 + ((),)


def test_large_inputs_are_projected():
    """Of more features than fit a probe, random projections are used, and a note says so."""
    y, held, _ = feature(120)
    raw = np.repeat(held, 600, axis=1)
    report = evaluated(held, y, raw=raw)[1]
    assert report.input_score > 0.8
    assert any("4800 features" in one for one in report.notes)


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


def test_a_fit_is_cancelled_between_two_fits():
    """However often it was looked, the next look ends it; stages were told of until then."""
    y, held, noise = feature()
    looks, told = [], []

    def stopped():
        looks.append(1)
        return len(looks) > 5

    with pytest.raises(RunCancelledError):
        evaluated(held, y, raw=noise, stopped=stopped, told=told)
    assert len(looks) == 6
    assert told[0] == "fit"


def test_activations_that_are_no_numbers_are_refused_wherever_they_are():
    """NaN in a held-out row ends the evaluation as one in a training row does."""
    y, held, _ = feature()
    for place in (0, -1):
        broken = held.copy()
        broken[place, 2] = np.nan
        with pytest.raises(DataInvalidError, match="NaN"):
            evaluated(broken, y, test=np.arange(400) >= 300)


def test_an_undefined_score_is_refused_only_where_it_was_asked_for():
    """ROC AUC of held-out rows of one class: an error as the metric, a note beside accuracy."""
    y, held, _ = feature()
    order = np.argsort(y)
    test = np.isin(np.arange(400), order[:50])
    report = evaluated(held, y, test=test)[1]
    assert any(one.startswith("roc_auc") for one in report.notes)
    with pytest.raises(DataInvalidError, match="another metric"):
        evaluated(held, y, test=test, metric=Metric.ROC_AUC)


def test_regression_of_integers_is_said_by_the_task():
    """Integers are classes unless the task says otherwise."""
    generator = np.random.default_rng(0)
    activations = generator.normal(size=(100, 2))
    y = np.round(activations[:, 0] * 10).astype(np.int64)
    report = evaluated(activations, y, kind=ProbeKind.RIDGE, task=Task.REGRESSION)[1]
    assert report.scores[0].metric == Metric.R2
    assert report.scores[0].value > 0.9


@pytest.mark.parametrize("several", [False, True])
def test_the_code_by_frequencies_alone_is_what_nothing_learned_compresses_to(several):
    """Of rare labels it is far above 1, and no probe on noise gets there; of a dummy's probabilities it is the same."""
    random = np.random.default_rng(0)
    y = (random.random(2000) < 0.03).astype(np.int64)
    found = y[:, None].astype(bool) if several else y
    test = np.arange(2000) >= 1400
    report = evaluated(random.normal(size=(2000, 4)).astype(np.float32), found, test=test)[1]
    blind = evaluated(np.zeros((2000, 4), np.float32), found, test=test)[1]
    assert report.baseline_compression == blind.baseline_compression > 4
    assert report.compression < report.baseline_compression
    assert blind.compression == pytest.approx(blind.baseline_compression, rel=0.02)


def test_balanced_labels_are_not_compressed_by_their_frequencies():
    """The code by frequencies alone is as long as the uniform one."""
    report = evaluated(np.eye(4, dtype=np.float32)[np.arange(400) % 4], np.arange(400) % 4)[1]
    assert report.baseline_compression == pytest.approx(1, abs=0.1)


def test_selectivity_of_an_error_is_how_much_less_it_is():
    """What is better than the control task is above 0, whether much or little of the metric is good."""
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    for metric in (Metric.R2, Metric.MAE):
        report = evaluated(features, features[:, 0].astype(float), kind=ProbeKind.RIDGE, raw=features, metric=metric)[1]
        assert report.selectivity == pytest.approx(abs(report.scores[0].value - report.control_score))


def test_few_held_out_rows_of_a_class_are_noted():
    """Five rows of one group are one; a class with enough of them is not named."""
    y, held, _ = feature(200)
    y[:20] = 2
    few = evaluated(held, y)[1]
    assert [one for one in few.notes if one.startswith("fewer than 10 rows (or groups) are held out of class 2:")]
    assert not [one for one in evaluated(held, feature(200)[0])[1].notes if "fewer" in one]
    grouped = evaluated(held, feature(200)[0], groups=np.arange(200) // 20)[1]
    assert [one for one in grouped.notes if "held out of class 0, 1:" in one]


def test_what_labels_were_taken_for_is_noted():
    """Several labels have an accuracy of all of them; integers are classes, where floats would be a regression."""
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    several = evaluated(features, features[:, :2] > 0)[1]
    assert [one for one in several.notes if one.startswith("accuracy counts rows on which every label is right")]
    counts = evaluated(features, np.arange(200) // 4, kind=ProbeKind.RIDGE, controls=False)[1]
    assert [one for one in counts.notes if one.endswith("so 50 classes: for a regression give floats")]
    assert not evaluated(features, np.arange(200) // 40, kind=ProbeKind.RIDGE, controls=False)[1].notes


def test_the_classes_of_a_confusion_matrix_are_said_where_they_are_not_the_probes():
    """A class that is only held out is a row of the matrix, before the classes that the probe knows."""
    y, held, _ = feature(60)
    y = np.array(["yes", "no"])[y]
    y[50:] = "may"
    probe, report = evaluated(held, y, test=np.arange(60) >= 40)
    assert probe.classes == ("no", "yes")
    assert report.confusion[0][0] == 0
    assert sum(report.confusion[0]) == 10
    assert "the probe knows 2 classes; those of the confusion matrix are may, no, yes" in report.notes


def test_a_fit_that_ended_early_says_what_may_help():
    """Standardisation is only said where the probe has none."""
    y, held, _ = feature(60)
    for standardize, help_text in ((True, "raise max_iter"), (False, "raise max_iter, or standardize")):
        params = {"max_iter": 2, "standardize": standardize}
        report = evaluated(held, y, kind=ProbeKind.MLP, params=params, controls=False)[1]
        assert f"the fit ended before it converged: {help_text}" in report.notes


@pytest.mark.parametrize("block_bytes", [1 << 30, 1 << 12])
def test_a_network_that_would_learn_for_hours_ends_when_nobody_wants_it(block_bytes):
    """Between two epochs, of rows that are in memory and of those that come block by block."""
    looks = []

    def stopped():
        looks.append(len(looks))
        return len(looks) > 40

    generator = np.random.default_rng(0)
    activations, y = generator.normal(size=(200, 4)).astype(np.float32), np.arange(200) % 2
    params = {"max_iter": 100_000, "tol": 0, "n_iter_no_change": 100_000}
    learner = batches.learner(ProbeKind.MLP, Task.CLASSES, params, None, 0, block_bytes)
    with pytest.raises(RunCancelledError):
        evaluate(
            ProbeSpec("p", ProbeKind.MLP, params=params, controls=False),
            Labels(y, np.arange(200)),
            in_memory(activations),
            learner=learner,
            raw=None,
            types=None,
            shuffled=None,
            tell=lambda _: None,
            stopped=stopped,
        )


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_inputs_whose_squares_float32_cannot_hold_have_a_control_task():
    """Types are clusters at any scale."""
    y, held, _ = feature(200)
    large, small = (evaluated(held, y, raw=(held * scale).astype(np.float32))[1] for scale in (1e30, 1.0))
    assert large.control_score == pytest.approx(small.control_score, abs=0.15)
