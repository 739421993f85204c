"""The raw input as examples: numbers flattened, ids counted, wide inputs projected, and all that is said."""

from __future__ import annotations

import numpy as np

from onnxscope_server.pipeline.probing.raw_inputs import HASHED, OneHot, RawInputs, Repeated
from onnxscope_server.probes.array_rows import in_memory


def test_numbers_are_flattened_with_rows_in_front() -> None:
    """Also where the batch axis is another."""
    raw = RawInputs({"x": 0, "t": 1}, frozenset(), 0)
    x, t = np.arange(8, dtype=np.float64).reshape(2, 2, 2), np.arange(6, dtype=np.uint8).reshape(3, 2)
    found = raw.of_rows({"t": t, "x": x})
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 2, 4, 0, 1, 2, 3], [1, 3, 5, 4, 5, 6, 7]]
    assert not raw.notes


def test_ids_are_counted_and_those_of_most_values_are_the_tokens() -> None:
    """A mask beside the ids is no token, and that of a reduction is not counted."""
    raw = RawInputs({"ids": 0, "mask": 0}, frozenset({"mask"}), 0)
    inputs = {"ids": np.array([[4, 4, 9], [7, 9, 9]]), "mask": np.array([[1, 1, 1], [1, 1, 0]])}
    ids = raw.ids(inputs)
    assert ids is not None
    assert ids.tolist() == inputs["ids"].tolist()
    found = raw.of_rows(inputs)
    assert found is not None
    assert found.shape == (2, HASHED)
    assert {int(column): float(count) for column, count in enumerate(found[0]) if count} == {4: 2.0, 9: 1.0}
    assert raw.notes == ("for the score on the input, token ids were counted: where in a row they are is not in it",)


def test_texts_are_tokens_by_their_value() -> None:
    """Equal texts have equal numbers, in every run."""
    first, second = (RawInputs({"s": 0}, frozenset(), 0) for _ in range(2))
    ids = first.ids({"s": np.array(["a", "b", "a"], object)})
    assert ids is not None
    assert ids[0] == ids[2] != ids[1]
    again = second.ids({"s": np.array(["b"], object)})
    assert again is not None
    assert again[0] == ids[1]


def test_a_wide_input_is_projected_and_that_is_said() -> None:
    """Distances stay about the same, and the same seed gives the same projection."""
    x = np.random.default_rng(0).normal(size=(6, 5000)).astype(np.float32)
    found, again = (RawInputs({"x": 0}, frozenset(), 3) for _ in range(2))
    one, other = found.of_rows({"x": x}), again.of_rows({"x": x})
    assert one is not None
    assert other is not None
    assert one.shape == (6, HASHED)
    assert one.tobytes() == other.tobytes()
    ratio = np.linalg.norm(one[0] - one[1]) / np.linalg.norm(x[0] - x[1])
    assert 0.85 < ratio < 1.15
    assert "projected at random" in found.notes[0]


def test_rows_of_another_length_are_made_alike_and_that_is_said() -> None:
    """Shorter ones get zeros, longer ones are cut."""
    raw = RawInputs({"x": 0}, frozenset(), 0)
    raw.of_rows({"x": np.ones((1, 3), np.float32)})
    shorter, longer = raw.of_rows({"x": np.ones((1, 2))}), raw.of_rows({"x": np.ones((1, 5))})
    assert shorter is not None
    assert longer is not None
    assert (shorter.tolist(), longer.tolist()) == ([[1, 1, 0]], [[1, 1, 1]])
    assert "differ in length" in raw.notes[0]


def test_rows_and_positions_have_widths_of_their_own() -> None:
    """In one sweep both may be asked for."""
    raw = RawInputs({}, frozenset(), 0)
    x = np.ones((2, 3, 2), np.float32)
    x[0, 0, 0] = np.nan
    whole, each = raw.of_rows({"x": x}), raw.of_positions({"x": x}, 3)
    assert whole is not None
    assert each is not None
    assert (whole.shape, each.shape) == ((2, 6), (2, 3, 2))
    assert np.isfinite(whole).all()
    assert raw.notes == ("the input holds NaN or infinity: for the score on it, NaN counts as 0",)


def test_positions_have_an_input_of_their_own_where_it_has_as_many() -> None:
    """Else there is none."""
    raw = RawInputs({"x": 0}, frozenset(), 0)
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    found = raw.of_positions({"x": x}, 3)
    assert found is not None
    assert found.tolist() == x.tolist()
    assert raw.of_positions({"x": x}, 2) is None


def test_ids_and_repeated_rows_are_rows() -> None:
    """As any others."""
    hot = OneHot.of(np.array([7, 3, 7]))
    assert hot.shape == (3, 2)
    assert hot.take(np.array([0, 1])).tolist() == [[0, 1], [1, 0]]
    repeated = Repeated(in_memory(np.array([[1.0], [2.0]])), np.array([0, 0, 1]))
    assert repeated.shape == (3, 1)
    assert [block.ravel().tolist() for block in repeated.blocks(np.arange(3), 2)] == [[1, 1], [2]]
