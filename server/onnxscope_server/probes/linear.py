"""What is linear in the activation: the layers of probes, with the standardisation folded in.

A probe computes W ((x - mean) / scale) + b. The division always goes into the weights. The subtraction goes into the
bias where the mean is not large beside what varies; else (x - c) is computed first, with c the mean as float32, which
is exact for x near c, and what c lacks of the mean goes into the bias:

    x -> [Sub center] -> Gemm(coef, intercept)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Fitted, ProbeKind
from onnxscope_server.probes.graph_writer import GraphWriter

LINEAR = frozenset(
    {
        ProbeKind.LOGISTIC,
        ProbeKind.SVM,
        ProbeKind.RIDGE,
        ProbeKind.MEAN_DIFFERENCE,
        ProbeKind.LDA,
        ProbeKind.PCA,
    }
)
COEF, INTERCEPT, CENTER = "coef", "intercept", "center"
# largest share of a row's weighted mean to its weighted deviation at which rounding of float32 goes unnoticed
_FOLDED_SHARE = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """coef (x - center) + intercept: float64 [row, feature], [row] and [feature], None for 0."""

    coef: Array
    intercept: Array
    center: Array | None = None


def of_estimator(fitted: Fitted) -> Affine:
    """Returns what a linear probe computes from what its scaler gives; for two classes [-d, d].

    Rows are classes, labels, targets or components.
    """
    estimator = fitted.estimator
    if fitted.kind == ProbeKind.PCA:
        return _of_pca(estimator)
    if hasattr(estimator, "estimators_"):  # one for each label
        coef = np.concatenate([np.atleast_2d(one.coef_) for one in estimator.estimators_])
        intercept = np.concatenate([np.broadcast_to(one.intercept_, 1) for one in estimator.estimators_])
        return Affine(coef, intercept)
    coef = np.atleast_2d(estimator.coef_)
    intercept = np.broadcast_to(estimator.intercept_, len(coef))
    return _of_classes(fitted, Affine(coef, intercept))


def _of_classes(fitted: Fitted, affine: Affine) -> Affine:
    """Returns two rows [-d, d] in place of the one that scikit-learn has for two classes."""
    if len(fitted.classes) != len(affine.coef) + 1:
        return affine
    coef, intercept = affine.coef, affine.intercept
    return Affine(np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept]), affine.center)


def _of_pca(estimator: Any) -> Affine:
    scale = np.ones(len(estimator.components_))
    if estimator.whiten:
        scale = np.maximum(np.sqrt(estimator.explained_variance_), np.finfo(np.float64).eps)
    return Affine(estimator.components_ / scale[:, None], np.zeros(len(scale)), estimator.mean_)


def of_activation(affine: Affine, scaler: Any) -> Affine:
    """Returns what gives from an activation the same as `affine` gives from what the scaler makes of it."""
    if scaler is None:
        return affine
    mean, scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
    center = mean if affine.center is None else mean + scale * affine.center
    return Affine(affine.coef / scale, affine.intercept, center)


def layer(
    graph: GraphWriter, value: str, affine: Affine, scale: Array | None, dtype: type[np.floating[Any]], named: str = ""
) -> str:
    """Adds a layer that computes `affine` from a value [example, feature].

    Args:
        graph: to add to.
        value: of type `dtype`.
        affine: what to compute.
        scale: float64 [feature], how much features vary; None where that is not known.
        dtype: to compute in.
        named: what names of constants start with.
    """
    intercept, center = affine.intercept, affine.center
    if center is not None:
        rounded = center.astype(dtype)
        if dtype == np.float64 or _is_small(affine, center, scale):
            rounded = np.zeros_like(rounded)
        intercept = intercept - affine.coef @ (center - rounded)
        if rounded.any():
            value = graph.add("Sub", value, graph.constant(rounded, named + CENTER))
    return graph.add(
        "Gemm",
        value,
        graph.constant(affine.coef.astype(dtype), named + COEF),
        graph.constant(intercept.astype(dtype), named + INTERCEPT),
        transB=1,
    )


def _is_small(affine: Affine, center: Array, scale: Array | None) -> bool:
    """Says whether subtracting the center after multiplying loses nothing that counts."""
    if scale is None:
        return False
    spread = np.linalg.norm(affine.coef * scale, axis=1)
    return bool((np.linalg.norm(affine.coef * center, axis=1) <= _FOLDED_SHARE * spread).all())


def arrays(constants: dict[str, Array], *, two_classes: bool) -> dict[str, Array]:
    """Returns "coef" float64 [row, feature] and "intercept" [row] of a layer's constants, with nothing to subtract.

    Nothing where the constants, by their names, are not such as `layer` makes.

    Args:
        constants: float32 or float64, by name.
        two_classes: of the two rows [-d, d], the second is the one that scikit-learn has.
    """
    nothing = np.zeros(0)
    coef = constants.get(COEF, nothing).astype(np.float64)
    intercept = constants.get(INTERCEPT, nothing).astype(np.float64)
    if coef.ndim != 2 or intercept.shape != coef.shape[:1]:  # noqa: PLR2004 - [row, feature]
        return {}
    center = constants.get(CENTER, np.zeros(coef.shape[1])).astype(np.float64)
    if center.shape != coef.shape[1:]:
        return {}
    rows = slice(1, None) if two_classes else slice(None)
    return {"coef": coef[rows], "intercept": (intercept - coef @ center)[rows]}


def perceptron(
    graph: GraphWriter, value: str, fitted: Fitted, scale: Array | None, dtype: type[np.floating[Any]]
) -> str:
    """Adds all layers of a multi-layer perceptron but the activation of the last one; for two classes [-d, d]."""
    estimator = fitted.estimator
    layers = [Affine(weights.T, bias) for weights, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True)]
    layers[0] = of_activation(layers[0], fitted.scaler)
    layers[-1] = _of_classes(fitted, layers[-1])
    for index, affine in enumerate(layers):
        value = layer(graph, value, affine, None if index else scale, dtype, f"layer_{index}_")
        if index < len(layers) - 1 and estimator.activation != "identity":
            value = graph.add({"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}[estimator.activation], value)
    return value
