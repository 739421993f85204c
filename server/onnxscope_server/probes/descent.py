"""Linear probes by L-BFGS, whose loss and gradient are summed over blocks of activations.

It goes the way of scikit-learn's `LogisticRegression`: the same objective, start and stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.optimize
import scipy.special

from onnxscope_server.domain import Array
from onnxscope_server.probes.sums import Data, standardised

# of decision values [example, output] and their targets: losses [example, output or 1], and derivatives
Loss: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised: the mean of losses, and `penalty / 2` times the sum of squared weights.

    Attributes:
        loss: of decision values.
        output_count: of decision values.
        penalty: on the weights, as a share of the sum of the examples' weights: 1 / C.
        intercept_penalty: the same on the intercept; None for no intercept.
        tolerance: largest component of the gradient at the minimum.
        step_count: at most.
    """

    loss: Loss
    output_count: int
    penalty: float
    intercept_penalty: float | None
    tolerance: float
    step_count: int


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where the objective is least: weights [output, feature], intercepts [output], steps taken."""

    coef: Array
    intercept: Array
    step_count: int


def softmax_loss(decisions: Array, targets: Array) -> tuple[Array, Array]:
    """Log loss of several classes; targets are classes' numbers [example]."""
    log_probabilities = scipy.special.log_softmax(decisions, axis=1)
    examples = np.arange(len(decisions))
    losses = -log_probabilities[examples, targets, np.newaxis]
    slopes = np.exp(log_probabilities)
    slopes[examples, targets] -= 1
    return losses, slopes


def logistic_loss(decisions: Array, targets: Array) -> tuple[Array, Array]:
    """Log loss of each output by itself; targets are bool [example, output]."""
    return np.logaddexp(0, np.where(targets, -decisions, decisions)), scipy.special.expit(decisions) - targets


def squared_hinge_loss(decisions: Array, targets: Array) -> tuple[Array, Array]:
    """Squared hinge loss of each output by itself; targets are bool [example, output], or numbers [example]."""
    if targets.ndim == 1:
        targets = targets[:, np.newaxis] == np.arange(decisions.shape[1])
    signs = np.where(targets, 1.0, -1.0)
    lacking = np.maximum(0, 1 - signs * decisions)
    return lacking**2, -2 * signs * lacking


def minimised(objective: Objective, data: Data, targets: Array, scaler: Any) -> Minimum:
    """Finds the minimum.

    Args:
        objective: what is minimised.
        data: activations and weights.
        targets: [example, ...], as the loss takes them.
        scaler: a `StandardScaler`; None for none.
    """
    outputs = objective.output_count
    weights = np.ones(len(data)) if data.weights is None else data.weights
    total = float(weights.sum())
    penalty = objective.penalty / total
    intercept_penalty = None if objective.intercept_penalty is None else objective.intercept_penalty / total

    def value(point: Array) -> tuple[float, Array]:
        coef, intercept = _parted(point, outputs)
        loss, slope = 0.0, np.zeros((outputs, data.feature_count + 1))
        for part, activations in standardised(data, scaler):
            losses, slopes = objective.loss(activations @ coef.T + intercept, targets[part])
            weight = weights[part, np.newaxis]
            loss += float((losses * weight).sum())
            slopes *= weight
            slope[:, :-1] += slopes.T @ activations
            slope[:, -1] += slopes.sum(axis=0)
        loss = loss / total + penalty / 2 * float((coef**2).sum())
        slope /= total
        slope[:, :-1] += penalty * coef
        if intercept_penalty is None:
            slope[:, -1] = 0
        else:
            slope[:, -1] += intercept_penalty * intercept
            loss += intercept_penalty / 2 * float((intercept**2).sum())
        return loss, slope.ravel()

    found = scipy.optimize.minimize(
        value,
        np.zeros(outputs * (data.feature_count + 1)),
        method="L-BFGS-B",
        jac=True,
        options={
            "maxiter": objective.step_count,
            "maxls": 50,
            "gtol": objective.tolerance,
            "ftol": 64 * np.finfo(float).eps,
        },
    )
    coef, intercept = _parted(found.x, outputs)
    return Minimum(coef, intercept, int(found.nit))


def _parted(point: Array, outputs: int) -> tuple[Array, Array]:
    matrix = point.reshape(outputs, -1)
    return matrix[:, :-1].copy(), matrix[:, -1].copy()
