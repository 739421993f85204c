"""Linear probes, exact from sums: one pass over activations, whatever their number.

Each function gives an unfitted scikit-learn estimator the attributes that its own `fit` would find. Sums are those over
standardised activations; of classes, the targets that were summed are one column a class, 1 for its examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probes.sums import Sums


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
        gram = gram + sums.weight * np.outer(sums.centre, sums.centre)
        right = right + sums.weight * np.outer(target_means, sums.centre)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0) + np.reshape(estimator.alpha, (-1, 1))
    # without a penalty, weights on what no activation varies in are 0
    floor = np.finfo(float).eps * len(gram) * values.max(axis=1, keepdims=True)
    inverse = np.where(values > floor, 1 / np.maximum(values, floor), 0)
    coef = (right @ vectors * inverse) @ vectors.T
    if not estimator.fit_intercept:
        return coef, np.zeros(len(coef))
    return coef, target_means - coef @ sums.centre


def lda(estimator: Any, sums: Sums, classes: Array) -> None:
    """Fits a `LinearDiscriminantAnalysis` as its solver would, shrinkage "auto" and estimators of covariance aside."""
    priors = sums.target_sums / sums.weight if estimator.priors is None else np.asarray(estimator.priors, np.float64)
    priors = priors / priors.sum()
    means = sums.target_means
    most = min(len(classes) - 1, len(sums.centre))
    estimator.classes_ = classes
    estimator.n_features_in_ = len(sums.centre)
    estimator.priors_, estimator.means_ = priors, means
    estimator._max_components = most if estimator.n_components is None else min(estimator.n_components, most)  # noqa: SLF001
    solve = {"svd": _lda_svd, "lsqr": _lda_lsqr, "eigen": _lda_eigen}[estimator.solver]
    solve(estimator, sums)
    if len(classes) == 2:  # noqa: PLR2004
        estimator.coef_ = estimator.coef_[1:] - estimator.coef_[:1]
        estimator.intercept_ = estimator.intercept_[1:] - estimator.intercept_[:1]
    estimator._n_features_out = estimator._max_components  # noqa: SLF001


def _within(sums: Sums) -> Array:
    """Returns the sum of outer products [feature, feature] around the classes' means."""
    away = sums.target_means - sums.centre
    return sums.scatter - away.T @ (away * sums.target_sums[:, np.newaxis])


def _lda_svd(estimator: Any, sums: Sums) -> None:
    priors, means = estimator.priors_, estimator.means_
    within = _within(sums) / sums.weight
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
            "Within the classes, some activations follow from others, which LDA's solver 'eigen' can't do with: use the "
            "solver 'svd', or a shrinkage."
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
    return _shrunk(estimator, _within(sums) / sums.weight)


def _shrunk(estimator: Any, covariance: Array) -> Array:
    shrinkage = estimator.shrinkage or 0.0
    shrunk = (1 - shrinkage) * covariance
    shrunk.flat[:: len(covariance) + 1] += shrinkage * covariance.trace() / len(covariance)
    return shrunk


def pca(estimator: Any, sums: Sums) -> None:
    """Fits a `PCA` in full, whatever its solver; of its parameter n_components, "mle" aside."""
    features = len(sums.centre)
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
    estimator.mean_ = sums.centre
    estimator.components_ = components[:count]
    estimator.n_components_ = count
    estimator.explained_variance_ = variances[:count]
    estimator.explained_variance_ratio_ = shares[:count]
    estimator.singular_values_ = np.sqrt(variances[:count] * (sums.count - 1))
    estimator.noise_variance_ = float(variances[count:].mean()) if count < most else 0.0


def nearest_centroid(estimator: Any, sums: Sums, classes: Array) -> None:
    """Fits a `NearestCentroid` of the euclidean metric."""
    class_count = len(classes)
    counts = sums.target_sums
    centroids = sums.target_means
    diagonal = sums.scatter if sums.scatter.ndim == 1 else np.diagonal(sums.scatter)
    within = diagonal - counts @ (centroids - sums.centre) ** 2
    priors: Any = estimator.priors
    if isinstance(priors, str):
        priors = counts / sums.weight if priors == "empirical" else np.full(class_count, 1 / class_count)
    estimator.classes_, estimator.n_features_in_ = classes, len(sums.centre)
    estimator.class_prior_ = np.asarray(priors) / np.sum(priors)
    estimator.within_class_std_dev_ = np.sqrt(np.maximum(within, 0) / max(1, sums.weight - class_count))
    spread = estimator.within_class_std_dev_ + np.median(estimator.within_class_std_dev_)
    away = centroids - sums.centre
    unit = np.sqrt(1 / counts - 1 / sums.weight)[:, np.newaxis] * spread
    estimator.deviations_ = np.divide(away, unit, out=np.zeros_like(away), where=unit > 0)
    if estimator.shrink_threshold:
        kept = np.maximum(np.abs(estimator.deviations_) - estimator.shrink_threshold, 0)
        estimator.deviations_ = np.sign(estimator.deviations_) * kept
        centroids = sums.centre + unit * estimator.deviations_
    estimator.centroids_ = centroids
