"""Probes that need many passes over activations, which are read block by block in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.metrics import pairwise_distances_argmin_min

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import ProbeKind, Task
from onnxscope_server.probes.descent import (
    Minimum,
    Objective,
    logistic_loss,
    minimised,
    softmax_loss,
    squared_hinge_loss,
)
from onnxscope_server.probes.kinds import MemoryLearner, constant, given, scale_back, several, standardised_targets
from onnxscope_server.probes.sums import Data, standardised, summed

# examples that are shuffled together: they are read at once
_CHUNK = 64
# several outputs share one stop, and liblinear's own is a stricter one
_STRICTER = 0.1


def can(learner: MemoryLearner) -> bool:
    """Tells whether a kind with these parameters learns block by block."""
    given = {name: value for name, value in learner.params.items() if value is not None}
    match learner.kind:
        case ProbeKind.LOGISTIC:
            return (
                given.get("penalty", "l2") == "l2" and not given.get("l1_ratio") and given.get("solver") != "liblinear"
            )
        case ProbeKind.SVM:
            plain = {"penalty": "l2", "loss": "squared_hinge", "multi_class": "ovr"}
            return all(given.get(name, usual) == usual for name, usual in plain.items())
        case ProbeKind.MLP:
            stochastic = given.get("solver", "adam") != "lbfgs" and given.get("learning_rate") != "adaptive"
            return stochastic and not given.get("early_stopping")
        case _:
            return learner.kind == ProbeKind.KMEANS


def fit(learner: MemoryLearner, data: Data) -> tuple[Any, Any]:
    """Fits a probe.

    Returns:
        A `StandardScaler` (None where the probe has none), and the estimator.

    Raises:
        DataInvalidError: nothing can be learned from the examples.
    """
    scaler = summed(data, np.zeros((len(data), 0)), full=False).scaler  # NaN and infinity are found here
    if not learner.standardizes:
        scaler = None
    fits: Mapping[ProbeKind, Callable[[MemoryLearner, Data, Any], Any]] = {
        ProbeKind.LOGISTIC: _linear,
        ProbeKind.SVM: _linear,
        ProbeKind.MLP: _mlp,
        ProbeKind.KMEANS: _kmeans,
    }
    return scaler, fits[learner.kind](learner, data, scaler)


def _linear(learner: MemoryLearner, data: Data, scaler: Any) -> Any:
    """Returns a `LogisticRegression` or `LinearSVC`, or several of them for several labels."""
    estimator = learner.made(len(data))
    target = given(data.target)
    if learner.task == Task.MULTILABEL:
        varied = np.flatnonzero(target.min(axis=0) < target.max(axis=0))
        estimators = [constant(column, data.feature_count) for column in target.T]
        if len(varied):
            minimum = _minimum(estimator, data, target[:, varied] > 0, scaler, _STRICTER)
            for label, coef, intercept in zip(varied, minimum.coef, minimum.intercept, strict=True):
                one = replace(minimum, coef=coef[np.newaxis], intercept=intercept[np.newaxis])
                estimators[label] = _set(learner.made(len(data)), one, 2)
        return several(estimators)
    class_count = int(target.max()) + 1
    if class_count == 2:  # noqa: PLR2004 -- one decision for both
        return _set(estimator, _minimum(estimator, data, target[:, np.newaxis] == 1, scaler, 1.0), 2)
    return _set(estimator, _minimum(estimator, data, target, scaler, 1.0), class_count)


def _minimum(estimator: Any, data: Data, targets: Array, scaler: Any, share: float) -> Minimum:
    """Minimises what an estimator would: its parameters say with which penalty and how far."""
    params = estimator.get_params()
    penalised = params.get("penalty") is not None
    penalty = 1 / params["C"] if penalised else 0.0
    if "loss" in params:
        loss, share = squared_hinge_loss, _STRICTER
        intercept_penalty = penalty / params["intercept_scaling"] ** 2
    else:
        loss = softmax_loss if targets.ndim == 1 else logistic_loss
        intercept_penalty = 0.0
    count = int(targets.max()) + 1 if targets.ndim == 1 else targets.shape[1]
    objective = Objective(
        loss,
        count,
        penalty,
        intercept_penalty if params["fit_intercept"] else None,
        params["tol"] * share,
        params["max_iter"],
    )
    return minimised(objective, data, targets, scaler)


def _set(estimator: Any, minimum: Minimum, class_count: int) -> Any:
    estimator.coef_, estimator.intercept_ = minimum.coef, minimum.intercept
    estimator.classes_ = np.arange(class_count)
    estimator.n_features_in_ = minimum.coef.shape[1]
    estimator.n_iter_ = np.array([minimum.step_count], np.int32)
    return estimator


def _mlp(learner: MemoryLearner, data: Data, scaler: Any) -> Any:
    """Returns an `MLPClassifier` or `MLPRegressor`, after epochs over shuffled blocks until its loss stays."""
    estimator = learner.made(len(data))
    target, target_scaler = given(data.target), None
    if learner.task == Task.REGRESSION:
        target, target_scaler = standardised_targets(target, data.weights)
    learner.check_weights(estimator, data.weights)
    more: dict[str, Any] = {}
    if learner.task != Task.REGRESSION:
        more["classes"] = np.arange(int(target.max()) + 1 if target.ndim == 1 else target.shape[1])
    random = np.random.default_rng(learner.seed)
    best, unimproved, epoch_count = np.inf, 0, 0
    while epoch_count < estimator.max_iter and unimproved <= estimator.n_iter_no_change:
        epoch_count += 1
        loss = 0.0
        for chosen in _shuffled(len(data), data.size, random):
            _, activations = next(standardised(replace(data, examples=data.examples[chosen], size=len(chosen)), scaler))
            if data.weights is not None:
                more["sample_weight"] = data.weights[chosen]
            estimator.partial_fit(activations, target[chosen], **more)
            loss += estimator.loss_ * len(chosen) / len(data)
        unimproved = unimproved + 1 if loss > best - estimator.tol else 0
        best = min(best, loss)
    estimator.n_iter_ = epoch_count
    if target_scaler is not None:
        scale_back(estimator, target_scaler)
    return estimator


def _shuffled(count: int, size: int, random: np.random.Generator) -> Iterator[Array]:
    """Yields numbers below `count` in random order, in blocks of about `size`: chunks of neighbours from everywhere."""
    chunk = max(1, min(_CHUNK, size // 8))
    starts = random.permutation(range(0, count, chunk))
    for some in np.array_split(starts, -(-count // size)):
        numbers = (some[:, np.newaxis] + np.arange(chunk)).ravel()
        yield random.permutation(numbers[numbers < count])


def _kmeans(learner: MemoryLearner, data: Data, scaler: Any) -> Any:
    """Returns a `KMeans`: fitted on a sample, then Lloyd's steps over all examples until the centres stay."""
    estimator = learner.made(len(data))
    places = np.linspace(0, len(data) - 1, min(len(data), data.size)).astype(np.int64)
    weights = None if data.weights is None else data.weights[places]
    _, sample = next(standardised(replace(data, examples=data.examples[places], size=len(places)), scaler))
    estimator.fit(sample, sample_weight=weights)
    centres, labels = estimator.cluster_centers_, np.zeros(len(data), np.int32)
    tolerance = estimator.tol * float(sample.var(axis=0).mean())
    for step in range(1, estimator.max_iter + 1):
        sums, totals, inertia = np.zeros_like(centres), np.zeros(len(centres)), 0.0
        for part, activations in standardised(data, scaler):
            nearest, distances = pairwise_distances_argmin_min(activations, centres)
            weight = np.ones(len(activations)) if data.weights is None else data.weights[part]
            member = scipy.sparse.csr_array(
                (weight, (nearest, np.arange(len(nearest)))), shape=(len(centres), len(nearest))
            )
            sums += member @ activations
            totals += member.sum(axis=1)
            inertia += float(weight @ distances**2)
            labels[part] = nearest
        estimator.cluster_centers_, estimator.inertia_, estimator.n_iter_ = centres, inertia, step
        filled = totals[:, np.newaxis] > 0
        moved = np.where(filled, sums / np.where(filled, totals[:, np.newaxis], 1), centres)
        if float(((moved - centres) ** 2).sum()) <= tolerance:
            break
        centres = moved
    estimator.labels_ = labels
    return estimator
