"""Sums over activations, block by block: all that linear probes need of them.

Everything is summed in float64 and less the mean of the first block, so that activations that lie far from zero keep
their digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What was summed over examples.

    Attributes:
        count: number of examples.
        mean: float64 [feature], weights aside.
        variance: float64 [feature], biased, weights aside.
        weight: sum of weights.
        centre: float64 [feature]: the weighted mean.
        scatter: float64 [feature, feature]: weighted sum of outer products around `centre`; only its diagonal [feature]
            where no more was asked for.
        target_sums: float64 [target]: weighted sums of targets.
        cross: float64 [target, feature]: weighted sums of targets times activations less `centre`.
    """

    count: int
    mean: Array
    variance: Array
    weight: float
    centre: Array
    scatter: Array
    target_sums: Array
    cross: Array

    @property
    def target_means(self) -> Array:
        """Where targets are 0 or 1: mean activations of those of 1 [target, feature]."""
        return self.cross / self.target_sums[:, np.newaxis] + self.centre

    def scaled(self, offset: Array, scale: Array) -> Sums:
        """Returns what the sums over `(activation - offset) / scale` are."""
        both = scale if self.scatter.ndim == 1 else scale[:, np.newaxis]
        return Sums(
            self.count,
            (self.mean - offset) / scale,
            self.variance / scale**2,
            self.weight,
            (self.centre - offset) / scale,
            self.scatter / both / scale,
            self.target_sums,
            self.cross / scale,
        )


def slices(count: int, size: int) -> Iterator[slice]:
    """Yields the blocks of `Rows.blocks`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def standardised(block: Array, offset: Array, scale: Array) -> Array:
    """Returns activations as a scaler of this mean and scale gives them: float64 [example, feature]."""
    activations = block.astype(np.float64)
    activations -= offset
    activations /= scale
    return activations


def summed(rows: Rows, examples: Array, targets: Any, weights: Array | None, size: int, *, full: bool = True) -> Sums:
    """Reads activations once and sums them.

    Args:
        rows: activations.
        examples: int64 [example]; ascending ones are read quickest.
        targets: float64 [example, target], an array or a sparse one in rows.
        weights: float64 [example]; None for 1.
        size: examples of a block.
        full: sum outer products, not squares only.

    Raises:
        DataInvalidError: an activation is no finite number.
    """
    features = rows.shape[1]
    shift = plain = squares = weighted = np.zeros(features)
    scatter = np.zeros((features, features) if full else features)
    cross = np.zeros((targets.shape[1], features))
    target_sums = np.zeros(targets.shape[1])
    for part, block in zip(slices(len(examples), size), rows.blocks(examples, size), strict=True):
        activations = block.astype(np.float64)
        if part.start == 0:
            shift = activations.mean(axis=0)
        activations -= shift
        plain = plain + activations.sum(axis=0)
        squares = squares + np.einsum("ef,ef->f", activations, activations)
        chosen = targets[part]
        if weights is None:
            target_sums += np.asarray(chosen.sum(axis=0))
            cross += chosen.T @ activations
        else:
            target_sums += chosen.T @ weights[part]
            root = np.sqrt(weights[part])[:, np.newaxis]
            weighted = weighted + weights[part] @ activations
            cross += chosen.T @ (activations * root**2)
            activations *= root
        scatter += activations.T @ activations if full else np.einsum("ef,ef->f", activations, activations)
    count = len(examples)
    weight = float(count if weights is None else weights.sum())
    plain_mean = plain / count
    mean = plain_mean if weights is None else weighted / weight
    scatter -= weight * (np.outer(mean, mean) if full else mean**2)
    if not np.isfinite(scatter).all():
        raise DataInvalidError("Activations hold NaN or infinity: find where with a capture, and leave those rows out.")
    return Sums(
        count,
        plain_mean + shift,
        np.maximum(squares / count - plain_mean**2, 0),
        weight,
        mean + shift,
        scatter,
        target_sums,
        cross - np.outer(target_sums, mean),
    )
