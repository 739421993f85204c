"""Probes that follow exactly from sums: one pass over activations, whatever their number.

Sums -> the attributes that scikit-learn's own `fit` would find, set on an estimator of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import ProbeKind, Task
from onnxscope_server.probes import discriminants
from onnxscope_server.probes.kinds import PCA_COMPONENTS, MemoryLearner, constant, given, several
from onnxscope_server.probes.sums import Data, Sums, summed

_KINDS = frozenset(
    {ProbeKind.MEAN_DIFFERENCE, ProbeKind.NEAREST_CENTROID, ProbeKind.LDA, ProbeKind.RIDGE, ProbeKind.PCA}
)


def can(learner: MemoryLearner) -> bool:
    """Tells whether sums are all that probes of a kind with these parameters need."""
    params = learner.params
    # priors weigh the classes' covariances, which are not summed one by one
    by_class = params.get("solver", "svd") != "svd" or params.get("store_covariance")
    return learner.kind in _KINDS and not (
        (by_class and params.get("priors") is not None)
        or params.get("positive")
        or params.get("shrinkage") == "auto"
        or params.get("covariance_estimator") is not None
        or params.get("n_components") == "mle"
        or params.get("metric", "euclidean") != "euclidean"
    )


def fit(learner: MemoryLearner, data: Data) -> tuple[Any, Any]:
    """Fits a probe in one pass.

    Returns:
        A `StandardScaler` (None where the probe has none), and the estimator.

    Raises:
        DataInvalidError: nothing can be learned from the examples.
    """
    targets = _targets(learner.task, data)
    sums = summed(data, targets, full=_takes_covariance(learner))
    scaler = sums.scaler if learner.standardizes else None
    if scaler is not None:
        sums = sums.standardised()
    if learner.kind == ProbeKind.PCA:
        estimator = learner.made(sums.count)
        learner.check_weights(estimator, data.weights)
        if "n_components" not in learner.params:
            estimator.set_params(n_components=min(PCA_COMPONENTS, sums.count, data.feature_count))
        pca(estimator, sums)
    elif learner.kind == ProbeKind.RIDGE:
        estimator = _ridge(learner, data, sums)
    elif learner.task == Task.MULTILABEL and data.target is not None:
        estimator = several(
            constant(column, data.feature_count)
            if column.min() == column.max()
            else _of_classes(learner, data, sums.of_label(label))
            for label, column in enumerate(data.target.T)
        )
    else:
        estimator = _of_classes(learner, data, sums)
    return scaler, estimator


def _takes_covariance(learner: MemoryLearner) -> bool:
    if learner.kind == ProbeKind.MEAN_DIFFERENCE:
        return learner.has_covariance
    return learner.kind != ProbeKind.NEAREST_CENTROID


def _targets(task: Task, data: Data) -> Any:
    """Returns what is summed with activations [example, target]: 1 for examples of a class or label, else 0."""
    if data.target is None:
        return np.zeros((len(data), 0))
    if task == Task.CLASSES:
        places = (np.arange(len(data)), data.target)
        return scipy.sparse.csr_array((np.ones(len(data)), places))
    target = data.target.reshape(len(data), -1).astype(np.float64)
    return target - _mean(target, data) if task == Task.REGRESSION else target


def _mean(target: Array, data: Data) -> Array:
    return np.average(target, axis=0, weights=data.weights)


def _of_classes(learner: MemoryLearner, data: Data, sums: Sums) -> Any:
    """Returns an estimator of the classes that are the sums' targets."""
    if learner.kind == ProbeKind.MEAN_DIFFERENCE and not learner.has_covariance:
        return discriminants.mean_difference(sums.class_means)
    if learner.kind == ProbeKind.NEAREST_CENTROID:
        return nearest_centroid(learner.made(sums.count), sums)
    if not learner.is_closed:
        estimator = learner.made(sums.count)
        learner.check_weights(estimator, data.weights)
        return lda(estimator, sums)
    given = discriminants.Moments(sums.class_means, sums.within / sums.weight, sums.target_sums / sums.weight)
    return learner.closed(given)


def _ridge(learner: MemoryLearner, data: Data, sums: Sums) -> Any:
    """Returns a `Ridge` or `RidgeClassifier`; the latter learns -1 and 1."""
    estimator = learner.made(sums.count)
    target = given(data.target)
    if learner.task == Task.REGRESSION:
        few = target[:2]
        cross, means = sums.cross, _mean(target.reshape(len(data), -1), data)
    else:
        few = np.arange(len(sums.cross)) if learner.task == Task.CLASSES else target[:2]
        two = learner.task == Task.CLASSES and len(sums.cross) == 2  # noqa: PLR2004 -- then the second stands for both
        start = int(two)
        cross, means = 2 * sums.cross[start:], 2 * sums.target_sums[start:] / sums.weight - 1
    estimator.fit(np.zeros((len(few), data.feature_count)), few)  # for all that does not depend on activations
    coef, intercept = ridge(estimator, sums, cross, means)
    estimator.coef_ = coef.reshape(np.shape(estimator.coef_))
    if estimator.fit_intercept:
        estimator.intercept_ = intercept.reshape(np.shape(estimator.intercept_))
    return estimator


def ridge(estimator: Any, sums: Sums, cross: Array, target_means: Array) -> tuple[Array, Array]:
    """Solves ridge regression.

    Args:
        estimator: a `Ridge` or `RidgeClassifier`, for its parameters.
        sums: over activations.
        cross: weighted sums of targets times activations less their mean [target, feature].
        target_means: weighted [target].

    Returns:
        Weights [target, feature] and intercepts [target].
    """
    gram, right = sums.scatter, cross
    if not estimator.fit_intercept:
        gram = gram + sums.weight * np.outer(sums.mean, sums.mean)
        right = right + sums.weight * np.outer(target_means, sums.mean)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0) + np.reshape(estimator.alpha, (-1, 1))
    # without a penalty, weights on what no activation varies in are 0
    floor = np.finfo(float).eps * len(gram) * values.max(axis=1, keepdims=True)
    inverse = np.where(values > floor, 1 / np.maximum(values, floor), 0)
    coef = (right @ vectors * inverse) @ vectors.T
    if not estimator.fit_intercept:
        return coef, np.zeros(len(coef))
    return coef, target_means - coef @ sums.mean


def lda(estimator: Any, sums: Sums) -> Any:
    """Fits a `LinearDiscriminantAnalysis` as its solver would, shrinkage "auto" and estimators of covariance aside."""
    priors = sums.target_sums / sums.weight if estimator.priors is None else np.asarray(estimator.priors, np.float64)
    priors = priors / priors.sum()
    means = sums.class_means
    most = min(len(means) - 1, len(sums.mean))
    estimator.classes_ = np.arange(len(means))
    estimator.n_features_in_ = len(sums.mean)
    estimator.priors_, estimator.means_ = priors, means
    estimator._max_components = most if estimator.n_components is None else min(estimator.n_components, most)  # noqa: SLF001
    solve = {"svd": _lda_svd, "lsqr": _lda_lsqr, "eigen": _lda_eigen}[estimator.solver]
    solve(estimator, sums)
    if len(means) == 2:  # noqa: PLR2004
        estimator.coef_ = estimator.coef_[1:] - estimator.coef_[:1]
        estimator.intercept_ = estimator.intercept_[1:] - estimator.intercept_[:1]
    estimator._n_features_out = estimator._max_components  # noqa: SLF001
    return estimator


def _lda_svd(estimator: Any, sums: Sums) -> None:
    priors, means = estimator.priors_, estimator.means_
    within = sums.within / sums.weight
    # what rounding leaves of a feature that is constant in each class counts as nothing
    noise = 1e-15 * np.diagonal(sums.scatter) / sums.weight
    deviations = np.sqrt(np.where(np.diagonal(within) > noise, np.diagonal(within), 0))
    constant = deviations == 0
    within[constant], within[:, constant] = 0, 0
    deviations[constant] = 1
    values, vectors = np.linalg.eigh(within / deviations / deviations[:, np.newaxis])
    singular = np.sqrt(np.maximum(values[::-1], 0))
    rank = int((singular > estimator.tol).sum())
    scalings = vectors[:, ::-1][:, :rank] / deviations[:, np.newaxis] / singular[:rank]
    centre = priors @ means
    spread = np.sqrt(sums.weight * priors / (len(priors) - 1))[:, np.newaxis] * (means - centre)
    _, between, directions = np.linalg.svd(spread @ scalings, full_matrices=False)
    if not between.size or not between[0]:
        raise DataInvalidError("The activations' classes have the same mean: there is nothing to discriminate.")
    estimator.explained_variance_ratio_ = (between**2 / (between**2).sum())[: estimator._max_components]  # noqa: SLF001
    estimator.xbar_ = centre
    estimator.scalings_ = scalings @ directions.T[:, : int((between > estimator.tol * between[0]).sum())]
    coef = (means - centre) @ estimator.scalings_
    estimator.coef_ = coef @ estimator.scalings_.T
    estimator.intercept_ = np.log(priors) - 0.5 * (coef**2).sum(axis=1) - centre @ estimator.coef_.T
    if estimator.store_covariance:
        estimator.covariance_ = _pooled(estimator, sums)


def _lda_lsqr(estimator: Any, sums: Sums) -> None:
    estimator.covariance_ = _pooled(estimator, sums)
    estimator.coef_ = scipy.linalg.lstsq(estimator.covariance_, estimator.means_.T)[0].T
    _lda_intercept(estimator)


def _lda_eigen(estimator: Any, sums: Sums) -> None:
    estimator.covariance_ = _pooled(estimator, sums)
    total = _shrunk(estimator, sums.scatter / sums.weight)
    try:
        values, vectors = scipy.linalg.eigh(total - estimator.covariance_, estimator.covariance_)
    except np.linalg.LinAlgError as error:
        raise DataInvalidError(
            "Within the classes, some activations follow from others, which LDA's solver 'eigen' can't do with: use "
            "the solver 'svd', or a shrinkage."
        ) from error
    order = np.argsort(values)[::-1]
    estimator.explained_variance_ratio_ = (values / values.sum())[order][: estimator._max_components]  # noqa: SLF001
    estimator.scalings_ = vectors[:, order]
    estimator.coef_ = estimator.means_ @ estimator.scalings_ @ estimator.scalings_.T
    _lda_intercept(estimator)


def _lda_intercept(estimator: Any) -> None:
    products = (estimator.means_ * estimator.coef_).sum(axis=1)
    estimator.intercept_ = np.log(estimator.priors_) - 0.5 * products


def _pooled(estimator: Any, sums: Sums) -> Array:
    return _shrunk(estimator, sums.within / sums.weight)


def _shrunk(estimator: Any, covariance: Array) -> Array:
    shrinkage = estimator.shrinkage or 0.0
    shrunk = (1 - shrinkage) * covariance
    shrunk.flat[:: len(covariance) + 1] += shrinkage * covariance.trace() / len(covariance)
    return shrunk


def pca(estimator: Any, sums: Sums) -> None:
    """Fits a `PCA` in full, whatever its solver; of its parameter n_components, "mle" aside."""
    features = len(sums.mean)
    most = min(sums.count, features)
    values, vectors = np.linalg.eigh(sums.scatter / (sums.count - 1))
    variances = np.maximum(values[::-1], 0)[:most]
    components = vectors[:, ::-1].T[:most]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(most), largest])[:, np.newaxis]
    total = float(np.trace(sums.scatter)) / (sums.count - 1)
    shares = variances / total if total else np.zeros(most)
    count = most if estimator.n_components is None else estimator.n_components
    if 0 < count < 1:
        count = int(np.searchsorted(np.cumsum(shares), count, side="right")) + 1
    if count > most:
        raise DataInvalidError(
            f"{count} components need at least as many examples and features, and here are {sums.count} examples of "
            f"{features} features: ask for fewer (n_components)."
        )
    estimator.n_features_in_, estimator.n_samples_ = features, sums.count
    estimator.mean_ = sums.mean
    estimator.components_ = components[:count]
    estimator.n_components_ = count
    estimator.explained_variance_ = variances[:count]
    estimator.explained_variance_ratio_ = shares[:count]
    estimator.singular_values_ = np.sqrt(variances[:count] * (sums.count - 1))
    estimator.noise_variance_ = float(variances[count:].mean()) if count < most else 0.0


def nearest_centroid(estimator: Any, sums: Sums) -> Any:
    """Fits a `NearestCentroid` of the euclidean metric."""
    counts, centroids = sums.target_sums, sums.class_means
    class_count = len(centroids)
    priors: Any = estimator.priors
    if isinstance(priors, str):
        priors = counts / sums.weight if priors == "empirical" else np.ones(class_count)
    estimator.classes_, estimator.n_features_in_ = np.arange(class_count), len(sums.mean)
    estimator.class_prior_ = np.asarray(priors) / np.sum(priors)
    estimator.within_class_std_dev_ = np.sqrt(np.maximum(sums.within, 0) / max(1, sums.weight - class_count))
    spread = estimator.within_class_std_dev_ + np.median(estimator.within_class_std_dev_)
    unit = np.sqrt(1 / counts - 1 / sums.weight)[:, np.newaxis] * spread
    away = centroids - sums.mean
    estimator.deviations_ = np.divide(away, unit, out=np.zeros_like(away), where=unit > 0)
    if estimator.shrink_threshold:
        kept = np.maximum(np.abs(estimator.deviations_) - estimator.shrink_threshold, 0)
        estimator.deviations_ = np.sign(estimator.deviations_) * kept
        centroids = sums.mean + unit * estimator.deviations_
    estimator.centroids_ = centroids
    return estimator
