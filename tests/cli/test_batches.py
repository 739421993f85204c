"""Batches become one piece again, or it is said why not."""

import numpy as np
import pytest

from onnxscope.cli.batches import join
from onnxscope.cli.console import CommandError
from onnxscope.results import HookPoint


def point(kind="activation", batch_axis=None):
    """Returns what is known of a hook point."""
    return HookPoint("h", "Op", "float32", None, 0.5, kind, batch_axis)


def test_rows_are_joined_along_the_batch_axis():
    """Which need not be the first."""
    parts = [np.zeros((5, 2)), np.ones((5, 1))]
    assert join("h", parts, point(batch_axis=1), 3).shape == (5, 3)
    assert join("h", [part.T for part in parts], point(batch_axis=0), 3).shape == (3, 5)


def test_reductions_have_rows_first():
    """Whatever the axis was before, and with a row for each position too."""
    parts = [np.zeros((2, 5)), np.ones((1, 5))]
    assert join("h", parts, point(batch_axis=1), 3, is_reduced=True).shape == (3, 5)
    parts = [np.zeros((8, 5)), np.ones((4, 5))]
    assert join("h", parts, point(batch_axis=0), 3, is_reduced=True).shape == (12, 5)


def test_weights_are_kept_once():
    """They are the same for all rows."""
    parts = [np.zeros((3, 3)), np.zeros((3, 3))]
    assert join("w", parts, point("weight"), 6).shape == (3, 3)
    assert join("h", [np.zeros(4), np.zeros(4)], point(), 3).shape == (4,)


def test_lists_with_an_item_a_row_are_joined():
    """As classifiers of scikit-learn give them."""
    assert join("p", [[{0: 1.0}, {0: 2.0}], [{0: 3.0}]], None, 3) == [{0: 1.0}, {0: 2.0}, {0: 3.0}]


@pytest.mark.parametrize(
    "parts", [[np.float32(1), np.float32(2)], [np.zeros((2, 2)), np.ones((2, 2))], [[1], [2]], [None, np.ones(2)]]
)
def test_what_has_no_rows_is_refused_by_name(parts):
    """It differs from batch to batch, and nothing says how."""
    with pytest.raises(CommandError, match="nohow has no axis of rows"):
        join("nohow", parts, point(), 3)


def test_a_branch_that_no_batch_took_stays_none():
    """There is nothing to join."""
    assert join("in_branch", [None, None], None, 4) is None
