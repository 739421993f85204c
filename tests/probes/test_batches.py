"""Probes learned block by block: as good as with everything in memory, for every kind."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from onnxscope_server.errors import DataInvalidError, LimitExceededError, RunCancelledError
from onnxscope_server.probe_domain import ProbeKind, Task
from onnxscope_server.probes import batches, kinds
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.predict import predictions

_COUNT, _FEATURES = 400, 8


class _Counting:
    """Rows that know how many were taken at once."""

    def __init__(self, array):
        self._rows = in_memory(array)
        self.most = 0

    @property
    def shape(self):
        return self._rows.shape

    def take(self, examples):
        self.most = max(self.most, len(examples))
        return self._rows.take(examples)

    def blocks(self, examples, size):
        for block in self._rows.blocks(examples, size):
            self.most = max(self.most, len(block))
            yield block


def _activations(seed=0):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(_COUNT, _FEATURES)) @ random.normal(size=(_FEATURES, _FEATURES))
    return (mixed * np.logspace(0, 1, _FEATURES) + 5).astype(np.float32)


def _classes(activations, class_count, seed=1):
    random = np.random.default_rng(seed)
    values = (activations - activations.mean(axis=0)) @ random.normal(size=(_FEATURES, class_count))
    return (values / values.std(axis=0) + 0.7 * random.normal(size=values.shape)).argmax(axis=1)


def _fit(kind, task, params, activations, y, *, weights=None, class_weight=None, seed=0):
    """Fits in blocks of some 30 examples, and asserts that no more were asked for at once."""
    rows = _Counting(activations)
    outputs = 1 if y is None else len(np.unique(y)) if task == Task.CLASSES else y.reshape(len(y), -1).shape[1]
    learner = batches.learner(kind, task, params, class_weight, seed, 30 * (_FEATURES + outputs) * 24)
    examples = np.random.default_rng(0).permutation(_COUNT)
    fitted = learner.fit(
        rows, examples, None if y is None else y[examples], None if weights is None else weights[examples]
    )
    assert 0 < rows.most <= 100
    return fitted


def _in_memory(kind, task, params, activations, y, *, weights=None, class_weight=None, seed=0):
    return kinds.learner(kind, task, params, class_weight, seed).fit(
        in_memory(activations), np.arange(_COUNT), y, weights
    )


@pytest.mark.parametrize("class_count", [2, 4])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"C": 0.01},
        {"fit_intercept": False},
        {"standardize": False, "C": 1e-4, "tol": 1e-6},
        {"C": 30.0, "tol": 1e-8},
    ],
    ids=str,
)
def test_logistic(class_count, params):
    """Logistic regression goes scikit-learn's own way and ends where it does, two classes or more."""
    activations = _activations()
    y = _classes(activations, class_count)
    found, expected = (fit(ProbeKind.LOGISTIC, Task.CLASSES, params, activations, y) for fit in (_fit, _in_memory))
    assert type(found.estimator) is LogisticRegression
    # unscaled activations make a long way, on which rounding shows
    near = 1e-5 if params.get("standardize", True) else 1e-3
    np.testing.assert_allclose(found.estimator.coef_, expected.estimator.coef_, atol=near)
    np.testing.assert_allclose(found.estimator.intercept_, expected.estimator.intercept_, atol=near)
    assert found.estimator.classes_.tolist() == expected.estimator.classes_.tolist()
    np.testing.assert_allclose(
        predictions(found, activations)["scores"], predictions(expected, activations)["scores"], atol=near
    )


@pytest.mark.parametrize("kind", [ProbeKind.LOGISTIC, ProbeKind.SVM])
def test_weights(kind):
    """Weights of rows and classes count as in memory."""
    activations = _activations()
    y = np.array(["c", "a", "b"], object)[_classes(activations, 3)]
    weights = np.random.default_rng(0).uniform(0.1, 3, _COUNT)
    same = {"weights": weights, "class_weight": {"a": 4.0}}
    params = {"tol": 1e-7} if kind == ProbeKind.LOGISTIC else {"tol": 1e-6, "dual": False}
    found, expected = (fit(kind, Task.CLASSES, params, activations, y, **same) for fit in (_fit, _in_memory))
    np.testing.assert_allclose(found.scaler.mean_, expected.scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(found.estimator.coef_, expected.estimator.coef_, atol=2e-4)
    np.testing.assert_allclose(found.estimator.intercept_, expected.estimator.intercept_, atol=2e-4)


@pytest.mark.parametrize("class_count", [2, 4])
@pytest.mark.parametrize(
    "params",
    [{}, {"C": 0.01}, {"fit_intercept": False}, {"intercept_scaling": 10.0}, {"standardize": False, "C": 1e-4}],
    ids=str,
)
def test_svm(class_count, params):
    """A linear SVM has LinearSVC's optimum, whose intercept is penalised."""
    activations = _activations()
    y = _classes(activations, class_count)
    params = {**params, "tol": 1e-5, "dual": False, "max_iter": 10_000}
    found, expected = (fit(ProbeKind.SVM, Task.CLASSES, params, activations, y) for fit in (_fit, _in_memory))
    assert type(found.estimator) is LinearSVC
    assert found.estimator.coef_.shape == expected.estimator.coef_.shape
    np.testing.assert_allclose(found.estimator.coef_, expected.estimator.coef_, atol=2e-3)
    np.testing.assert_allclose(found.estimator.intercept_, expected.estimator.intercept_, atol=2e-3)


@pytest.mark.parametrize("kind", [ProbeKind.LOGISTIC, ProbeKind.SVM])
def test_several_labels(kind):
    """Several labels, one of them the same on every row, are learned together and each as if it were alone."""
    activations = _activations()
    labels = _classes(activations, 3)[:, None] == np.array([0, 1, 7, 2])
    params = {"tol": 1e-5} if kind == ProbeKind.LOGISTIC else {"tol": 1e-5, "dual": False}
    found, expected = (fit(kind, Task.MULTILABEL, params, activations, labels) for fit in (_fit, _in_memory))
    for one, other in zip(found.estimator.estimators_, expected.estimator.estimators_, strict=True):
        np.testing.assert_allclose(one.coef_, other.coef_, atol=2e-3)
        np.testing.assert_allclose(one.intercept_, other.intercept_, atol=2e-3)
    said, meant = (predictions(one, activations) for one in (found, expected))
    assert (said["labels"] == meant["labels"]).mean() > 0.995
    none = np.zeros((_COUNT, 2), bool)
    assert not predictions(_fit(kind, Task.MULTILABEL, {}, activations, none), activations)["labels"].any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_targets_and_classes_of_perceptrons():
    """A perceptron learns classes, labels and targets about as well as scikit-learn's own fit."""
    activations = _activations()
    params = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.02, "max_iter": 30}
    classes = _classes(activations, 3)
    fitted = _fit(ProbeKind.MLP, Task.CLASSES, params, activations, classes)
    expected = _in_memory(ProbeKind.MLP, Task.CLASSES, params, activations, classes)
    right, usual = ((predictions(one, activations)["labels"] == classes).mean() for one in (fitted, expected))
    assert right > usual - 0.07
    labels = classes[:, None] == np.arange(3)
    fitted = _fit(ProbeKind.MLP, Task.MULTILABEL, params, activations, labels)
    assert (predictions(fitted, activations)["labels"] == labels).mean() > 0.8
    random = np.random.default_rng(0)
    for shape in ((_FEATURES,), (_FEATURES, 2)):
        y = StandardScaler().fit_transform(activations) @ random.normal(size=shape) * 50 + 1000
        fitted = _fit(ProbeKind.MLP, Task.REGRESSION, params, activations, y)
        error = predictions(fitted, activations)["scores"] - y.reshape(_COUNT, -1)
        assert (error**2).mean() < 0.1 * y.var()


def test_perceptrons_stop_and_repeat():
    """Training ends when the loss stays, weights count, and the same seed gives the same probe."""
    activations = _activations()
    y = _classes(activations, 2)
    params = {"hidden_layer_sizes": (4,), "learning_rate_init": 0.05, "tol": 0.01, "n_iter_no_change": 3}
    weights = np.where(y == 1, 0.0, 1.0)
    one, other = (_fit(ProbeKind.MLP, Task.CLASSES, params, activations, y, seed=3) for _ in range(2))
    assert one.estimator.n_iter_ < 100
    assert np.array_equal(one.estimator.coefs_[0], other.estimator.coefs_[0])
    weighted = _fit(ProbeKind.MLP, Task.CLASSES, params, activations, y, weights=weights)
    assert (predictions(weighted, activations)["labels"] == 0).mean() > 0.98


@pytest.mark.parametrize("weighted", [False, True])
def test_kmeans(weighted):
    """K-means finds clusters that are there, and its centres are the means of what is nearest."""
    random = np.random.default_rng(0)
    where = random.integers(0, 4, _COUNT)
    activations = (20 * random.normal(size=(4, _FEATURES))[where] + random.normal(size=(_COUNT, _FEATURES))).astype(
        np.float32
    )
    weights = random.uniform(0.5, 2, _COUNT) if weighted else None
    params = {"n_clusters": 4, "standardize": False}
    fitted = _fit(ProbeKind.KMEANS, Task.UNSUPERVISED, params, activations, None, weights=weights)
    assert type(fitted.estimator) is KMeans
    found = predictions(fitted, activations)["labels"]
    for cluster in range(4):
        members = found == cluster
        assert len(np.unique(where[members])) == 1
        mean = np.average(activations[members], axis=0, weights=None if weights is None else weights[members])
        np.testing.assert_allclose(fitted.estimator.cluster_centers_[cluster], mean, rtol=1e-5)
    assert fitted.estimator.labels_.tolist() == found.tolist()
    expected = _in_memory(ProbeKind.KMEANS, Task.UNSUPERVISED, params, activations, None, weights=weights)
    assert fitted.estimator.inertia_ == pytest.approx(expected.estimator.inertia_, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (ProbeKind.KNN, {}),
        (ProbeKind.LOGISTIC, {"solver": "saga", "l1_ratio": 0.5}),
        (ProbeKind.SVM, {"loss": "hinge"}),
        (ProbeKind.LDA, {"solver": "lsqr", "shrinkage": "auto"}),
        (ProbeKind.MLP, {"early_stopping": True}),
    ],
    ids=str,
)
def test_what_needs_all_rows(kind, params):
    """Such probes are fitted while their rows fit into a block, else the error says what to do."""
    activations = _activations()
    y = _classes(activations, 3)
    with pytest.raises(LimitExceededError, match=r"fewer rows.*--probe-memory-bytes") as caught:
        batches.learner(kind, Task.CLASSES, params, None, 0, 10_000).fit(
            in_memory(activations), np.arange(_COUNT), y, None
        )
    assert caught.value.metadata["setting"] == "probe_memory_bytes"
    some = np.arange(0, _COUNT, 8)
    fitted = batches.learner(kind, Task.CLASSES, params, None, 0, 10_000).fit(
        in_memory(activations), some, y[some], None
    )
    assert fitted.classes == (0, 1, 2)


def test_parameters_out_of_range():
    """Unknown parameters, and those that scikit-learn refuses, are errors of the data."""
    activations = _activations()
    with pytest.raises(DataInvalidError, match="no parameter"):
        batches.learner(ProbeKind.RIDGE, Task.CLASSES, {"depth": 3}, None, 0, 1000)
    for kind, params in ((ProbeKind.RIDGE, {"alpha": -1.0}), (ProbeKind.MLP, {"alpha": "x"})):
        with pytest.raises(DataInvalidError, match="alpha"):
            _fit(kind, Task.CLASSES, params, activations, _classes(activations, 2))


@pytest.mark.parametrize("kind", [ProbeKind.RIDGE, ProbeKind.LOGISTIC, ProbeKind.MLP])
def test_rows_may_end_a_fit(kind):
    """A fit of many passes ends as soon as rows refuse a block, which is how a caller who is gone ends it."""

    class Ending(_Counting):
        left = 20

        def blocks(self, examples, size):
            for block in super().blocks(examples, size):
                self.left -= 1
                if not self.left:
                    raise RunCancelledError("the fit was ended")
                yield block

    activations = _activations()
    rows = Ending(activations)
    learner = batches.learner(kind, Task.CLASSES, {}, None, 0, 15 * (_FEATURES + 2) * 24)
    with pytest.raises(RunCancelledError):
        learner.fit(rows, np.arange(_COUNT), _classes(activations, 2), None)
    assert rows.left == 0


def test_memory_does_not_grow_with_rows():
    """A store of 100 MB is written and learned from with less than half of that in memory, buffers and all."""
    command = [sys.executable, "-m", "tests.benchmarks.probe_memory", "100000", "256", str(8 << 20)]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # on a busy machine its threads wait for one another
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, env=alone)
    told = json.loads(done.stdout)
    assert told["peak"] - told["before"] < 50e6


@pytest.mark.parametrize("sizes", [10**9, [10**9], [10, 10**7, 10]])
def test_a_network_that_would_fill_memory_is_refused(sizes):
    """Before it is made: the server of everybody else would go with it."""
    activations = _activations()
    y = np.arange(_COUNT) % 2
    learner = batches.learner(ProbeKind.MLP, Task.CLASSES, {"hidden_layer_sizes": sizes}, None, 0, 1 << 28)
    with pytest.raises(LimitExceededError, match="smaller hidden_layer_sizes"):
        learner.fit(in_memory(activations), np.arange(_COUNT), y, None)
