"""Sums over activations, block by block: all that linear probes need of them.

Everything is summed in float64 and less the mean of the first block, so that activations that lie far from zero keep
their digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from onnxscope_server.domain import Array
from onnxscope_server.probe_domain import Rows
from onnxscope_server.probes import stopping
from onnxscope_server.probes.kinds import finite


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Examples to learn from that are read block by block.

    Attributes:
        rows: activations.
        examples: int64 [example], ascending: so they are read quickest.
        target: labels as estimators know them [example, ...]; None for none.
        row_weights: float64 [example], for standardisation; None for 1.
        weights: the same times those of classes, for what learns.
        size: examples of a block.
    """

    rows: Rows
    examples: Array
    target: Array | None
    row_weights: Array | None
    weights: Array | None
    size: int

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def feature_count(self) -> int:
        """Features of an example."""
        return self.rows.shape[1]

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yields where the examples of each block are among all, and activations float64 [example, feature]."""
        starts = range(0, len(self), self.size)
        for start, block in zip(starts, self.rows.blocks(self.examples, self.size), strict=True):
            stopping.check()
            yield slice(start, start + len(block)), block.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What was summed over examples, by their weights.

    Attributes:
        count: number of examples.
        weight: sum of weights.
        mean: float64 [feature].
        scatter: float64 [feature, feature]: sum of outer products around the mean; only its diagonal [feature] where no
            more was asked for.
        target_sums: float64 [target]: sums of targets.
        cross: float64 [target, feature]: sums of targets times activations less their mean.
        scaler: a `StandardScaler` fitted on the same examples by their rows' weights.
    """

    count: int
    weight: float
    mean: Array
    scatter: Array
    target_sums: Array
    cross: Array
    scaler: Any

    @property
    def class_means(self) -> Array:
        """Where targets are 1 for the examples of a class and else 0: the classes' means [target, feature]."""
        means: Array = self.cross / self.target_sums[:, np.newaxis] + self.mean
        return means

    @property
    def within(self) -> Array:
        """As `scatter`, around the classes' means."""
        away = self.cross / self.target_sums[:, np.newaxis]
        between: Array = (away * self.cross).sum(axis=0) if self.scatter.ndim == 1 else away.T @ self.cross
        return self.scatter - between

    def standardised(self) -> Sums:
        """Returns what the sums over what the scaler gives are."""
        scale = self.scaler.scale_
        both = scale if self.scatter.ndim == 1 else scale[:, np.newaxis]
        return replace(
            self,
            mean=(self.mean - self.scaler.mean_) / scale,
            scatter=self.scatter / both / scale,
            cross=self.cross / scale,
        )

    def of_label(self, label: int) -> Sums:
        """Returns the sums whose two targets are the classes of a label: not set, set."""
        there = self.target_sums[label]
        return replace(
            self,
            target_sums=np.array([self.weight - there, there]),
            cross=np.stack([-self.cross[label], self.cross[label]]),
        )


def summed(data: Data, targets: Any, *, full: bool) -> Sums:
    """Reads activations once and sums them.

    Args:
        data: what to read.
        targets: float64 [example, target], an array or a sparse one.
        full: sum outer products, not squares only.

    Raises:
        DataInvalidError: an activation is no finite number.
    """
    features = data.feature_count
    shift = np.zeros(features)
    first, scatter = np.zeros(features), np.zeros((features, features) if full else features)
    row_first, row_squares = np.zeros(features), np.zeros(features)
    target_sums, cross = np.zeros(targets.shape[1]), np.zeros((targets.shape[1], features))
    for part, block in data.blocks():
        activations = finite(block)
        if part.start == 0:
            shift = activations.mean(axis=0)
        activations -= shift
        weights = _part(data.weights, part)
        first += weights @ activations
        target_sums += targets[part].T @ weights
        if data.row_weights is not data.weights:
            rows_weights = _part(data.row_weights, part)
            row_first += rows_weights @ activations
            row_squares += np.einsum("e,ef,ef->f", rows_weights, activations, activations)
        cross += (targets[part].T * weights) @ activations
        if data.weights is not None:
            activations *= np.sqrt(weights)[:, np.newaxis]
        scatter += activations.T @ activations if full else np.einsum("ef,ef->f", activations, activations)
    weight = _total(data.weights, len(data))
    mean = first / weight
    scatter -= weight * (np.outer(mean, mean) if full else mean**2)
    cross -= np.outer(target_sums, mean)
    if data.row_weights is data.weights:
        row_mean, variance = mean, (np.diagonal(scatter) if full else scatter) / weight
    else:
        row_weight = _total(data.row_weights, len(data))
        row_mean = row_first / row_weight
        variance = row_squares / row_weight - row_mean**2
    scaler = _scaler(row_mean + shift, variance, _total(data.row_weights, len(data)))
    return Sums(len(data), weight, mean + shift, scatter, target_sums, cross, scaler)


def standardised(data: Data, scaler: Any) -> Iterator[tuple[slice, Array]]:
    """Yields what `Data.blocks` does, as a `StandardScaler` (None for none) gives it."""
    for part, block in data.blocks():
        if scaler is not None:
            np.subtract(block, scaler.mean_, out=block)
            np.divide(block, scaler.scale_, out=block)
        yield part, block


def _part(weights: Array | None, part: slice) -> Array:
    return np.ones(part.stop - part.start) if weights is None else weights[part]


def _total(weights: Array | None, count: int) -> float:
    return float(count) if weights is None else float(weights.sum())


def _scaler(mean: Array, variance: Array, weight: float) -> Any:
    """Returns a `StandardScaler` as its `fit` would make it: what varies by rounding alone is not scaled."""
    scaler = StandardScaler()
    scaler.n_features_in_, scaler.n_samples_seen_ = len(mean), weight
    scaler.mean_, scaler.var_ = mean, np.maximum(variance, 0)
    epsilon = np.finfo(np.float64).eps
    constant = scaler.var_ <= weight * epsilon * scaler.var_ + (weight * mean * epsilon) ** 2
    scaler.scale_ = np.where(constant, 1.0, np.sqrt(scaler.var_))
    return scaler
