"""Fits a probe on some examples and asks it about others; every measurement is made of such trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import silhouette_samples

from onnxscope_server.domain import Array
from onnxscope_server.errors import RunCancelledError
from onnxscope_server.probe_domain import Fitted, Learner, ProbeKind, Rows, Task
from onnxscope_server.probes import kinds, predict, stopping
from onnxscope_server.probes.scoring import Outcome
from onnxscope_server.probes.targets import Targets

BLOCK_NUMBERS = 2**23  # numbers of activations that are looked at at once
SILHOUETTE_EXAMPLES = 2000  # each is compared with each


@dataclass(frozen=True, slots=True)
class Trials:
    """Fits and asks, until it is told to stop.

    Attributes:
        learner: of the probe.
        targets: of all examples.
        stopped: whether to raise RunCancelledError, looked at before each fit and each block of activations.
    """

    learner: Learner
    targets: Targets
    stopped: Callable[[], bool]

    def fit(self, rows: Rows, examples: Array, labels: Array | None = None) -> Fitted:
        """Fits a probe.

        Args:
            rows: activations.
            examples: to learn from.
            labels: other labels of those than the targets'.

        Raises:
            DataInvalidError: nothing can be learned from them.
            RunCancelledError: it was stopped.
        """
        self._look()
        y = self.targets.labels(examples) if labels is None else labels
        with stopping.looking(self._look):
            return self.learner.fit(rows, examples, y, self.targets.weight(examples))

    def scores(self, fitted: Fitted, rows: Rows, examples: Array) -> Array:
        """Returns what a supervised probe says: [example, class of the targets], [example, label or target].

        A class that it did not meet has -infinity.
        """
        said = np.concatenate([predict.predictions(fitted, one)["scores"] for one in self._blocks(rows, examples)])
        if fitted.task != Task.CLASSES or fitted.classes == self.targets.classes:
            return said
        result = np.full((len(said), len(self.targets.classes)), -np.inf, dtype=np.float32)
        result[:, [self.targets.classes.index(one) for one in fitted.classes]] = said
        return result

    def outcome(self, fitted: Fitted, rows: Rows, examples: Array, truth: Array | None = None) -> Outcome:
        """Asks a probe about examples.

        Args:
            fitted: the probe.
            rows: activations.
            examples: to ask about.
            truth: another one than the targets'.
        """
        if fitted.kind == ProbeKind.PCA:
            scores = np.concatenate([_left(fitted, one) for one in self._blocks(rows, examples)])
        elif fitted.kind == ProbeKind.KMEANS:
            generator = np.random.default_rng(0)
            if len(examples) > SILHOUETTE_EXAMPLES:
                examples = np.sort(generator.choice(examples, SILHOUETTE_EXAMPLES, replace=False))
            scores = _silhouettes(fitted, np.concatenate(list(self._blocks(rows, examples))))
        else:
            scores = self.scores(fitted, rows, examples)
        truth = self.targets.truth[examples] if truth is None else truth
        probabilities = fitted.kind in kinds.PROBABILISTIC
        fold = np.zeros(len(examples), dtype=np.int64)
        return Outcome(self.targets.task, truth, scores, probabilities, self.targets.unit[examples], fold)

    def _blocks(self, rows: Rows, examples: Array) -> Iterator[Array]:
        for block in rows.blocks(examples, max(1, BLOCK_NUMBERS // max(1, rows.shape[1]))):
            self._look()
            yield kinds.finite(block)

    def _look(self) -> None:
        if self.stopped():
            raise RunCancelledError("the fit of the probe was cancelled")


def _scaled(fitted: Fitted, activations: Array) -> Array:
    features = activations.astype(np.float64)
    return features if fitted.scaler is None else np.asarray(fitted.scaler.transform(features))


def _left(fitted: Fitted, activations: Array) -> Array:
    """Returns what PCA leaves of each example's squared distance to the mean, and that [example, 2]."""
    features = _scaled(fitted, activations)
    pca = fitted.estimator
    total = np.square(features - pca.mean_).sum(axis=1)
    left = np.square(features - pca.inverse_transform(pca.transform(features))).sum(axis=1)
    return np.stack([left, total], axis=1)


def _silhouettes(fitted: Fitted, activations: Array) -> Array:
    """Returns each example's silhouette [example, 1]; 0 where clusters can't be compared."""
    features = _scaled(fitted, activations)
    clusters = fitted.estimator.predict(features)
    if not 1 < len(np.unique(clusters)) < len(clusters):
        return np.zeros((len(clusters), 1))
    return np.asarray(silhouette_samples(features, clusters)).reshape(-1, 1)
