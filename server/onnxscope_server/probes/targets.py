"""Labels that were looked at: what they are, and that something can be learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Class, Labels, ProbeSpec, Task
from onnxscope_server.probes import kinds

MIN_ROWS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What examples are to be told apart by.

    Attributes:
        task: what the labels are.
        classes: in order; of several labels their numbers; empty for none.
        y: as a learner takes them: int64 or text [example], bool [example, label], float64 [example] or [example,
            target]; None for unsupervised kinds.
        truth: as scores take them: the number of the class int64 [example], bool [example, label], or float64
            [example, target]; [example, 0] for unsupervised kinds.
        row: int64 [example]: the row of each.
        unit: int64 [example]: the group of each, else its row. Units are never parted.
        weights: float64 [example]; None for 1.
        test: bool [example]: to hold out; None to draw.
    """

    task: Task
    classes: tuple[Class, ...]
    y: Array | None
    truth: Array
    row: Array
    unit: Array
    weights: Array | None
    test: Array | None

    def labels(self, examples: Array) -> Array | None:
        """Returns the labels of some examples, for a learner."""
        return None if self.y is None else self.y[examples]

    def weight(self, examples: Array) -> Array | None:
        """Returns the weights of some examples, for a learner."""
        return None if self.weights is None else self.weights[examples]

    def row_count(self, examples: Array) -> int:
        """Returns of how many rows some examples are."""
        return len(np.unique(self.row[examples]))


def of(spec: ProbeSpec, labels: Labels, example_count: int) -> Targets:
    """Looks at labels.

    Raises:
        DataInvalidError: they have another length than the activations or each other, hold NaN, are too few, hold a
            single class, or are not what the kind or the task needs.
    """
    _check_lengths(labels, example_count)
    row = labels.row.astype(np.int64)
    task = kinds.task_of(spec.kind, labels.y) if spec.task is None else spec.task
    kinds.check(spec.kind, task)
    y = _typed(labels.y, task, example_count)
    classes, truth = _truth(y, task, example_count)
    if isinstance(spec.class_weight, Mapping):
        _check_class_weight(spec.class_weight, classes)
    if len(np.unique(row)) < MIN_ROWS:
        raise DataInvalidError(
            f"there are {len(np.unique(row))} rows with labels, too little data to learn from and to test on: "
            f"give {MIN_ROWS} or more"
        )
    unit = row if labels.groups is None else np.unique(labels.groups, return_inverse=True)[1][row]
    if len(np.unique(unit)) == 1:
        raise DataInvalidError("all rows are in one group, and groups are never parted: give two groups or more")
    test = None if labels.test is None else labels.test.astype(bool)[row]
    return Targets(task, classes, y, truth, row, unit, _weights(labels.weights), test)


def _check_lengths(labels: Labels, example_count: int) -> None:
    if not example_count:
        raise DataInvalidError("there are no activations to learn from: give rows")
    if labels.row.ndim != 1 or len(labels.row) != example_count:
        raise DataInvalidError(f"there are activations of {example_count} examples and rows for {len(labels.row)}")
    for name, array in (("labels y", labels.y), ("sample_weight", labels.weights)):
        if array is not None and (array.ndim == 0 or len(array) != example_count):
            raise DataInvalidError(
                f"{name} have shape {list(array.shape)} and there are activations of {example_count} examples: "
                "give one for each"
            )
    if labels.row.min() < 0:
        raise DataInvalidError("rows are numbered from 0")
    row_count = int(labels.row.max()) + 1
    for name, array in (("groups", labels.groups), ("test", labels.test)):
        if array is not None and (array.ndim != 1 or len(array) < row_count):
            raise DataInvalidError(
                f"{name} has shape {list(array.shape)} and there are {row_count} rows: give one for each row"
            )


def _typed(y: Array | None, task: Task, example_count: int) -> Array | None:
    """Returns labels in the type that their task has."""
    if task == Task.UNSUPERVISED:
        return None
    if y is None:
        raise DataInvalidError("labels y are missing: give one for each row")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        example = int(np.nonzero(~np.isfinite(y.reshape(example_count, -1)).all(axis=1))[0][0])
        raise DataInvalidError(f"labels y hold NaN or infinity (first in example {example}): leave those rows out")
    if task == Task.REGRESSION:
        return _numbers(y)
    return _classes(y) if task == Task.CLASSES else _several(y)


def _numbers(y: Array) -> Array:
    if y.dtype.kind not in "fiub":
        raise DataInvalidError("labels y of a regression must be numbers; for text the task is classes")
    if y.ndim > 2 or y.size == 0:  # noqa: PLR2004 - [example] or [example, target]
        raise DataInvalidError(f"labels y have shape {list(y.shape)}: give [row] or [row, target]")
    return y.astype(np.float64)


def _several(y: Array) -> Array:
    if y.ndim != 2 or y.size == 0 or y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():  # noqa: PLR2004
        raise DataInvalidError(f"several labels for a row are [row, label] of 0 and 1, not {list(y.shape)} {y.dtype}")
    return y.astype(bool)


def _classes(y: Array) -> Array:
    if y.ndim != 1:
        raise DataInvalidError(f"classes are one label for each example, and labels y have shape {list(y.shape)}")
    if y.dtype.kind == "f" and not (y == np.rint(y)).all():
        raise DataInvalidError(
            "labels y are fractions, and not classes: give integers or text, or choose the task regression"
        )
    return y.astype(np.str_) if y.dtype.kind in "OUS" else y.astype(np.int64)


def _truth(y: Array | None, task: Task, example_count: int) -> tuple[tuple[Class, ...], Array]:
    if y is None:
        return (), np.zeros((example_count, 0))
    if task == Task.REGRESSION:
        if (y == y[0]).all():
            raise DataInvalidError("every label y is the same number: there is nothing to learn")
        return (), y.reshape(example_count, -1)
    if task == Task.MULTILABEL:
        if (y == y[0]).all():
            raise DataInvalidError("every row has the same labels: there is nothing to learn; give other rows")
        return tuple(range(y.shape[1])), y
    classes, numbers = kinds.numbered(y)
    if len(classes) == 1:
        raise DataInvalidError(f"every label y is {classes[0]!r}: a probe needs rows of two classes or more")
    if len(classes) == example_count:
        raise DataInvalidError(
            "no class has two rows: nothing can be learned and tested; for a regression give labels y as floats"
        )
    return classes, numbers


def _check_class_weight(class_weight: Mapping[Class, float], classes: tuple[Class, ...]) -> None:
    unknown = {str(one) for one in class_weight} - {str(one) for one in classes}
    if unknown:
        raise DataInvalidError(f"class_weight names {', '.join(sorted(unknown))}, and no label is that: leave it out")
    if not all(np.isfinite(one) and one > 0 for one in class_weight.values()):
        raise DataInvalidError("class_weight must have a finite number above 0 for each class that it names")


def _weights(weights: Array | None) -> Array | None:
    if weights is None:
        return None
    weights = weights.astype(np.float64)
    if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise DataInvalidError("sample_weight must be one finite number for each row, none below 0 and some above")
    return weights
