"""Parity of exported probes with scikit-learn, on onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from onnxscope_server.errors import DataInvalidError, ProbeUnfaithfulError
from onnxscope_server.probe_domain import Fitted, ProbeInfo, ProbeKind, Task
from onnxscope_server.probes import export, graph_writer, kinds, metadata
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.predict import predictions

CLASSIFIERS = (
    ProbeKind.LOGISTIC,
    ProbeKind.SVM,
    ProbeKind.RIDGE,
    ProbeKind.MEAN_DIFFERENCE,
    ProbeKind.LDA,
    ProbeKind.NEAREST_CENTROID,
    ProbeKind.KNN,
    ProbeKind.MLP,
)
REGRESSORS = (ProbeKind.RIDGE, ProbeKind.KNN, ProbeKind.MLP)
UNSUPERVISED = (ProbeKind.PCA, ProbeKind.KMEANS)
LINEAR = (*CLASSIFIERS[:5], ProbeKind.PCA)
QUICK: dict[ProbeKind, dict[str, Any]] = {
    ProbeKind.MLP: {"max_iter": 5, "hidden_layer_sizes": [8]},
    ProbeKind.KMEANS: {"n_clusters": 4},
}
FEATURES = ("plain", "badly scaled")
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # that scikit-learn did not converge, met constant features ...
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # classes without any spread
]


def activations(scaling: str = "plain", count: int = 120, feature_count: int = 9) -> np.ndarray:
    """Returns float32 [example, feature]; badly scaled: offsets of 1e4, small and large units, a constant."""
    values = np.random.default_rng(3).normal(size=(count, feature_count))
    values[:, 1] += values[:, 0]
    if scaling == "badly scaled":
        values = values * 10.0 ** np.linspace(-2, 3, feature_count) + np.linspace(-1e4, 1e4, feature_count)
        values[:, 2] = 7.25
    return values.astype(np.float32)


def labels(features: np.ndarray, class_count: int) -> np.ndarray:
    """Returns int64 [example], which depend on the features, with some noise."""
    first = (features[:, 0] - features[:, 0].mean()) / features[:, 0].std()
    noisy = first + np.random.default_rng(4).normal(size=len(first)) / 3
    return np.argsort(np.argsort(noisy)) * class_count // len(noisy)


def fitted_of(
    kind: ProbeKind, features: np.ndarray, y: np.ndarray | None, weights: np.ndarray | None = None, /, **params: Any
) -> Fitted:
    """Fits a probe on all examples."""
    learner = kinds.learner(kind, kinds.task_of(kind, y), QUICK.get(kind, {}) | params, None, 0)
    return learner.fit(in_memory(features), np.arange(len(features)), y, weights)


def info_of(fitted: Fitted) -> ProbeInfo:
    """Describes a probe."""
    return ProbeInfo("p", "d1", "relu_1", None, fitted.kind, fitted.task, fitted.classes)


def assert_faithful(fitted: Fitted, features: np.ndarray, predictor: Any) -> bytes:
    """Exports a probe, checks it as the server does, and on its own account: shapes, types, and an open batch axis."""
    data = export.faithful(fitted, info_of(fitted), features, predictor)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    for rows in (features, features[:1], features[:0]):
        got, expected = predictor(data, rows), predictions(fitted, features)
        assert set(got) == set(expected)
        for name, array in got.items():
            assert array.dtype == expected[name].dtype
            assert array.shape == (len(rows), *expected[name].shape[1:])
    return data


@pytest.mark.parametrize("scaling", FEATURES)
@pytest.mark.parametrize("class_count", [2, 3, 10])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classes(kind, class_count, scaling, predictor):
    """Scores and labels of every kind and number of classes are scikit-learn's, in float32 alone."""
    features = activations(scaling)
    fitted = fitted_of(kind, features, labels(features, class_count))
    data = assert_faithful(fitted, features, predictor)
    assert data == export.to_onnx(fitted, info_of(fitted))
    unseen = activations(scaling)[::-1] * np.float32(1.0001)
    export.check(data, fitted, unseen, predictor)


@pytest.mark.parametrize("class_count", [2, 3])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_text_classes(kind, class_count, predictor):
    """Labels come out as the text that they were, and as integers where they are that, however far apart."""
    features = activations()
    numbers = labels(features, class_count)
    for names in (np.array(["ä", "b c", "z"], object), np.array([-7, 40, 2**40])):
        fitted = fitted_of(kind, features, names[numbers])
        data = assert_faithful(fitted, features, predictor)
        assert set(predictor(data, features)["labels"]) <= set(names)


@pytest.mark.parametrize("scaling", FEATURES)
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_several_labels(kind, scaling, predictor):
    """Several labels a row, among them one that all rows have, one that none has, and one alone."""
    features = activations(scaling)
    count = len(features)
    several = np.stack(
        [labels(features, 2) > 0, np.ones(count, bool), np.zeros(count, bool), labels(features, 3) == 1], axis=1
    )
    for y in (several, several[:, :1], several[:, :2]):
        assert_faithful(fitted_of(kind, features, y), features, predictor)


@pytest.mark.parametrize("scaling", FEATURES)
@pytest.mark.parametrize("kind", REGRESSORS)
def test_regression(kind, scaling, predictor):
    """One target and several."""
    features = activations(scaling)
    targets = np.stack([features[:, 0] * 2 + 1, features[:, 1] ** 2], axis=1).astype(np.float64)
    for y in (targets[:, 0], targets[:, :1], targets):
        assert_faithful(fitted_of(kind, features, y), features, predictor)


@pytest.mark.parametrize("scaling", FEATURES)
@pytest.mark.parametrize("kind", UNSUPERVISED)
def test_unsupervised(kind, scaling, predictor):
    """Components and clusters."""
    features = activations(scaling)
    assert_faithful(fitted_of(kind, features, None), features, predictor)


@pytest.mark.parametrize("scaling", FEATURES)
@pytest.mark.parametrize("kind", [*CLASSIFIERS, *UNSUPERVISED])
def test_without_standardisation(kind, scaling, predictor):
    """What float32 can't hold, features that lie far from zero and were not standardised, is computed in float64."""
    features = activations(scaling)
    y = None if kind in UNSUPERVISED else labels(features, 3)
    assert_faithful(fitted_of(kind, features, y, standardize=False), features, predictor)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (ProbeKind.LOGISTIC, {"fit_intercept": False}),
        (ProbeKind.LOGISTIC, {"C": 1e6}),
        (ProbeKind.SVM, {"fit_intercept": False}),
        (ProbeKind.RIDGE, {"fit_intercept": False}),
        (ProbeKind.LDA, {"solver": "lsqr", "shrinkage": "auto"}),
        (ProbeKind.LDA, {"solver": "eigen"}),
        (ProbeKind.NEAREST_CENTROID, {"metric": "manhattan"}),
        (ProbeKind.NEAREST_CENTROID, {"shrink_threshold": 0.1}),
        (ProbeKind.KNN, {"weights": "distance"}),
        (ProbeKind.KNN, {"n_neighbors": 4}),
        (ProbeKind.KNN, {"n_neighbors": 500}),
        (ProbeKind.KNN, {"metric": "cosine", "weights": "distance"}),
        (ProbeKind.MLP, {"activation": "tanh", "hidden_layer_sizes": [5, 4]}),
        (ProbeKind.MLP, {"activation": "logistic"}),
        (ProbeKind.MLP, {"activation": "identity"}),
    ],
)
def test_parameters(kind, params, predictor):
    """What parameters change, the export follows."""
    features = activations()
    for class_count in (2, 3):
        assert_faithful(fitted_of(kind, features, labels(features, class_count), **params), features, predictor)
    if kind in REGRESSORS:
        assert_faithful(fitted_of(kind, features, features[:, :2] ** 2.0, **params), features, predictor)
        assert_faithful(fitted_of(kind, features, features[:, :2] > 0, **params), features, predictor)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (ProbeKind.PCA, {"whiten": True, "n_components": 3}),
        (ProbeKind.PCA, {"n_components": 0.9}),
        (ProbeKind.KMEANS, {"n_clusters": 1}),
    ],
)
def test_unsupervised_parameters(kind, params, predictor):
    """What parameters change, the export follows."""
    features = activations("badly scaled")
    assert_faithful(fitted_of(kind, features, None, **params), features, predictor)


def test_weights(predictor):
    """A weighted probe has another scaler and other centroids; examples of weight 0 are not there."""
    features = activations()
    weights = np.arange(len(features)) % 3.0
    for kind in (ProbeKind.NEAREST_CENTROID, ProbeKind.LDA, ProbeKind.LOGISTIC):
        assert_faithful(fitted_of(kind, features, labels(features, 3), weights), features, predictor)


def test_ties(predictor):
    """Where scores are equal the label is scikit-learn's: the first class."""
    features = np.array([[-1.0], [1.0], [-1.0], [1.0]], np.float32)
    y = np.array([0, 1, 0, 1])
    middle = np.zeros((1, 1), np.float32)
    for kind in (ProbeKind.RIDGE, ProbeKind.MEAN_DIFFERENCE, ProbeKind.NEAREST_CENTROID, ProbeKind.LDA):
        data = assert_faithful(fitted_of(kind, features, y), features, predictor)
        assert predictor(data, middle)["labels"] == [0]
    votes = fitted_of(ProbeKind.KNN, features, y, n_neighbors=4)
    data = assert_faithful(votes, features, predictor)
    assert predictor(data, middle)["labels"] == predictions(votes, middle)["labels"] == [0]


def test_equal_neighbours(predictor):
    """A training row finds itself at distance 0, and rows that are there more than once are no reason to refuse."""
    features = np.concatenate([activations("badly scaled")] * 2)
    y = labels(features, 3)
    fitted = fitted_of(ProbeKind.KNN, features[:120], y[:120], weights="distance")
    data = assert_faithful(fitted, features, predictor)
    assert (predictor(data, features[:120])["labels"] == y[:120]).all()
    whole = np.round(activations())
    for count in (1, 3, 6):
        assert_faithful(fitted_of(ProbeKind.KNN, whole, labels(whole, 2), n_neighbors=count), whole, predictor)


def test_saturated_probabilities(predictor):
    """Probabilities that float32 rounds to 1 have the label of the larger logit, and don't overflow."""
    features = activations()
    fitted = fitted_of(ProbeKind.LOGISTIC, features, labels(features, 3))
    fitted.estimator.coef_ *= 1e3
    far = features * np.float32(100)
    scores = predictor(export.to_onnx(fitted, info_of(fitted)), far)["scores"]
    assert np.isfinite(scores).all()
    export.check(export.to_onnx(fitted, info_of(fitted)), fitted, far, predictor)


def test_plain_operators(predictor):
    """Every kind is plain ONNX of opset 13 alone, and gives the same when it is read as opset 21."""
    features = activations()
    for kind in (*CLASSIFIERS, *UNSUPERVISED):
        y = None if kind in UNSUPERVISED else labels(features, 3)
        data = export.to_onnx(fitted_of(kind, features, y), ProbeInfo("p", "d", "a", None, kind, Task.CLASSES))
        model = onnx.load_from_string(data)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", graph_writer.OPSET)]
        assert [value.name for value in model.graph.input] == ["activation"]
        expected = predictor(data, features)
        model.opset_import[0].version = 21
        onnx.checker.check_model(model, full_check=True)
        for name, array in predictor(model.SerializeToString(), features).items():
            np.testing.assert_array_equal(array, expected[name])


def test_linear_probes_are_small():
    """A linear probe is one Gemm behind the activation, and a Sub only where the mean is large."""
    for scaling, subtractions in (("plain", 0), ("badly scaled", 1)):
        features = activations(scaling)
        fitted = fitted_of(ProbeKind.LOGISTIC, features, labels(features, 2))
        nodes = [one.op_type for one in onnx.load_from_string(export.to_onnx(fitted, info_of(fitted))).graph.node]
        assert nodes.count("Gemm") == 1
        assert nodes.count("Sub") == subtractions


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("kind", "scaling"), list(itertools.product(LINEAR, FEATURES)))
def test_arrays(kind, scaling, double):
    """The arrays of a linear probe say in the space of the activations what it computes; two classes have one row."""
    features = activations(scaling)
    for class_count in (2, 3):
        y = None if kind == ProbeKind.PCA else labels(features, class_count)
        fitted = fitted_of(kind, features, y)
        arrays = metadata.arrays(export.to_onnx(fitted, info_of(fitted), double=double))
        decision = features.astype(np.float64) @ arrays["coef"].T + arrays["intercept"]
        scaled = features.astype(np.float64)
        if fitted.scaler is not None:
            scaled = fitted.scaler.transform(scaled)
        if kind == ProbeKind.PCA:
            expected = fitted.estimator.transform(scaled)
        else:
            expected = fitted.estimator.decision_function(scaled).reshape(len(features), -1)
            assert len(arrays["coef"]) == len(arrays["intercept"]) == (1 if class_count == 2 else 3)
        np.testing.assert_allclose(decision, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_no_arrays():
    """A probe that is not linear has none."""
    features = activations()
    for kind in (ProbeKind.KNN, ProbeKind.MLP, ProbeKind.KMEANS, ProbeKind.NEAREST_CENTROID):
        fitted = fitted_of(kind, features, None if kind == ProbeKind.KMEANS else labels(features, 3))
        assert metadata.arrays(export.to_onnx(fitted, info_of(fitted))) == {}


def test_unfaithful(predictor):
    """What predicts otherwise is refused, with words on how far off it is: scores, labels, NaN, shapes, outputs."""
    features = activations()
    fitted = fitted_of(ProbeKind.LOGISTIC, features, labels(features, 3))
    data = export.to_onnx(fitted, info_of(fitted))
    good = dict(predictor(data, features))
    export.check(data, fitted, features, lambda *_: good)
    off = good["scores"].copy()
    off[5, 1] += 2e-3
    with pytest.raises(ProbeUnfaithfulError, match=r"scores of 1 of 120 examples differ, by up to 0\.002"):
        export.check(data, fitted, features, lambda *_: good | {"scores": off})
    other = good["labels"].copy()
    other[7] = (other[7] + 1) % 3
    with pytest.raises(ProbeUnfaithfulError, match="labels of 1 of 120 examples differ, the first of them example 7"):
        export.check(data, fitted, features, lambda *_: good | {"labels": other})
    with pytest.raises(ProbeUnfaithfulError, match="nan"):
        export.check(data, fitted, features, lambda *_: good | {"scores": off * np.nan})
    with pytest.raises(ProbeUnfaithfulError, match="outputs scores"):
        export.check(data, fitted, features, lambda *_: good | {"scores": off[:, :2]})
    with pytest.raises(ProbeUnfaithfulError, match="outputs labels"):
        export.faithful(fitted, info_of(fitted), features, lambda *_: {"scores": off})


def test_a_tie_is_no_reason_to_refuse(predictor):
    """Labels may differ where the two best scores are closer than 1e-5."""
    features = np.array([[-1.0], [1.0], [0.0]], np.float32)
    fitted = fitted_of(ProbeKind.RIDGE, features[:2], np.array([0, 1]))
    data = export.to_onnx(fitted, info_of(fitted))
    got = dict(predictor(data, features))
    export.check(data, fitted, features, lambda *_: got | {"labels": np.array([0, 1, 1])})


def test_no_metric_of_onnx():
    """A metric that has no ONNX is refused with the ones that have."""
    features = activations()
    fitted = fitted_of(ProbeKind.KNN, features, labels(features, 2), metric="manhattan")
    with pytest.raises(DataInvalidError, match="choose euclidean or cosine"):
        export.to_onnx(fitted, info_of(fitted))


def test_too_large(monkeypatch):
    """A probe beyond the size of an ONNX file is refused before it is written."""
    monkeypatch.setattr(graph_writer, "CONSTANT_LIMIT_BYTES", 1000)
    features = activations()
    fitted = fitted_of(ProbeKind.KNN, features, labels(features, 2))
    with pytest.raises(DataInvalidError, match="too large to keep"):
        export.to_onnx(fitted, info_of(fitted))
