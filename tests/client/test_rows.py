"""A data set, cut into what a model takes at once."""

from __future__ import annotations

import numpy as np
import pytest

import onnxscope
from onnxscope.rows import Rows, is_batches
from onnxscope.v1 import tensor_pb2 as pb

DATA = np.arange(21, dtype=np.float32).reshape(7, 3)


@pytest.fixture
def open_model(make_model, make_spec):
    """A model whose batch is open."""
    return make_model(make_spec("x"))


@pytest.fixture
def fixed_model(make_model, make_spec):
    """A model that takes four rows at once."""
    return make_model(make_spec("x", shape=(4, 3)), make_spec("scale", shape=(1,)))


def sizes(rows):
    """Where the pieces are and how many rows run."""
    return [(piece.first_row, piece.row_count, piece.padded_count) for piece in rows.pieces()]


@pytest.mark.parametrize("data", [DATA, {"x": DATA}, DATA.tolist()])
def test_a_whole_data_set_is_cut(open_model, data):
    """Arrays, dicts of arrays and lists of numbers go in pieces of batch_size."""
    rows = Rows(data, open_model, batch_size=3)
    assert rows.total == 7
    assert sizes(rows) == [(0, 3, 3), (3, 3, 3), (6, 1, 1)]
    np.testing.assert_array_equal(np.concatenate([piece.values["x"] for piece in rows.pieces()]), DATA)


def test_batches_stay_as_they_are(open_model):
    """An iterable's batches are the caller's cut; a list of them has a known number of rows."""
    rows = Rows([DATA[:5], DATA[5:]], open_model, batch_size=2)
    assert rows.total == 7
    assert sizes(rows) == [(0, 5, 5), (5, 2, 2)]
    assert Rows(iter([DATA]), open_model).total is None


def test_an_iterable_is_read_lazily(open_model):
    """Nothing is pulled before it is wanted."""
    pulled = []

    def batches():
        for step in range(3):
            pulled.append(step)
            yield DATA

    pieces = Rows(batches(), open_model).pieces()
    assert pulled == []
    next(pieces)
    assert pulled == [0]


@pytest.mark.parametrize("data", [DATA, [DATA], [DATA[:2], DATA[2:]], DATA.tolist()])
def test_a_fixed_batch_is_respected(fixed_model, data):
    """Every piece has the model's size, the last by repeating its last row; other inputs stay whole."""
    many = isinstance(data, list) and isinstance(data[0], np.ndarray)
    given = [{"x": part, "scale": [2.0]} for part in data] if many else {"x": data, "scale": [2.0]}
    pieces = list(Rows(given, fixed_model).pieces())
    assert {len(piece.values["x"]) for piece in pieces} == {4}
    assert {len(piece.values["scale"]) for piece in pieces} == {1}
    kept = np.concatenate([piece.values["x"][: piece.row_count] for piece in pieces])
    np.testing.assert_array_equal(kept, DATA)
    assert pieces[-1].is_padded
    np.testing.assert_array_equal(pieces[-1].values["x"][-1], DATA[-1])


def test_an_input_that_looks_like_many_rows_but_is_declared_so_stays_whole(make_model, make_spec):
    """Two boxes a row are no two rows."""
    model = make_model(make_spec("x", shape=(1, 3)), make_spec("boxes", shape=(2,)))
    (piece,) = Rows({"x": DATA[:1], "boxes": [1.0, 2.0]}, model).pieces()
    assert (piece.row_count, piece.is_padded) == (1, False)
    assert len(list(Rows({"x": DATA, "boxes": [1.0, 2.0]}, model).pieces())) == 7
    stateful = make_model(make_spec("x"), make_spec("state", shape=(2, None)), make_spec("rate", shape=()))
    given = {"x": DATA[:1], "state": [[0.0], [0.0]], "rate": 16.0}
    (piece,) = Rows(given, stateful, batch_size=1).pieces()
    assert (piece.row_count, piece.values["state"].shape) == (1, (2, 1))


def test_rows_that_disagree_are_an_error(make_model, make_spec):
    """Two inputs with the same symbol, or two that exceed a fixed batch, must have as many rows."""
    paired = make_model(make_spec("x"), make_spec("z"))
    with pytest.raises(onnxscope.InputMismatchError, match="'x' has 7, 'z' has 6"):
        list(Rows([{"x": DATA, "z": DATA[:6]}], paired).pieces())
    fixed = make_model(make_spec("x", shape=(1, 3)), make_spec("z", shape=(1, 3)))
    with pytest.raises(onnxscope.InputMismatchError, match="disagree"):
        list(Rows([{"x": DATA, "z": DATA[:6]}], fixed).pieces())
    free = make_model(make_spec("x"), make_spec("z", shape=(None, 3)))
    assert len(list(Rows([{"x": DATA, "z": DATA[:6]}], free).pieces())) == 1
    with pytest.raises(onnxscope.InputMismatchError, match="disagree"):
        list(Rows({"x": DATA, "z": DATA[:6]}, free, batch_size=2).pieces())


def test_preprocess_sees_every_batch_before_it_is_checked(open_model, fixed_model):
    """It makes what the model takes out of what the data set holds."""
    images = np.arange(7, dtype=np.uint8)
    rows = Rows(images, open_model, batch_size=4, preprocess=lambda b: np.repeat(b[:, None], 3, 1).astype("f"))
    assert [piece.values["x"].shape for piece in rows.pieces()] == [(4, 3), (3, 3)]
    fixed = Rows([DATA], fixed_model, preprocess=lambda batch: {"x": batch, "scale": [1.0]})
    assert sizes(fixed) == [(0, 4, 4), (4, 3, 4)]


def test_carried_batches_are_steps(fixed_model):
    """Nothing is cut or padded, and only the first step must bring what is carried."""
    steps = [{"x": DATA[:4], "scale": [1.0]}, DATA[:4], {"x": DATA[:4]}]
    pieces = list(Rows(steps, fixed_model, carried=["scale"]).pieces())
    assert [sorted(piece.values) for piece in pieces] == [["scale", "x"], ["x"], ["x"]]
    assert [piece.first_row for piece in pieces] == [0, 1, 2]
    with pytest.raises(onnxscope.InputMismatchError, match="'scale' is missing"):
        list(Rows([DATA[:4]], fixed_model, carried=["scale"]).pieces())
    with pytest.raises(onnxscope.ValueInvalidError, match="steps"):
        Rows(DATA, fixed_model, carried=["scale"])


def test_what_cannot_be_is_refused(open_model):
    """A batch size below one."""
    with pytest.raises(onnxscope.ValueInvalidError, match="batch_size"):
        Rows(DATA, open_model, batch_size=0)


@pytest.mark.parametrize("empty", [DATA[:0], [], {"x": DATA[:0]}])
def test_no_rows_are_no_pieces(open_model, empty):
    """An empty data set runs nothing."""
    rows = Rows(empty, open_model)
    assert (rows.total, sizes(rows)) == (0, [])


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (DATA, False),
        ({"x": DATA}, False),
        ([[1.0], [2.0]], False),
        ([np.float32(1)], False),
        ([DATA], True),
        (({"x": DATA},), True),
        (iter([DATA]), True),
        ((DATA for _ in range(2)), True),
    ],
)
def test_batches_are_told_from_data(data, answer):
    """A list of numbers is data, a list of arrays is batches."""
    assert is_batches(data) is answer


def test_a_mask_is_cut_like_the_rows(fixed_model):
    """Its rows belong to the data set's, and are padded alike."""
    mask = np.arange(14).reshape(7, 2)
    pieces = list(Rows({"x": DATA, "scale": [1.0]}, fixed_model).pieces())
    np.testing.assert_array_equal(pieces[1].rows_of(mask), mask[[4, 5, 6, 6]])
    with pytest.raises(onnxscope.ReductionInvalidError, match="a row for each"):
        pieces[1].rows_of(mask[:5])


def test_strings_are_padded_too(make_model, make_spec):
    """A row is whatever the first axis holds."""
    model = make_model(make_spec("t", pb.DATA_TYPE_STRING, (2,)))
    last = list(Rows(np.array(["a", "b", "c"], object), model).pieces())[-1]
    assert last.values["t"].tolist() == ["c", "c"]
