"""What a fitted probe says of activations: labels and scores, as its ONNX file must say them too."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Fitted, ProbeKind, Task
from onnxscope_server.probes.kinds import PROBABILISTIC


def predictions(fitted: Fitted, activations: Array) -> dict[str, Array]:
    """Returns what a probe says of activations [example, feature].

    Returns:
        "scores": float32, for classes [example, class] (probabilities where the kind has them, else values of the
            decision, [-d, d] for two classes; nearest centroid: negative distances), for several labels [example,
            label], for regression [example, target], for PCA [example, component], for k-means [example, cluster]
            (negative distances).
        "labels": int64 or text (object) [example]: the class of the largest score, or the cluster; for several labels
            bool [example, label]; not there for regression and PCA.
    """
    features = np.asarray(activations, dtype=np.float64)
    if fitted.scaler is not None:
        features = fitted.scaler.transform(features)
    scores = _scores(fitted, features)
    result: dict[str, Array] = {"scores": scores.astype(np.float32)}
    if fitted.task == Task.CLASSES:
        classes = np.array(fitted.classes, dtype=np.int64 if isinstance(fitted.classes[0], int) else object)
        result["labels"] = classes[scores.argmax(axis=1)]
    elif fitted.task == Task.MULTILABEL:
        result["labels"] = scores > (0.5 if fitted.kind in PROBABILISTIC else 0.0)
    elif fitted.kind == ProbeKind.KMEANS:
        result["labels"] = scores.argmax(axis=1).astype(np.int64)
    return result


def _scores(fitted: Fitted, features: Array) -> Array:
    estimator = fitted.estimator
    if fitted.task == Task.CLASSES:
        return _class_scores(fitted.kind, estimator, features)
    if fitted.task == Task.MULTILABEL:
        return _label_scores(fitted.kind, estimator, features)
    if fitted.task == Task.REGRESSION:
        return np.asarray(estimator.predict(features)).reshape(len(features), -1)
    scores = np.asarray(estimator.transform(features))
    return -scores if fitted.kind == ProbeKind.KMEANS else scores


def _class_scores(kind: ProbeKind, estimator: Any, features: Array) -> Array:
    """Returns scores float64 [example, class]."""
    if kind in PROBABILISTIC:
        return np.asarray(estimator.predict_proba(features))
    if kind == ProbeKind.NEAREST_CENTROID:
        return -np.asarray(pairwise_distances(features, estimator.centroids_, metric=estimator.metric))
    decision = np.asarray(estimator.decision_function(features))
    return decision if decision.ndim > 1 else np.stack([-decision, decision], axis=1)


def _label_scores(kind: ProbeKind, estimator: Any, features: Array) -> Array:
    """Returns scores float64 [example, label]."""
    if kind == ProbeKind.MLP:
        return np.asarray(estimator.predict_proba(features)).reshape(len(features), -1)
    if kind == ProbeKind.RIDGE:
        return np.asarray(estimator.decision_function(features)).reshape(len(features), -1)
    if kind == ProbeKind.KNN:
        given = estimator.predict_proba(features)
        several = isinstance(given, list)
        pairs = zip(given if several else [given], estimator.classes_ if several else [estimator.classes_], strict=True)
        # a label that was the same on every example has one class
        return np.stack([one[:, -1] if len(classes) > 1 else one[:, 0] * classes[0] for one, classes in pairs], axis=1)
    return np.stack([_binary(kind, one, features) for one in estimator.estimators_], axis=1)


def _binary(kind: ProbeKind, estimator: Any, features: Array) -> Array:
    """Returns the scores [example] of one label."""
    if kind in PROBABILISTIC:
        return np.asarray(estimator.predict_proba(features)[:, 1])
    if hasattr(estimator, "centroids_"):
        distances = -_class_scores(kind, estimator, features)
        return np.asarray(distances[:, 0] - distances[:, 1])
    return np.asarray(estimator.decision_function(features))
