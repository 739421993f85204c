"""Scores of what a probe said, each with a 95 % interval from resampled rows (groups of rows, where there are any).

Every score is a function of sums over examples; a resampling weighs those sums, so that a thousand of them are one
product of matrices. Units beyond 2,000 are put at random into 2,000 bundles that are then resampled: a bundle's sums
are as independent as a unit's. ROC AUC, which is no sum, is resampled by its projection (DeLong's components).

The interval of what has no bounds goes from quantile to quantile of the replicates. Near 1, where scores of classes are
if a probe is good, that is too narrow (of 300 draws of 50 rows with an area of .98, 83 % were right): theirs is that of
a normal distribution of log(score / (1 - score)) with the replicates' deviation (97 % were right).

- several labels: accuracy counts examples of which every label is right; the others are means over the labels.
- many classes: ROC AUC is the mean of each class against the rest, over the classes that are there; of scores that are
  no probabilities the margin to the best other class is compared.
- over folds, scores are of all held-out examples together; ROC AUC compares examples of the same fold only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Metric, ProbeKind, Score, Task

REPLICATES = 1000
NORMAL_95 = 1.96  # deviations that 95 % of a normal distribution are within
BUNDLES = 2000
MAX_SUMS = 2**23  # numbers that the sums of all bundles hold
CLASS_METRICS = (Metric.ACCURACY, Metric.BALANCED_ACCURACY, Metric.MACRO_F1, Metric.ROC_AUC)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a probe said of examples, and the truth.

    Attributes:
        task: what labels are.
        truth: as `Targets.truth`, of these examples.
        scores: float [example, class], [example, label] or [example, target]; of PCA what it left of an example's
            variance and all of it [example, 2]; of k-means each example's silhouette [example, 1].
        probabilities: whether scores are; else they are values of a decision, where 0 parts yes from no.
        unit: int64 [example].
        fold: int64 [example].
    """

    task: Task
    truth: Array
    scores: Array
    probabilities: bool
    unit: Array
    fold: Array

    @property
    def given(self) -> Array:
        """What was said: the number of the class int64 [example], or bool [example, label]."""
        if self.task == Task.MULTILABEL:
            return np.asarray(self.scores > (0.5 if self.probabilities else 0.0))
        return np.asarray(self.scores.argmax(axis=1))


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Returns what was said of the examples of all folds."""
    first = outcomes[0]
    arrays = [np.concatenate([getattr(one, name) for one in outcomes]) for name in ("truth", "scores", "unit")]
    fold = np.repeat(np.arange(len(outcomes)), [len(one.unit) for one in outcomes])
    return Outcome(first.task, arrays[0], arrays[1], first.probabilities, arrays[2], fold)


def metrics(kind: ProbeKind, task: Task, first: Metric | None) -> tuple[Metric, ...]:
    """Returns the scores that a task has, that which was asked for first.

    Raises:
        DataInvalidError: the task has no such score.
    """
    unsupervised = Metric.SILHOUETTE if kind == ProbeKind.KMEANS else Metric.EXPLAINED_VARIANCE
    others = (Metric.R2, Metric.MAE) if task == Task.REGRESSION else (unsupervised,)
    known: tuple[Metric, ...] = CLASS_METRICS if task in {Task.CLASSES, Task.MULTILABEL} else others
    if first is not None and first not in known:
        raise DataInvalidError(f"{task} has no metric {first}: choose one of {', '.join(known)}")
    return known if first is None else (first, *(one for one in known if one != first))


class Resampling:
    """Resamples units: sums over examples, as they are and in each replicate.

    Args:
        unit: int64 [example].
        width: numbers that an example has in the largest sum.
        replicate_count: 0 for the sums as they are alone.
        seed: of the replicates.
    """

    def __init__(self, unit: Array, width: int, replicate_count: int, seed: int) -> None:
        units, index = np.unique(unit, return_inverse=True)
        self.unit_count = len(units)
        self._bundle_count = min(self.unit_count, BUNDLES, max(100, MAX_SUMS // width)) if replicate_count else 1
        generator = np.random.default_rng([seed, 95])
        self._bundle = (generator.permutation(self.unit_count) % self._bundle_count)[index]
        self._weights = _weights(self._bundle_count, replicate_count, seed)

    def sums(self, values: Array) -> Array:
        """Returns sums of values [example, column] over the examples [1 + replicate, column]."""
        columns = [np.bincount(self._bundle, column, self._bundle_count) for column in values.T]
        return np.asarray(self._weights @ np.stack(columns, axis=1))

    def counts(self, number: Array, width: int, values: Array) -> Array:
        """Returns sums of values [example] by a number 0 ... `width` of each example [1 + replicate, number]."""
        flat = np.bincount(self._bundle * width + number, values, self._bundle_count * width)
        return np.asarray(self._weights @ flat.reshape(self._bundle_count, width))


@functools.lru_cache(2)
def _weights(bundle_count: int, replicate_count: int, seed: int) -> Array:
    """Returns how often each bundle is drawn [1 + replicate, bundle]: the same for all metrics and hook points."""
    generator = np.random.default_rng([seed, 96])
    drawn = generator.multinomial(bundle_count, np.full(bundle_count, 1 / bundle_count), size=replicate_count)
    return np.concatenate([np.ones((1, bundle_count)), drawn])


def scored(metric: Metric, outcome: Outcome) -> float | None:
    """Returns a score; None where it is not defined, as ROC AUC of a single class."""
    values = _MEASURES[metric](outcome, Resampling(outcome.unit, outcome.scores.shape[1], 0, 0))
    return float(values[0]) if np.isfinite(values[0]) else None


def with_interval(metric: Metric, outcome: Outcome, seed: int) -> Score | None:
    """Returns a score with its 95 % interval; None where it is not defined."""
    resampling = Resampling(outcome.unit, outcome.scores.shape[1], REPLICATES, seed)
    values = _MEASURES[metric](outcome, resampling)
    value = float(values[0])
    if not np.isfinite(value):
        return None
    replicates = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(replicates, (0.025, 0.975)) if len(replicates) else (value, value)
    if metric in CLASS_METRICS and 0 < value < 1 and len(replicates):
        reach = NORMAL_95 * float(replicates.std()) / (value * (1 - value))
        low, high = expit(logit(value) - reach), expit(logit(value) + reach)
    low, high = min(float(low), value), max(float(high), value)
    if metric in CLASS_METRICS:
        # all right, or all wrong: resampling knows of no other outcome, and the binomial distribution does
        most = float(0.025 ** (1 / resampling.unit_count))
        if low == 1:
            low = min(most, low)
        if high == 0:
            high = 1 - most
    return Score(metric, value, low, high)


def confusion(outcome: Outcome) -> tuple[tuple[int, ...], ...]:
    """Returns counts of examples by true class and given class."""
    width = outcome.scores.shape[1]
    counts = np.bincount(outcome.truth * width + outcome.given, minlength=width * width)
    return tuple(tuple(int(one) for one in row) for row in counts.reshape(width, width))


def _parts(outcome: Outcome, resampling: Resampling) -> tuple[Array, Array, Array]:
    """Returns what is right, true and given of each class or label, each [1 + replicate, class]."""
    if outcome.task == Task.MULTILABEL:
        given = outcome.given
        return resampling.sums(outcome.truth & given), resampling.sums(outcome.truth), resampling.sums(given)
    width = outcome.scores.shape[1]
    numbers, ones = outcome.given, np.ones(len(outcome.truth))
    return (
        resampling.counts(outcome.truth, width, (numbers == outcome.truth).astype(np.float64)),
        resampling.counts(outcome.truth, width, ones),
        resampling.counts(numbers, width, ones),
    )


def _accuracy(outcome: Outcome, resampling: Resampling) -> Array:
    right = (outcome.given == outcome.truth).reshape(len(outcome.unit), -1).all(axis=1)
    sums = resampling.sums(np.stack([right, np.ones(len(right))], axis=1))
    return _ratio(sums[:, 0], sums[:, 1])


def _balanced_accuracy(outcome: Outcome, resampling: Resampling) -> Array:
    right, true, given = _parts(outcome, resampling)
    if outcome.task == Task.MULTILABEL:
        count = resampling.sums(np.ones((len(outcome.unit), 1)))
        sides = _ratio(right, true), _ratio(count - true - given + right, count - true)
        return _mean(_mean(np.stack(sides, axis=1)))
    return _mean(_ratio(right, true))


def _macro_f1(outcome: Outcome, resampling: Resampling) -> Array:
    right, true, given = _parts(outcome, resampling)
    f1 = _ratio(2 * right, true + given)
    # a label that nobody has and nobody gives counts as 0, as in scikit-learn
    return _mean(np.nan_to_num(f1) if outcome.task == Task.MULTILABEL else f1)


def _roc_auc(outcome: Outcome, resampling: Resampling) -> Array:
    width = outcome.scores.shape[1]
    scores = outcome.scores
    if outcome.task == Task.CLASSES and not outcome.probabilities:
        scores = _margins(scores)
    two = outcome.task == Task.CLASSES and width == 2  # noqa: PLR2004 - two classes are each other's rest
    found = []
    for column in range(1 if two else 0, width):
        positive = outcome.truth[:, column] if outcome.task == Task.MULTILABEL else outcome.truth == column
        if positive.any() and not positive.all():
            found.append(_one_auc(positive, scores[:, column], outcome.fold, resampling))
    if not found:
        return np.full(1, np.nan)
    return _mean(np.stack(found, axis=1))


def _margins(scores: Array) -> Array:
    """Returns by how much each class's score is above the best other one, which examples can be compared by."""
    best = scores.argmax(axis=1)
    ordered = np.sort(scores, axis=1)
    others = np.repeat(ordered[:, -1:], scores.shape[1], axis=1)
    others[np.arange(len(scores)), best] = ordered[:, -2]
    return np.asarray(scores - others)


def _one_auc(positive: Array, scores: Array, fold: Array, resampling: Resampling) -> Array:
    """Returns the area of one label [1 + replicate].

    Each example's component is the share of the examples of the other side, in its fold, that it stands right to.
    """
    component, usable = np.zeros(len(scores)), np.zeros(len(scores), dtype=bool)
    for number in np.unique(fold):
        here = np.nonzero(fold == number)[0]
        yes, no = here[positive[here]], here[~positive[here]]
        if len(yes) and len(no):
            ranks = np.zeros(len(scores))
            ranks[here] = rankdata(scores[here])
            component[yes] = (ranks[yes] - rankdata(scores[yes])) / len(no)
            component[no] = 1 - (ranks[no] - rankdata(scores[no])) / len(yes)
            usable[here] = True
    above, below = positive & usable, ~positive & usable
    sums = resampling.sums(np.stack([component * above, above, component * below, below], axis=1))
    sides = _ratio(sums[:, 0], sums[:, 1]), _ratio(sums[:, 2], sums[:, 3])
    return np.asarray(np.clip(sides[0] + sides[1] - sides[1][0], 0, 1))


def _r2(outcome: Outcome, resampling: Resampling) -> Array:
    truth = outcome.truth - outcome.truth.mean(axis=0)
    residual = resampling.sums(np.square(outcome.truth - outcome.scores))
    sums, squares = resampling.sums(truth), resampling.sums(np.square(truth))
    total = squares - np.square(sums) / resampling.sums(np.ones((len(truth), 1)))
    total[total <= 1e-12 * np.maximum(squares[:1], 1e-300)] = 0
    result = 1 - _ratio(residual, total)
    # a constant truth, as in scikit-learn: 1 where it was met, else 0
    result[0] = np.where(total[0] == 0, residual[0] == 0, result[0])
    return np.asarray(result.mean(axis=1))


def _mae(outcome: Outcome, resampling: Resampling) -> Array:
    sums = resampling.sums(np.abs(outcome.truth - outcome.scores))
    return np.asarray((sums / resampling.sums(np.ones((len(outcome.unit), 1)))).mean(axis=1))


def _explained_variance(outcome: Outcome, resampling: Resampling) -> Array:
    sums = resampling.sums(outcome.scores)
    return np.asarray(np.nan_to_num(1 - _ratio(sums[:, 0], sums[:, 1])))  # of nothing, nothing is explained


def _silhouette(outcome: Outcome, resampling: Resampling) -> Array:
    return _ratio(resampling.sums(outcome.scores)[:, 0], resampling.sums(np.ones((len(outcome.unit), 1)))[:, 0])


def _ratio(part: Array, whole: Array) -> Array:
    """Returns part / whole, NaN where there is no whole."""
    missing = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.asarray(np.divide(part, whole, out=missing, where=whole > 0))


def _mean(values: Array) -> Array:
    """Returns means over the second axis of what is there; NaN where nothing is."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0).sum(axis=1), there.sum(axis=1))


_MEASURES: Mapping[Metric, Callable[[Outcome, Resampling], Array]] = {
    Metric.ACCURACY: _accuracy,
    Metric.BALANCED_ACCURACY: _balanced_accuracy,
    Metric.MACRO_F1: _macro_f1,
    Metric.ROC_AUC: _roc_auc,
    Metric.R2: _r2,
    Metric.MAE: _mae,
    Metric.EXPLAINED_VARIANCE: _explained_variance,
    Metric.SILHOUETTE: _silhouette,
}
