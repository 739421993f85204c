"""Examples: rows or positions, with the labels and tokens that belong to them, and nothing of what only fills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from onnxscope_server.domain import Array, Reduction, ReductionKind
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.probing.examples import Examples, Rows
from onnxscope_server.probe_domain import Task

POSITIONS = Reduction(ReductionKind.POSITIONS, mask_input="mask")


def rows(
    labels: Any = None, *, extent: int, inputs: Mapping[str, Array] | None = None, ids: Any = None, **rest: Any
) -> Rows:
    """A batch of rows as the pass gives it to examples."""
    labels = None if labels is None else np.asarray(labels)
    batch = ProbeBatch(inputs or {}, labels=labels, **rest)
    return Rows(batch, 0, batch.row_count(extent), extent, None if ids is None else np.asarray(ids))


def test_filling_rows_are_left_out() -> None:
    """A batch of four with three labels has three examples."""
    examples = Examples(None, None, is_supervised=True)
    pick = examples.add(rows([1, 0, 1], extent=4, ids=[[5], [6], [7], [0]]), 4)
    assert pick(np.arange(8).reshape(4, 2)).tolist() == [[0, 1], [2, 3], [4, 5]]
    labels = examples.labels(None, None)
    assert labels.y is not None
    assert (labels.y.tolist(), labels.row.tolist()) == ([1, 0, 1], [0, 1, 2])
    assert examples.types is not None
    assert examples.types.tolist() == [5, 6, 7]


def test_positions_go_by_mask_and_label() -> None:
    """Examples are what the mask keeps, with a label that is not -100; each knows its row and its id."""
    examples = Examples(POSITIONS, None, is_supervised=True)
    mask = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    ids = [[10, 11, 12], [13, 14, 15], [16, 17, 18]]
    batch = rows([[3, -100, 4], [5, 6, -100]], extent=3, inputs={"mask": mask}, ids=ids, weights=np.array([1.0, 2.0]))
    pick = examples.add(batch, 8)
    # as the graph brings them: row after row, without what the mask leaves out
    assert pick(np.arange(8)[:, None]).ravel().tolist() == [0, 2, 3]
    labels = examples.labels(None, None)
    assert labels.y is not None
    assert labels.weights is not None
    assert labels.y.tolist() == [3, 5, 6]
    assert labels.row.tolist() == [0, 1, 1]
    assert labels.weights.tolist() == [1.0, 2.0, 2.0]
    assert examples.types is not None
    assert examples.types.tolist() == [10, 13, 14]


def test_a_label_of_a_row_is_that_of_its_positions() -> None:
    """Labels [row] count for every position; how many there are the activations tell."""
    examples = Examples(Reduction(ReductionKind.POSITIONS), None, is_supervised=True)
    examples.add(rows([7, 8], extent=2), 6)
    labels = examples.labels(None, None)
    assert labels.y is not None
    assert labels.y.tolist() == [7, 7, 7, 8, 8, 8]


@pytest.mark.parametrize(
    ("kind", "index", "mask", "wanted"),
    [
        (ReductionKind.LAST, None, None, [12, 15]),
        (ReductionKind.LAST, None, [[1, 1, 0], [1, 0, 0]], [11, 13]),
        (ReductionKind.FIRST, None, [[0, 1, 1], [1, 1, 1]], [11, 13]),
        (ReductionKind.INDEX, 1, None, [11, 14]),
        (ReductionKind.MEAN, None, None, None),
    ],
)
def test_the_token_is_that_of_the_position_which_is_read(
    kind: ReductionKind, index: int | None, mask: Any, wanted: list[int] | None
) -> None:
    """A mean reads all of them, so there is none."""
    masked = mask is not None
    reduction = Reduction(kind, axis=1 if index is not None else None, index=index, mask_value="m" if masked else None)
    masks = {"m": np.array(mask)} if masked else {}
    examples = Examples(reduction, None, is_supervised=True)
    examples.add(rows([0, 1], extent=2, ids=[[10, 11, 12], [13, 14, 15]], masks=masks), 2)
    assert (None if examples.types is None else examples.types.tolist()) == wanted


@pytest.mark.parametrize(
    ("labels", "task", "wanted"),
    [
        (np.array([True, False]), None, np.array([1, 0])),
        (np.array([2, 1], np.uint8), None, np.array([2, 1])),
        (np.array(["a", "b"], object), None, np.array(["a", "b"], object)),
        (np.array([1.5, 2.0], np.float32), None, np.array([1.5, 2.0])),
        (np.array([1, 2]), Task.REGRESSION, np.array([1.0, 2.0])),
        (np.array([1.0, 2.0]), Task.CLASSES, np.array([1, 2])),
        (np.array([[True, False], [True, True]]), None, np.array([[True, False], [True, True]])),
        (np.array([[1, 0], [1, 1]]), Task.MULTILABEL, np.array([[True, False], [True, True]])),
    ],
)
def test_labels_come_in_the_types_that_fits_know(labels: Array, task: Task | None, wanted: Array) -> None:
    """Whatever the caller's type."""
    examples = Examples(None, task, is_supervised=True)
    examples.add(rows(labels, extent=2), 2)
    found = examples.labels(None, None).y
    assert found is not None
    assert found.dtype == wanted.dtype
    assert found.tolist() == wanted.tolist()


def test_what_does_not_fit_together_is_said() -> None:
    """Too many labels, labels of positions without positions, positions of other number, no labels."""
    with pytest.raises(DataInvalidError, match=r"The batch has 2 rows, .*labels \[3\]"):
        rows([1, 2, 3], extent=2)
    with pytest.raises(DataInvalidError, match="Choose the reduction 'positions'"):
        Examples(None, None, is_supervised=True).add(rows([[1, 2], [3, 4]], extent=2), 2)
    with pytest.raises(DataInvalidError, match="6 positions came from the model"):
        Examples(Reduction(ReductionKind.POSITIONS), None, is_supervised=True).add(rows([[1, 2], [3, 4]], extent=2), 6)
    with pytest.raises(DataInvalidError, match="has no labels"):
        Examples(None, None, is_supervised=True).add(rows(extent=2), 2)
    with pytest.raises(DataInvalidError, match="the mask 'mask' has to be sent"):
        Examples(POSITIONS, None, is_supervised=True).add(rows([1, 2], extent=2), 2)
