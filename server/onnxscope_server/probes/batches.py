"""Learning from activations that need not be in memory: the same probes as `kinds` gives, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError, LimitExceededError
from onnxscope_server.probe_domain import Class, Fitted, ProbeKind, Rows, Task
from onnxscope_server.probes import iterated, kinds, streamed
from onnxscope_server.probes.kinds import MemoryLearner
from onnxscope_server.probes.sums import Data

# of a feature or decision of an example while it is learned from: float32, float64, and what is computed of it
_WORKING_BYTES = 24
_WEIGHT_BYTES = 8  # float64; while it learns there are some copies
_SMALL_NETWORK_BYTES = 1 << 24  # is never too large
_SETTING = "probe_memory_bytes"
_SHOWN = 5


def learner(
    kind: ProbeKind,
    task: Task,
    params: Mapping[str, Any],
    class_weight: Mapping[Class, float] | str | None,
    seed: int,
    block_bytes: int,
) -> BlockLearner:
    """Returns what fits probes of a kind without having all rows in memory.

    Args:
        kind: what to fit.
        task: what labels are.
        params: by scikit-learn's names, and `standardize`.
        class_weight: "balanced" or by class; None for 1.
        seed: of everything random.
        block_bytes: that a block of activations may take with all that is computed of it. Examples that fit into one
            block are learned from as `kinds.learner` does.

    Raises:
        DataInvalidError: the kind can't do the task, a parameter is unknown, or class_weight has no meaning.
    """
    return BlockLearner(kinds.learner(kind, task, params, class_weight, seed), block_bytes)


@dataclass(frozen=True, slots=True)
class BlockLearner:
    """Fits probes block by block; see `learner`.

    Ridge, LDA, mean difference, mass mean, PCA and nearest centroid are exact from one pass; logistic regression and
    linear SVM have the optimum that scikit-learn finds; k-means and multi-layer perceptrons are as good as it. What
    learns from all rows at once (k nearest neighbours, and kinds with some parameters) must fit into a block.
    """

    memory: MemoryLearner
    block_bytes: int

    def fit(self, rows: Rows, examples: Array, y: Array | None, weights: Array | None) -> Fitted:
        """Fits a probe; see `probe_domain.Learner`.

        Raises:
            DataInvalidError: nothing can be learned from the examples.
            LimitExceededError: the kind needs all of them in memory, and they are too many.
        """
        features = rows.shape[1]
        self._check_network(features)
        needed = len(examples) * features * _WORKING_BYTES
        if needed <= self.block_bytes:
            return self.memory.fit(rows, examples, y, weights)
        fit = next((way.fit for way in (streamed, iterated) if way.can(self.memory)), None)
        if fit is None:
            raise self._too_many(len(examples), needed)
        classes, target, learning_weights = self.memory.targets(y, weights)
        order = np.argsort(examples, kind="stable")
        outputs = len(classes) or (1 if target is None or target.ndim == 1 else target.shape[1])
        data = Data(
            rows,
            examples[order],
            None if target is None else target[order],
            None if weights is None else weights[order],
            None if learning_weights is None else learning_weights[order],
            max(1, self.block_bytes // ((features + outputs) * _WORKING_BYTES)),
        )
        try:
            scaler, estimator = fit(self.memory, data)
        except (ValueError, TypeError, OverflowError) as error:  # scikit-learn's words for parameters out of range
            raise DataInvalidError(f"scikit-learn can't fit {self.memory.kind}: {error}") from error
        return Fitted(self.memory.kind, self.memory.task, classes, scaler, estimator, features)

    def _check_network(self, features: int) -> None:
        """Refuses a multi-layer perceptron whose weights don't fit into a block."""
        if self.memory.kind != ProbeKind.MLP:
            return
        hidden = self.memory.made(1).hidden_layer_sizes
        layers = [features, *np.ravel(hidden).tolist()]
        # what is no size is told of by scikit-learn
        if not all(isinstance(size, int) and size > 0 for size in layers):
            return
        needed = _WEIGHT_BYTES * sum(before * after for before, after in itertools.pairwise(layers))
        most = max(self.block_bytes, _SMALL_NETWORK_BYTES)
        if needed > most:
            raise LimitExceededError(
                f"The weights between {' and '.join(map(str, layers[:_SHOWN]))} units take {needed} bytes. Choose "
                "smaller hidden_layer_sizes, reduce the activations (reduce=), or start the server with a larger "
                f"--{_SETTING.replace('_', '-')}.",
                setting=_SETTING,
                limit=str(most),
                got=str(needed),
            )

    def _too_many(self, count: int, needed: int) -> LimitExceededError:
        params = ", ".join(sorted(set(self.memory.params) - {"standardize"}))
        which = f"{self.memory.kind} with {params}" if params else str(self.memory.kind)
        return LimitExceededError(
            f"A probe of kind {which} needs all of its {count} rows in memory, and these don't fit. Fit it on fewer "
            "rows, reduce the activations (reduce=), choose another kind (logistic, ridge, lda ...), or start the "
            f"server with a larger --{_SETTING.replace('_', '-')}.",
            setting=_SETTING,
            limit=str(self.block_bytes),
            got=str(needed),
        )
