"""Probes from sums: the same as scikit-learn finds with everything in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import ProbeKind, Task
from onnxscope_server.probes import batches, kinds, streamed
from onnxscope_server.probes.array_rows import in_memory

_ATTRIBUTES = (
    "coef_",
    "intercept_",
    "means_",
    "priors_",
    "covariance_",
    "centroids_",
    "class_prior_",
    "within_class_std_dev_",
    "deviations_",
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "noise_variance_",
    "mean_",
    "classes_",
)
_CLASSIFIERS = [ProbeKind.RIDGE, ProbeKind.LDA, ProbeKind.MEAN_DIFFERENCE, ProbeKind.NEAREST_CENTROID]
_CLASSES = [
    (ProbeKind.RIDGE, {}),
    (ProbeKind.RIDGE, {"alpha": 0.01, "fit_intercept": False}),
    (ProbeKind.LDA, {}),
    (ProbeKind.LDA, {"solver": "svd"}),
    (ProbeKind.LDA, {"solver": "svd", "store_covariance": True}),
    (ProbeKind.LDA, {"priors": [0.2, 0.3, 0.5]}),
    (ProbeKind.LDA, {"solver": "lsqr"}),
    (ProbeKind.LDA, {"solver": "lsqr", "shrinkage": 0.3}),
    (ProbeKind.LDA, {"solver": "eigen"}),
    (ProbeKind.MEAN_DIFFERENCE, {}),
    (ProbeKind.MEAN_DIFFERENCE, {"covariance": True, "standardize": True}),
    (ProbeKind.NEAREST_CENTROID, {}),
    (ProbeKind.NEAREST_CENTROID, {"shrink_threshold": 0.2, "priors": "empirical"}),
    (ProbeKind.RIDGE, {"standardize": False}),
    (ProbeKind.LDA, {"standardize": False}),
    (ProbeKind.MEAN_DIFFERENCE, {"standardize": True}),
    (ProbeKind.MEAN_DIFFERENCE, {"covariance": True}),
]


def _activations(seed: int, count: int = 90, features: int = 5, offset: float = 3.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, features)) @ random.normal(size=(features, features))
    return (mixed * np.logspace(0, 1, features) + offset).astype(np.float32)


def _classes(seed: int, activations: np.ndarray, class_count: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = activations @ random.normal(size=(activations.shape[1], class_count))
    classes = (values / values.std(axis=0) + random.normal(size=values.shape)).argmax(axis=1)
    classes[:class_count] = np.arange(class_count)
    return classes


def _both(kind, task, params, activations, y, *, size, weights=None, class_weight=None, examples=None):
    """Fits in memory and in blocks of `size`."""
    rows = in_memory(activations)
    if examples is None:
        examples = np.random.default_rng(0).permutation(len(activations))
    y = None if y is None else y[examples]
    weights = None if weights is None else weights[examples]
    memory = kinds.learner(kind, task, params, class_weight, 0)
    assert streamed.can(memory)
    outputs = len(np.unique(y)) if task == Task.CLASSES else 1 if y is None or y.ndim == 1 else y.shape[1]
    block_bytes = size * (rows.shape[1] + outputs) * 24
    assert block_bytes < activations.size * 24
    blocks = batches.learner(kind, task, params, class_weight, 0, block_bytes)
    return memory.fit(rows, examples, y, weights), blocks.fit(rows, examples, y, weights)


def _assert_same(expected, found, tolerance=1e-6):
    assert (found.kind, found.task, found.classes) == (expected.kind, expected.task, expected.classes)
    assert found.feature_count == expected.feature_count
    assert (found.scaler is None) == (expected.scaler is None)
    if expected.scaler is not None:
        for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
            np.testing.assert_allclose(
                getattr(found.scaler, name), getattr(expected.scaler, name), rtol=1e-9, atol=1e-9
            )
    pairs = [(expected.estimator, found.estimator)]
    if hasattr(expected.estimator, "estimators_"):
        pairs = list(zip(expected.estimator.estimators_, found.estimator.estimators_, strict=True))
    for wanted, got in pairs:
        assert type(wanted) is type(got)
        assert wanted.n_features_in_ == got.n_features_in_
        for name in _ATTRIBUTES:
            if name not in vars(wanted):
                continue
            value = np.asarray(getattr(wanted, name))
            assert np.shape(getattr(got, name)) == value.shape, name
            scale = float(np.abs(value).max())
            np.testing.assert_allclose(
                getattr(got, name), value, rtol=0, atol=tolerance * max(scale, 1e-6), err_msg=name
            )


@pytest.mark.parametrize(("kind", "params"), _CLASSES, ids=str)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 50), class_count=st.sampled_from([2, 3]))
@settings(max_examples=8, deadline=None)
def test_classes(kind, params, seed, size, class_count):
    """Every kind that sums suffice for has scikit-learn's own coefficients, however the examples are split."""
    if params.get("priors", "empirical") != "empirical":
        params = {**params, "priors": np.array(params["priors"])[-class_count:] / sum(params["priors"][-class_count:])}
    activations = _activations(seed)
    _assert_same(*_both(kind, Task.CLASSES, params, activations, _classes(seed, activations, class_count), size=size))


@pytest.mark.parametrize("kind", _CLASSIFIERS)
@pytest.mark.parametrize("task", [Task.CLASSES, Task.MULTILABEL])
def test_weights(kind, task):
    """Weights of rows and of classes count as in memory; standardisation knows those of rows only."""
    activations = _activations(1)
    classes = _classes(1, activations, 3)
    weights = np.random.default_rng(2).uniform(0.1, 3, len(classes))
    if task == Task.CLASSES:
        text = np.array(["a", "b", "c"], object)[classes]
        for class_weight in (None, "balanced", {"a": 3.0}):
            _assert_same(
                *_both(kind, task, {}, activations, text, size=20, weights=weights, class_weight=class_weight),
                tolerance=1e-6 if kind != ProbeKind.NEAREST_CENTROID else 1,
            )
        return
    expected, found = _both(kind, task, {}, activations, classes[:, None] == np.arange(3), size=20, weights=weights)
    if kind == ProbeKind.NEAREST_CENTROID:
        for one, other in zip(expected.estimator.estimators_, found.estimator.estimators_, strict=True):
            np.testing.assert_allclose(one.centroids_, other.centroids_, atol=1e-9)
    else:
        _assert_same(expected, found)


@pytest.mark.parametrize("kind", _CLASSIFIERS)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 49))
@settings(max_examples=5, deadline=None)
def test_several_labels(kind, seed, size):
    """Several labels, of which one is the same on every row; blocks of 50 with four labels would be all there is."""
    activations = _activations(seed)
    labels = _classes(seed, activations, 3)[:, None] == np.array([0, 1, 2, 7])
    _assert_same(*_both(kind, Task.MULTILABEL, {}, activations, labels, size=size))


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 50),
    targets=st.sampled_from([0, 1, 3]),
    intercept=st.booleans(),
    weighted=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_regression(seed, size, targets, intercept, weighted):
    """Ridge regression of one target or several, with weights and without."""
    activations = _activations(seed)
    random = np.random.default_rng(seed)
    y = activations @ random.normal(size=(5, max(1, targets))) + random.normal(size=(len(activations), 1)) + 100
    weights = random.uniform(0.1, 3, len(y)) if weighted else None
    params = {"alpha": 2.0, "fit_intercept": intercept}
    _assert_same(
        *_both(
            ProbeKind.RIDGE,
            Task.REGRESSION,
            params,
            activations,
            y if targets else y[:, 0],
            size=size,
            weights=weights,
        )
    )


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 50),
    components=st.sampled_from([1, 3, 5, None, 0.9]),
    standardize=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_pca(seed, size, components, standardize):
    """PCA has scikit-learn's components, in sign too, and their variances."""
    params = {"n_components": components, "standardize": standardize, "svd_solver": "full"}
    _assert_same(*_both(ProbeKind.PCA, Task.UNSUPERVISED, params, _activations(seed), None, size=size))


def test_pca_of_no_named_components():
    """As many components as in memory; and more than there can be are an error that says so."""
    activations = _activations(3, features=20)
    _assert_same(*_both(ProbeKind.PCA, Task.UNSUPERVISED, {}, activations, None, size=30))
    with pytest.raises(DataInvalidError, match="n_components"):
        batches.learner(ProbeKind.PCA, Task.UNSUPERVISED, {"n_components": 21}, None, 0, 1000).fit(
            in_memory(activations), np.arange(90), None, None
        )


def test_weights_that_scikit_learn_does_not_know():
    """Kinds that know no weights in memory know none here."""
    activations = _activations(4)
    for kind, task, params, y in (
        (ProbeKind.PCA, Task.UNSUPERVISED, {}, None),
        (ProbeKind.LDA, Task.CLASSES, {"solver": "svd"}, _classes(4, activations, 3)),
    ):
        with pytest.raises(DataInvalidError, match="weights"):
            batches.learner(kind, task, params, None, 0, 1000).fit(
                in_memory(activations), np.arange(90), y, np.ones(90)
            )


@pytest.mark.parametrize("offset", [1e4, -1e6])
def test_activations_far_from_zero(offset):
    """Activations whose mean is far larger than what varies lose no digits."""
    activations = _activations(5, offset=offset)
    classes = _classes(5, activations - offset, 3)
    scaled = {"covariance": True, "standardize": True}
    for kind, params in ((ProbeKind.RIDGE, {}), (ProbeKind.LDA, {}), (ProbeKind.MEAN_DIFFERENCE, scaled)):
        _assert_same(*_both(kind, Task.CLASSES, params, activations, classes, size=7), tolerance=1e-5)


def test_constant_and_repeated_features():
    """A feature that never changes, and one that repeats another, do no harm and have scikit-learn's coefficients."""
    activations = _activations(6)
    activations[:, 1] = np.float32(0.1)
    activations[:, 2] = activations[:, 3]
    classes = _classes(6, activations, 3)
    for kind, params in ((ProbeKind.RIDGE, {}), (ProbeKind.LDA, {"solver": "svd"}), (ProbeKind.LDA, {})):
        expected, found = _both(kind, Task.CLASSES, params, activations, classes, size=11)
        assert found.scaler.scale_[1] == 1
        _assert_same(expected, found)


def test_some_of_the_examples():
    """Only the examples that are named count, in whatever order, and repeated ones twice."""
    activations = _activations(7)
    classes = _classes(7, activations, 3)
    examples = np.random.default_rng(0).integers(0, 90, 120)
    _assert_same(*_both(ProbeKind.RIDGE, Task.CLASSES, {}, activations, classes, size=20, examples=examples))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_numbers(value):
    """NaN and infinity are found."""
    activations = _activations(8)
    activations[80, 2] = value
    with pytest.raises(DataInvalidError, match="NaN or infinity"):
        batches.learner(ProbeKind.RIDGE, Task.CLASSES, {}, None, 0, 1000).fit(
            in_memory(activations), np.arange(90), np.arange(90) % 3, None
        )


def test_a_single_class():
    """One class is an error that names it."""
    with pytest.raises(DataInvalidError, match="'a'"):
        batches.learner(ProbeKind.RIDGE, Task.CLASSES, {}, None, 0, 1000).fit(
            in_memory(_activations(9)), np.arange(90), np.array(["a"] * 90, object), None
        )
