"""Probes that go by distances: k-means, nearest centroid and k nearest neighbours.

All in float64, as scikit-learn does: the distances' squares come from a product of matrices, whose differences of large
numbers float32 would not survive. Standardisation takes place in the graph, of the activation and of the training rows
alike: these then are kept as the float32 activations that they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Fitted, ProbeKind, Task
from onnxscope_server.probes.graph_writer import GraphWriter

_KNN_METRICS = ("euclidean", "cosine")


def clusters(graph: GraphWriter, activation: str, fitted: Fitted) -> str:
    """Adds the negative distances [example, cluster] to the centres of k-means."""
    centers = graph.constant(fitted.estimator.cluster_centers_)
    return graph.add("Neg", _euclidean(graph, _scaled(graph, activation, fitted.scaler), centers))


def centroids(graph: GraphWriter, activation: str, fitted: Fitted) -> str:
    """Adds the scores of a nearest-centroid probe.

    They are negative distances [example, class]; for several labels [example, label], by how much the centroid of those
    that have it is nearer.
    """
    value = _scaled(graph, activation, fitted.scaler)
    if fitted.task == Task.CLASSES:
        return graph.add("Neg", _to_centroids(graph, value, fitted.estimator))
    scores = []
    for one in fitted.estimator.estimators_:
        if hasattr(one, "centroids_"):
            without = np.array([[1.0], [-1.0]])
            scores.append(graph.add("MatMul", _to_centroids(graph, value, one), graph.constant(without)))
        else:  # a label that was the same on every example: what it says is the same, too
            nothing = graph.constant(np.zeros((fitted.feature_count, 1)))
            scores.append(graph.add("Gemm", value, nothing, graph.constant(np.asarray(one.intercept_))))
    return graph.add("Concat", *scores, axis=1)


def neighbours(graph: GraphWriter, activation: str, fitted: Fitted) -> str:
    """Adds what the nearest training rows say.

    That is their share in each class [example, class], of those that have a label [example, label], or their mean
    [example, target].
    """
    estimator = fitted.estimator
    metric = estimator.effective_metric_
    if metric not in _KNN_METRICS:
        raise DataInvalidError(
            f"a knn probe with the metric {metric} can't be kept as ONNX: choose {' or '.join(_KNN_METRICS)}"
        )
    value = _scaled(graph, activation, fitted.scaler)
    rows = _training_rows(graph, fitted)
    distances = (_euclidean if metric == "euclidean" else _cosine)(graph, value, rows)
    count = graph.integer(estimator.n_neighbors)
    nearest, which = graph.add_several("TopK", 2, distances, count, axis=1, largest=0)
    answers = _answers(graph, fitted, which)
    last = graph.integer(1)
    if estimator.weights == "uniform":
        total = graph.add("ReduceSum", answers, last, keepdims=0)
        return graph.add("Div", total, graph.number(estimator.n_neighbors))
    if metric == "euclidean":
        nearest = _exact(graph, value, rows, which)
    weights = graph.add("Unsqueeze", _inverse(graph, nearest), graph.integer(2))
    total = graph.add("ReduceSum", graph.add("Mul", answers, weights), last, keepdims=0)
    return graph.add("Div", total, graph.add("ReduceSum", weights, last, keepdims=0))


def _scaled(graph: GraphWriter, value: str, scaler: Any) -> str:
    """Adds standardisation [row, feature], in float64."""
    value = graph.cast(value, np.float64)
    if scaler is None:
        return value
    centered = graph.add("Sub", value, graph.constant(np.asarray(scaler.mean_, np.float64)))
    return graph.add("Div", centered, graph.constant(np.asarray(scaler.scale_, np.float64)))


def _training_rows(graph: GraphWriter, fitted: Fitted) -> str:
    """Adds the training rows [row, feature] as the scaler gives them, from the activations."""
    rows, scaler = fitted.estimator._fit_X, fitted.scaler  # noqa: SLF001 - scikit-learn has no other name for them
    if scaler is not None:
        rows = rows * scaler.scale_ + scaler.mean_
    return _scaled(graph, graph.constant(rows.astype(np.float32)), scaler)


def _euclidean(graph: GraphWriter, value: str, rows: str) -> str:
    """Adds distances [example, row] between [example, feature] and [row, feature]."""
    last = graph.integer(1)
    of_value = graph.add("ReduceSum", graph.add("Mul", value, value), last)
    of_rows = graph.add("ReduceSum", graph.add("Mul", rows, rows), last, keepdims=0)
    product = graph.add("MatMul", value, graph.add("Transpose", rows, perm=[1, 0]))
    twice = graph.add("Mul", product, graph.number(2))
    square = graph.add("Add", graph.add("Sub", of_value, twice), of_rows)
    return graph.add("Sqrt", graph.add("Max", square, graph.number(0)))


def _cosine(graph: GraphWriter, value: str, rows: str) -> str:
    """Adds 1 - cosine [example, row] of [example, feature] and [row, feature]."""
    one = graph.number(1)
    turned = graph.add("Transpose", _normal(graph, rows), perm=[1, 0])
    distance = graph.add("Sub", one, graph.add("MatMul", _normal(graph, value), turned))
    return graph.add("Max", distance, graph.number(0))


def _normal(graph: GraphWriter, value: str) -> str:
    """Adds [row, feature] of length 1; zeros stay zeros."""
    last = graph.integer(1)
    length = graph.add("Sqrt", graph.add("ReduceSum", graph.add("Mul", value, value), last))
    return graph.add("Div", value, graph.add("Max", length, graph.number(1e-300)))


def _exact(graph: GraphWriter, value: str, rows: str, which: str) -> str:
    """Adds the distances [example, neighbour] once more, from differences: what is equal has the distance 0."""
    middle, last = (graph.integer(axis) for axis in (1, 2))
    difference = graph.add("Sub", graph.add("Gather", rows, which), graph.add("Unsqueeze", value, middle))
    square = graph.add("ReduceSum", graph.add("Mul", difference, difference), last, keepdims=0)
    return graph.add("Sqrt", square)


def _inverse(graph: GraphWriter, distances: str) -> str:
    """Adds weights 1 / distance [example, neighbour]; where some are 0, these weigh 1 and the others nothing."""
    is_zero = graph.add("Equal", distances, graph.number(0))
    equal = graph.cast(is_zero, np.float64)
    how_many = graph.add("ReduceSum", equal, graph.integer(1))
    any_equal = graph.add("Greater", how_many, graph.number(0))
    finite = graph.add("Div", graph.number(1), graph.add("Add", distances, equal))
    return graph.add("Where", any_equal, equal, finite)


def _answers(graph: GraphWriter, fitted: Fitted, which: str) -> str:
    """Adds what neighbours say, float64 [example, neighbour, class] (0 or 1), [..., label] or [..., target]."""
    known: Array = fitted.estimator._y  # noqa: SLF001 - scikit-learn has no other name for them
    if fitted.task == Task.CLASSES:
        numbers = graph.add("Gather", graph.constant(known.reshape(-1).astype(np.int64)), which)
        numbers = graph.add("Unsqueeze", numbers, graph.integer(2))
        classes = graph.constant(np.arange(len(fitted.classes), dtype=np.int64))
        return graph.cast(graph.add("Equal", numbers, classes), np.float64)
    answers = known.reshape(len(known), -1)
    if fitted.task == Task.MULTILABEL:
        of_label = fitted.estimator.classes_
        of_label = of_label if isinstance(of_label, list) else [of_label]
        answers = np.stack([classes[column] for classes, column in zip(of_label, answers.T, strict=True)], axis=1)
    return graph.add("Gather", graph.constant(answers.astype(np.float64)), which)


def _to_centroids(graph: GraphWriter, value: str, estimator: Any) -> str:
    """Adds distances [example, class] to the centroids of an estimator, by its metric."""
    centers = np.asarray(estimator.centroids_, np.float64)
    if estimator.metric == "euclidean":
        return _euclidean(graph, value, graph.constant(centers))
    middle = graph.integer(1)
    difference = graph.add("Sub", graph.add("Unsqueeze", value, middle), graph.constant(centers))
    return graph.add("ReduceSum", graph.add("Abs", difference), graph.integer(2), keepdims=0)


def undecided(fitted: Fitted, activations: Array) -> Array:
    """Says bool [example] whether which neighbours count is open: the last of them is as near as the next one."""
    estimator = fitted.estimator
    if fitted.kind != ProbeKind.KNN or estimator.n_samples_fit_ <= estimator.n_neighbors:
        return np.zeros(len(activations), np.bool_)
    features = np.asarray(activations, np.float64)
    if fitted.scaler is not None:
        features = fitted.scaler.transform(features)
    distances, _ = estimator.kneighbors(features, estimator.n_neighbors + 1)
    return np.asarray(distances[:, -1] - distances[:, -2] <= 1e-7 * np.maximum(distances[:, -1], 1e-7))
