"""Results without the rows that filled a fixed batch."""

from __future__ import annotations

import numpy as np
import pytest

from onnxscope import reduce
from onnxscope.ask import Ask
from onnxscope.padding import Padding, row_axis
from onnxscope.results import Activations, HookPoint
from onnxscope.rows import Piece

PIECE = Piece({"mask": np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]])}, first_row=3, row_count=2, padded_count=3)


def point(address="h", kind="activation", batch_axis=None):
    """A hook point."""
    return HookPoint(address, "Relu", "float32", None, 0.5, kind, batch_axis)


def removed(make_model, value, *, reduction=None, axis=None, kind="activation"):
    """The result of a padded piece, without the padding."""
    padding = Padding(Ask.of(make_model(), "h", reduction=reduction))
    acts = Activations({"h": value}, outputs={"y": value})
    known = [point(kind=kind, batch_axis=axis)]
    padding.learn([[*known, point("y")], *([known] if reduction else [])])
    return padding.remove(acts, PIECE)


@pytest.mark.parametrize(
    ("value", "known", "expected"),
    [
        (np.zeros((3, 5)), point(), 0),
        (np.zeros((5, 3)), point(), 1),
        (np.zeros((5, 3, 3)), point(), None),
        (np.zeros((5, 3, 3)), point(batch_axis=2), 2),
        (np.zeros((3, 5)), None, 0),
        (np.zeros((3, 5)), point(kind="weight"), None),
        (np.zeros((3, 5)), point(kind="constant"), None),
        (np.zeros(()), point(), None),
        ([np.zeros(3)], point(), None),
        (None, point(), None),
    ],
)
def test_where_rows_are(value, known, expected):
    """What the server found wins; else the first axis that fits, or the only one."""
    assert row_axis(value, PIECE, known) == expected


def test_rows_are_taken_off_activations_and_outputs(make_model):
    """Both lose the rows that were added, along their own axes."""
    acts = removed(make_model, np.arange(6).reshape(3, 2), axis=0)
    assert acts["h"].tolist() == acts.outputs["y"].tolist() == [[0, 1], [2, 3]]
    assert removed(make_model, np.zeros((2, 1, 3, 4)), axis=2)["h"].shape == (2, 1, 2, 4)


def test_every_iteration_in_a_list_loses_them(make_model):
    """Shapes differ from one to the next, and a branch was not taken in one."""
    value = [np.zeros((3, 1)), None, np.zeros((3, 2))]
    assert [item if item is None else item.shape for item in removed(make_model, value, axis=1)["h"]] == [
        (2, 1),
        None,
        (2, 2),
    ]


def test_a_reduced_value_has_rows_first(make_model):
    """Whatever axis they had before; an index of axis 0 leaves none."""
    value = np.zeros((3, 3))
    assert removed(make_model, value, reduction="mean", axis=2)["h"].shape == (2, 3)
    assert removed(make_model, value, reduction=reduce.index(0, 1), axis=0)["h"].shape == (3, 3)


def test_positions_go_with_their_rows(make_model):
    """Without a mask each row has as many; with one, those that the mask keeps."""
    value = np.arange(9)[:, None]
    assert len(removed(make_model, value, reduction="positions")["h"]) == 6
    kept = np.arange(4)[:, None]
    assert len(removed(make_model, kept, reduction=reduce.positions(mask="mask"))["h"]) == 3
    mask = np.array([[0, 0]] * 3 + [[1, 1], [0, 1]])
    assert len(removed(make_model, np.arange(4)[:, None], reduction=reduce.positions(mask=mask))["h"]) == 3


def test_what_has_no_rows_stays(make_model):
    """Weights, lists and absent values are as they came."""
    assert removed(make_model, np.zeros((3, 2)), kind="weight")["h"].shape == (3, 2)
    assert removed(make_model, None)["h"] is None


def test_the_server_is_asked_for_names_and_for_each_rule(make_model):
    """One list of selectors for the values, one for each reduction's selector."""
    padding = Padding(Ask.of(make_model(), ["h", "g"], reduction={"op:Relu": "mean", "g": "max"}))
    assert padding.questions(Activations({"h": 1, "g": 2}, outputs={"y": 3, "g": 4})) == [
        ["h", "g", "y"],
        ["op:Relu"],
        ["g"],
    ]
