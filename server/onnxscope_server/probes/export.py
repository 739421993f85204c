"""Turns a fitted probe into ONNX, and makes sure that this predicts what scikit-learn predicts.

    float32 activation [example, feature] -> labels [example] (bool [example, label]), scores float32 [example, ...]

Everything is written by hand, from plain operators of opset 13. What scores are, `predict` says. The label is the first
of those with the largest score, before probabilities round it: scikit-learn's rule.
"""

from __future__ import annotations

import numpy as np
import onnx

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError, ProbeUnfaithfulError
from onnxscope_server.probe_domain import Fitted, Predictor, ProbeInfo, ProbeKind, Task
from onnxscope_server.probes import distances, linear, metadata
from onnxscope_server.probes.graph_writer import INPUT, GraphWriter
from onnxscope_server.probes.kinds import PROBABILISTIC
from onnxscope_server.probes.predict import predictions

LABELS, SCORES = "labels", "scores"
SCORE_TOLERANCE = 1e-4
# labels may differ where the two best scores are as close as this
TIE_TOLERANCE = 1e-5
# a score that is a share of votes, not a logit
_SHARES = frozenset({ProbeKind.KNN})
# computed in float64 in any case; see `distances`
_DOUBLE = frozenset({ProbeKind.KNN, ProbeKind.NEAREST_CENTROID, ProbeKind.KMEANS})


def to_onnx(fitted: Fitted, info: ProbeInfo, *, double: bool = False) -> bytes:
    """Returns the ONNX file of a probe, with `info` in its metadata.

    Args:
        fitted: the probe.
        info: what is known of it.
        double: compute in float64 what would be computed in float32; the scores are float32 all the same.

    Raises:
        DataInvalidError: it can't be kept as ONNX: it would be too large, or has a metric that ONNX lacks.
    """
    graph = GraphWriter(fitted.feature_count)
    double = double or fitted.kind in _DOUBLE
    value, score_count = _decision(graph, fitted, double=double)
    scores = _probabilities(graph, fitted, value)
    scores = graph.cast(scores, np.float32) if double else scores
    graph.output(SCORES, scores, onnx.TensorProto.FLOAT, score_count)
    if fitted.task == Task.CLASSES:
        which = graph.add("ArgMax", value, axis=1, keepdims=0)
        classes = np.array(fitted.classes)
        is_text = classes.dtype.kind == "U"
        known = graph.constant(classes.astype(np.object_ if is_text else np.int64), "classes")
        data_type = onnx.TensorProto.STRING if is_text else onnx.TensorProto.INT64
        graph.output(LABELS, graph.add("Gather", known, which), data_type)
    elif fitted.task == Task.MULTILABEL:
        half = 0.5 if fitted.kind in _SHARES else 0.0
        there = graph.add("Greater", value, graph.number(half, np.float64 if double else np.float32))
        graph.output(LABELS, there, onnx.TensorProto.BOOL, score_count)
    elif fitted.kind == ProbeKind.KMEANS:
        graph.output(LABELS, graph.add("ArgMax", value, axis=1, keepdims=0), onnx.TensorProto.INT64)
    model = graph.model(
        lambda detail: DataInvalidError(f"the {fitted.kind} probe is too large to keep: {detail}; fit it on fewer rows")
    )
    metadata.write(model, info)
    return bytes(model.SerializeToString())


def faithful(fitted: Fitted, info: ProbeInfo, activations: Array, predictor: Predictor) -> bytes:
    """Returns the ONNX file of a probe that passed `check`: in float32, or in float64 where that does not.

    float32 does not where large numbers cancel out: features that were not standardised and lie far from zero, or
    weights from a covariance that is almost singular.

    Raises:
        DataInvalidError: see `to_onnx`.
        ProbeUnfaithfulError: see `check`.
    """
    single = to_onnx(fitted, info)
    try:
        check(single, fitted, activations, predictor)
    except ProbeUnfaithfulError:
        if fitted.kind in _DOUBLE:
            raise
        double = to_onnx(fitted, info, double=True)
        check(double, fitted, activations, predictor)
        return double
    return single


def check(data: bytes, fitted: Fitted, activations: Array, predictor: Predictor) -> None:
    """Makes sure that an ONNX file predicts what the probe that it was made of predicts.

    Scores may differ by 1e-4 (of the largest, where they are no probabilities). Labels may differ where the two best
    scores are closer than 1e-5, and of k nearest neighbours where the last one is as near as the next.

    Args:
        data: the file.
        fitted: the probe.
        activations: float32 [example, feature] to compare on.
        predictor: runs the file.

    Raises:
        ProbeUnfaithfulError: it predicts something else.
    """
    expected = predictions(fitted, activations)
    got = predictor(data, np.ascontiguousarray(activations, dtype=np.float32))
    missing = [name for name, array in expected.items() if name not in got or got[name].shape != array.shape]
    if missing:
        raise _unfaithful(fitted, f"outputs {', '.join(missing)} are not there, or not of the shape that was expected")
    difference = np.abs(got[SCORES].astype(np.float64) - expected[SCORES])
    difference = difference.reshape(len(activations), -1).max(axis=1, initial=0.0)
    largest = float(np.abs(expected[SCORES]).max(initial=0.0))
    allowed = SCORE_TOLERANCE * (1.0 if fitted.kind in PROBABILISTIC and LABELS in expected else largest)
    wrong = ~(difference <= allowed)  # NaN is wrong, too
    other = np.zeros_like(wrong)
    if LABELS in expected:
        differs = got[LABELS] != expected[LABELS]
        other = (differs & ~_ties(fitted, expected[SCORES])).reshape(len(activations), -1).any(axis=1)
    if not (wrong | other).any():
        return
    decided = ~distances.undecided(fitted, activations)
    wrong, other = wrong & decided, other & decided
    if wrong.any():
        raise _unfaithful(
            fitted,
            f"scores of {np.count_nonzero(wrong)} of {len(wrong)} examples differ, by up to "
            f"{difference[wrong].max():.3g} where {allowed:.3g} is allowed",
        )
    if other.any():
        raise _unfaithful(
            fitted,
            f"labels of {np.count_nonzero(other)} of {len(other)} examples differ, the first of them example "
            f"{int(other.argmax())}; scores differ by up to {difference.max():.3g}",
        )


def _decision(graph: GraphWriter, fitted: Fitted, *, double: bool) -> tuple[str, int]:
    """Adds what decides, [example, class] (or label, target, component), and returns it and how many there are."""
    estimator, kind = fitted.estimator, fitted.kind
    if kind == ProbeKind.KMEANS:
        return distances.clusters(graph, INPUT, fitted), len(estimator.cluster_centers_)
    if kind == ProbeKind.NEAREST_CENTROID:
        return distances.centroids(graph, INPUT, fitted), len(fitted.classes)
    if kind == ProbeKind.KNN:
        targets = 1 if estimator._y.ndim == 1 else estimator._y.shape[1]  # noqa: SLF001 - it has no other name
        return distances.neighbours(graph, INPUT, fitted), len(fitted.classes) or targets
    value = graph.cast(INPUT, np.float64) if double else INPUT
    dtype = np.float64 if double else np.float32
    scale = None if fitted.scaler is None else np.asarray(fitted.scaler.scale_)
    if kind == ProbeKind.MLP:
        return linear.perceptron(graph, value, fitted, scale, dtype), len(fitted.classes) or estimator.n_outputs_
    affine = linear.of_activation(linear.of_estimator(fitted), fitted.scaler)
    return linear.layer(graph, value, affine, scale, dtype), len(affine.coef)


def _probabilities(graph: GraphWriter, fitted: Fitted, value: str) -> str:
    """Adds probabilities, of a kind that has them and takes them from logits."""
    if fitted.kind == ProbeKind.MLP and fitted.task == Task.REGRESSION:
        return graph.add("Exp", value) if fitted.estimator.out_activation_ == "exp" else value
    if fitted.kind not in PROBABILISTIC - _SHARES:
        return value
    two = len(fitted.classes) == 2  # noqa: PLR2004 - [-d, d] gives what scikit-learn takes from d
    return graph.add("Sigmoid", value) if fitted.task == Task.MULTILABEL or two else graph.add("Softmax", value, axis=1)


def _ties(fitted: Fitted, scores: Array) -> Array:
    """Says bool [example], or [example, label], whether the two best scores are as good as equal."""
    if fitted.task == Task.MULTILABEL:  # a label is there or not: s against 1 - s, or s against -s
        middle = 0.5 if fitted.kind in PROBABILISTIC else 0.0
        return np.asarray(2 * np.abs(scores - middle) < TIE_TOLERANCE)
    if scores.shape[1] == 1:
        return np.ones(len(scores), np.bool_)
    best = np.partition(scores.astype(np.float64), -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] < TIE_TOLERANCE)


def _unfaithful(fitted: Fitted, detail: str) -> ProbeUnfaithfulError:
    return ProbeUnfaithfulError(
        f"the ONNX file of the {fitted.kind} probe predicts otherwise than scikit-learn does, so it is not kept: "
        f"{detail}. Please report this with the data; another kind or other parameters may serve meanwhile",
        detail=detail,
    )
