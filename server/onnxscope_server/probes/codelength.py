"""Description length by online coding (Voita & Titov 2020), and the learning curve, from the same fits.

Training rows come in a random order, in blocks that end at `SHARES`. The first block costs log2(classes) bits a label;
each later one is coded by the probe that was fitted on all rows before it, whose probabilities are mixed with 1 % of
uniform ones. Compression is the uniform code's length over the online code's. Several labels are coded one by one, as
two classes each. What can't be learned yet (a single class so far) is coded uniformly. Regression has no code.
The labels' frequencies so far, coded by in the place of a probe, say what is gained without any activation.

Kinds that have no probabilities get them from their scores s, less their mean and over their root mean square in the
block, as softmax(s / t), and for several labels as 1 / (1 + exp(-s / t)). The temperature t is the one that codes the
blocks best that were coded so far (for the first one the rows that the probe was fitted on), so that whoever decodes
knows it too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Fitted, Metric, Rows, Task
from onnxscope_server.probes import kinds, scoring
from onnxscope_server.probes.splits import Split
from onnxscope_server.probes.targets import Targets
from onnxscope_server.probes.trials import Trials

SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
CURVE_FROM = 0.05  # where there is no code, smaller shares are not fitted
UNIFORM = 0.01


@dataclass(frozen=True, slots=True)
class Code:
    """An online code.

    Attributes:
        bits: its length; None for tasks without a code.
        compression: of the uniform code, against it.
        baseline_compression: the same of the code by the frequencies of labels alone.
        curve: number of rows and the score on the held-out ones of the probe fitted on so many, rising.
    """

    bits: float | None
    compression: float | None
    baseline_compression: float | None
    curve: tuple[tuple[int, float], ...]


def code(trials: Trials, rows: Rows, split: Split, metric: Metric, seed: int) -> Code:
    """Codes the labels of the training rows of a split."""
    targets = trials.targets
    examples, ends = _order(targets, split.train, seed)
    coded = targets.task in {Task.CLASSES, Task.MULTILABEL}
    coder = _Coder(trials, rows)
    curve = []
    bits = baseline_bits = uniform_bits(targets, ends[0][1])
    for (row_count, end), (_, next_end) in itertools.pairwise(ends):
        if not coded and row_count < CURVE_FROM * ends[-1][0]:
            continue
        known, block = examples[:end], examples[end:next_end]
        fitted = _fitted(trials, rows, known)
        if coded:
            bits += coder.bits(fitted, known, block)
            baseline_bits += _frequency_bits(targets, known, block)
        score = None if fitted is None else scoring.scored(metric, trials.outcome(fitted, rows, split.test))
        if score is not None:
            curve.append((row_count, score))
    whole = uniform_bits(targets, len(examples))
    if not coded:
        return Code(None, None, None, tuple(curve))
    return Code(bits, whole / bits, whole / baseline_bits, tuple(curve))


def uniform_bits(targets: Targets, example_count: int) -> float:
    """Returns the length of the uniform code of the labels of some examples; 0 for tasks without a code."""
    if targets.task == Task.CLASSES:
        return example_count * float(np.log2(len(targets.classes)))
    return float(example_count * targets.truth.shape[1]) if targets.task == Task.MULTILABEL else 0.0


def _order(targets: Targets, train: Array, seed: int) -> tuple[Array, list[tuple[int, int]]]:
    """Returns examples by a random order of their rows, and of each block's end the number of rows and of examples."""
    rows, index = np.unique(targets.row[train], return_inverse=True)
    place = np.random.default_rng([seed, 41]).permutation(len(rows))[index]
    counts = np.cumsum(np.bincount(place))
    ends = np.unique([max(1, round(share * len(rows))) for share in SHARES])
    return train[np.argsort(place, kind="stable")], [(int(end), int(counts[end - 1])) for end in ends]


def _fitted(trials: Trials, rows: Rows, known: Array) -> Fitted | None:
    """Fits on the rows that are known; None where nothing can be learned from them."""
    try:
        return trials.fit(rows, known)
    except DataInvalidError:
        return None


class _Coder:
    """Codes blocks one after the other.

    Args:
        trials: ask the probes.
        rows: activations.
    """

    def __init__(self, trials: Trials, rows: Rows) -> None:
        self._trials = trials
        self._rows = rows
        self._seen: list[tuple[Array, Array]] = []

    def bits(self, fitted: Fitted | None, known: Array, block: Array) -> float:
        """Returns the length of the code of a block, by the probe fitted on what is known."""
        targets = self._trials.targets
        if fitted is None:
            return uniform_bits(targets, len(block))
        truth, scores = targets.truth[block], self._trials.scores(fitted, self._rows, block)
        if fitted.kind in kinds.PROBABILISTIC:
            bits = _bits(np.maximum(scores, 0), truth)
        else:
            scores = _normalised(scores, targets.task)
            past = self._seen
            if not past:
                past = [
                    (_normalised(self._trials.scores(fitted, self._rows, known), targets.task), targets.truth[known])
                ]
            pair = np.concatenate([one for one, _ in past]), np.concatenate([one for _, one in past])
            self._seen.append((scores, truth))
            bits = _bits(_probabilities(scores, truth, _temperature(*pair)), truth)
        return _total(bits, targets, known)


def _frequency_bits(targets: Targets, known: Array, block: Array) -> float:
    """Returns the length of the code of a block, by how frequent labels are among what is known."""
    truth = targets.truth[known]
    if targets.task == Task.MULTILABEL:
        frequencies = truth.mean(axis=0)
    else:
        frequencies = np.bincount(truth, minlength=len(targets.classes)) / len(truth)
        if frequencies.max() == 1:
            return uniform_bits(targets, len(block))
    return _total(_bits(np.tile(frequencies, (len(block), 1)), targets.truth[block]), targets, known)


def _total(bits: Array, targets: Targets, known: Array) -> float:
    """Returns the sum over a block; labels of which one value alone is known so far are coded uniformly."""
    if targets.task == Task.MULTILABEL:
        before = targets.truth[known]
        bits[:, (before == before[0]).all(axis=0)] = 1.0
    return float(bits.sum())


def _bits(probabilities: Array, truth: Array) -> Array:
    """Returns the code length of each label, [example] or [example, label]."""
    if truth.ndim > 1:
        right = np.where(truth, probabilities, 1 - probabilities)
        return np.asarray(-np.log2((1 - UNIFORM) * right + UNIFORM / 2))
    right = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return np.asarray(-np.log2((1 - UNIFORM) * right + UNIFORM / probabilities.shape[1]))


def _normalised(scores: Array, task: Task) -> Array:
    """Returns scores of a decision on a scale that does not depend on how many rows the probe was fitted on."""
    scores = scores.astype(np.float64)
    there = np.isfinite(scores)
    if task == Task.CLASSES:
        scores = scores - np.where(there, scores, 0).sum(axis=1, keepdims=True) / there.sum(axis=1, keepdims=True)
    return np.asarray(scores / (float(np.sqrt(np.square(scores[there]).mean())) or 1.0))


def _probabilities(scores: Array, truth: Array, temperature: float) -> Array:
    scaled = scores / temperature
    return np.asarray(expit(scaled) if truth.ndim > 1 else softmax(scaled, axis=1))


def _temperature(scores: Array, truth: Array) -> float:
    """Returns the temperature with which the labels of `truth` have the shortest code."""

    def length(exponent: float) -> float:
        return float(_bits(_probabilities(scores, truth, float(np.exp(exponent))), truth).sum())

    return float(np.exp(minimize_scalar(length, bounds=(-5, 5), method="bounded").x))
