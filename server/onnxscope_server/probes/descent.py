"""Linear probes by L-BFGS, whose loss and gradient are summed over blocks of activations.

It goes the way of scikit-learn's `LogisticRegression`: the same objective, start and stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.optimize
import scipy.special

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Rows
from onnxscope_server.probes.sums import slices, standardised

# (decision values [example, output], targets of these examples) -> losses [example, output] or [example], and their
# derivatives [example, output]
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
    losses = -log_probabilities[examples, targets]
    slopes = np.exp(log_probabilities)
    slopes[examples, targets] -= 1
    return losses, slopes


def logistic_loss(decisions: Array, targets: Array) -> tuple[Array, Array]:
    """Log loss of each output by itself; targets are bool [example, output]."""
    return np.logaddexp(0, np.where(targets, -decisions, decisions)), scipy.special.expit(decisions) - targets


def squared_hinge_loss(decisions: Array, targets: Array) -> tuple[Array, Array]:
    """Squared hinge loss of each output by itself; targets are bool [example, output]."""
    signs = np.where(targets, 1.0, -1.0)
    lacking = np.maximum(0, 1 - signs * decisions)
    return lacking**2, -2 * signs * lacking


def minimised(
    objective: Objective,
    rows: Rows,
    examples: Array,
    targets: Array,
    weights: Array,
    offset: Array,
    scale: Array,
    size: int,
) -> Minimum:
    """Finds the minimum for activations that are standardised as `(activation - offset) / scale`.

    Args:
        objective: what is minimised.
        rows: activations.
        examples: int64 [example]; ascending ones are read quickest.
        targets: [example, ...], as the loss takes them.
        weights: float64 [example, 1], or [example, output] of losses by output.
        offset: float64 [feature].
        scale: float64 [feature].
        size: examples of a block.
    """
    features, outputs = rows.shape[1], objective.output_count
    total = float(weights[:, 0].sum())
    penalty = objective.penalty / total
    intercept_penalty = None if objective.intercept_penalty is None else objective.intercept_penalty / total

    def value(point: Array) -> tuple[float, Array]:
        coef, intercept = _parted(point, outputs)
        loss, slope = 0.0, np.zeros((outputs, features + 1))
        for part, block in zip(slices(len(examples), size), rows.blocks(examples, size), strict=True):
            activations = standardised(block, offset, scale)
            losses, slopes = objective.loss(activations @ coef.T + intercept, targets[part])
            loss += float((losses.reshape(len(block), -1) * weights[part]).sum())
            slopes *= weights[part]
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
        np.zeros(outputs * (features + 1)),
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
