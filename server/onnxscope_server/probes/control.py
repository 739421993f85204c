"""The control task of Hewitt & Liang (2019): what the same probe scores where there is nothing to know.

Each type of input (a token's id, or a cluster of the raw input) has a random label, drawn from the training labels.
Only a probe that learns types by heart scores on it; selectivity is what the probe scores more on the task itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.random_projection import SparseRandomProjection

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Rows, Task
from onnxscope_server.probes import kinds
from onnxscope_server.probes.scoring import Outcome, joined
from onnxscope_server.probes.splits import Split
from onnxscope_server.probes.targets import Targets
from onnxscope_server.probes.trials import BLOCK_NUMBERS, Trials

CLUSTERS = 200
EXAMPLES_A_CLUSTER = 5
CLUSTERED_EXAMPLES = 20_000
CLUSTERED_NUMBERS = 2**25
MAX_CLUSTERED = 1e12  # largest number of an input as k-means sees it
DRAWS = 100
INPUT_FEATURES = 4096
PROJECTIONS = 1024

# types of the examples, int64 [example], for a split by its number
Types = Callable[[int], Array]


@dataclass(frozen=True, slots=True)
class ProjectedRows:
    """Random projections of rows that have too many features to fit a probe on."""

    rows: Rows
    projection: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples and of projections."""
        return self.rows.shape[0], PROJECTIONS

    def take(self, examples: Array) -> Array:
        """Returns some examples [example, projection]."""
        return np.concatenate(list(self.blocks(examples, max(1, len(examples)))))

    def blocks(self, examples: Array, size: int) -> Iterator[Array]:
        """Yields the same in blocks of at most `size` examples."""
        fitting = max(1, min(size, BLOCK_NUMBERS // self.rows.shape[1]))
        for block in self.rows.blocks(examples, fitting):
            yield self.projection.transform(block).astype(np.float32)


def reduced(raw: Rows, seed: int) -> Rows:
    """Returns the raw input, as random projections where it has more than `INPUT_FEATURES` features."""
    if raw.shape[1] <= INPUT_FEATURES:
        return raw
    projection = SparseRandomProjection(PROJECTIONS, random_state=seed)
    return ProjectedRows(raw, projection.fit(np.zeros((1, raw.shape[1]), dtype=np.float32)))


def clusters(raw: Rows, train: Array, seed: int) -> Array:
    """Returns types that are clusters of the raw input, fitted on the examples to learn from: int64 [example]."""
    most = min(CLUSTERED_EXAMPLES, CLUSTERED_NUMBERS // raw.shape[1])
    if len(train) > most:
        train = np.sort(np.random.default_rng([seed, 17]).choice(train, most, replace=False))
    inputs = kinds.finite(raw.take(train))
    count = max(2, min(CLUSTERS, len(train) // EXAMPLES_A_CLUSTER))
    # positions of one row have the same input
    count = min(count, len({one.tobytes() for one in inputs}))
    # distances are squares, which float32 may not hold; clusters are the same at any scale
    scale = np.float32(max(1.0, float(np.abs(inputs).max()) / MAX_CLUSTERED))
    found = KMeans(count, n_init=1, random_state=seed).fit(inputs / scale)
    every = raw.blocks(np.arange(raw.shape[0]), max(1, BLOCK_NUMBERS // raw.shape[1]))
    return np.concatenate([found.predict(kinds.finite(one) / scale) for one in every]).astype(np.int64)


def outcome(trials: Trials, rows: Rows, splits: list[Split], types: Types, seed: int) -> Outcome:
    """Returns what the probe says of the control task's held-out examples.

    Raises:
        DataInvalidError: all types got the same label, or nothing can be learned.
    """
    found = []
    for number, split in enumerate(splits):
        source = _sources(trials.targets, split.train, types(number), [seed, 23, number])
        fitted = trials.fit(rows, split.train, trials.targets.labels(source[split.train]))
        found.append(trials.outcome(fitted, rows, split.test, trials.targets.truth[source[split.test]]))
    return joined(found)


def _sources(targets: Targets, train: Array, types: Array, seed: list[int]) -> Array:
    """Returns for each example the training example whose label its type has, int64 [example]."""
    _, numbers = np.unique(types, return_inverse=True)
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS):
        sources = generator.choice(train, int(numbers.max()) + 1)[numbers]
        truth = targets.truth[sources[train]]
        if targets.task == Task.UNSUPERVISED or (truth != truth[0]).any():
            return np.asarray(sources)
    raise DataInvalidError("the inputs to learn from are of one type, so that the control task has a single label")
