"""What requests must have in common, how they are joined and how each gets what is its own."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscope_server.domain import Output, RowAxis, Segment
from onnxscope_server.pipeline.batching.joining import Joint, RowsLostError, joined, kind_of
from onnxscope_server.result_domain import Result

SEGMENT = Segment(
    graph=b"",
    data_folder=None,
    captures={"a": Output("a"), "t": Output("t"), "k": Output("k"), "l": Output("l")},
    outputs=("y",),
    inputs=("x", "z"),
    masks={"m": "mask"},
    node_count=1,
)
AXES = {"a": RowAxis(0, 1), "t": RowAxis(1, 2), "k": None, "l": RowAxis(0, 1), "y": RowAxis(0, 1)}
X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "other",
    [
        {"x": X.astype(np.float64)},
        {"x": X.astype(np.int32)},
        {"x": X[:, :2]},
        {"x": X[..., None]},
        {"x": X, "z": X},
        {"z": X},
    ],
)
def test_a_kind_is_names_types_and_sizes_behind_the_rows(other: dict[str, Any]) -> None:
    """The number of rows is no part of it, nor is an input that the segment does not take."""
    kind, rows = kind_of(SEGMENT, {"x": X}, {}) or ((), 0)
    assert rows == 2
    assert kind_of(SEGMENT, {"x": X[:1], "unused": X[0]}, {}) == (kind, 1)
    found = kind_of(SEGMENT, other, {})
    assert found is not None
    assert found[0] != kind


def test_masks_are_part_of_a_kind() -> None:
    """Their type and sizes, and whether there are any; a mask that the segment does not take is none."""
    without = kind_of(SEGMENT, {"x": X}, {})
    kinds = [kind_of(SEGMENT, {"x": X}, {"m": np.ones(shape, np.int64)}) for shape in ((2, 5), (2, 6))]
    kinds.append(kind_of(SEGMENT, {"x": X}, {"m": np.ones((2, 5), bool)}))
    assert len({without, *kinds}) == 4
    assert kind_of(SEGMENT, {"x": X}, {"other": np.ones((1, 5))}) == without
    assert kind_of(SEGMENT, {"x": X}, {"m": np.ones((1, 5))}) is None


@pytest.mark.parametrize(
    "inputs",
    [{}, {"x": X, "z": X[:1]}, {"x": X, "z": np.array(1.0)}, {"x": [X, X]}, {"x": X, "z": None}, {"x": {1: 2.0}}],
)
def test_what_has_no_rows_or_not_as_many_everywhere_is_of_no_kind(inputs: dict[str, Any]) -> None:
    """Scalars, sequences, maps and optionals that are not there run alone."""
    assert kind_of(SEGMENT, inputs, {}) is None


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    dtype=st.sampled_from([np.float32, np.int64, np.bool_, np.float16, ml_dtypes.bfloat16, object]),
)
def test_what_is_joined_comes_apart_again(counts: list[int], dtype: Any) -> None:
    """In any data type, text too: along the rows, wherever they are; all get what has none; nothing is shared."""
    rng = np.random.default_rng(0)
    parts = [{"x": rng.integers(0, 9, (count, 3)).astype(str if dtype is object else dtype)} for count in counts]
    parts = [{"x": part["x"].astype(dtype), "unused": part["x"]} for part in parts]
    whole = joined(parts, ("x", "z"))["x"]
    assert set(joined(parts, ("x", "z"))) == {"x"}
    twice = np.repeat(whole, 2, axis=0).T
    fixed = np.arange(5)
    listed: list[Any] = [{"row": index} for index in range(len(whole))]
    result = Result({"a": whole, "t": twice, "k": fixed, "l": listed}, {"y": whole}, {}, {"run": 1.0})
    start = 0
    for part, own in zip(parts, Joint(SEGMENT, AXES).split(result, counts), strict=True):
        count = len(part["x"])
        for value in (own.activations["a"], own.outputs["y"], np.asarray(own.activations["t"]).T[::2]):
            assert isinstance(value, np.ndarray)
            assert value.dtype == dtype
            assert value.tolist() == part["x"].tolist()
        assert own.activations["l"] == listed[start : start + count]
        np.testing.assert_array_equal(np.asarray(own.activations["k"]), fixed)
        assert own.timings == result.timings
        for name in ("a", "t", "k"):
            assert not np.shares_memory(own.activations[name], result.activations[name])  # type: ignore[arg-type]
        start += count


@pytest.mark.parametrize("name", ["a", "t", "l"])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_rows_that_are_lost_are_an_error(name: str, rows: int) -> None:
    """Nobody gets another's rows for it."""
    value: Any = {"a": np.zeros((rows, 2)), "t": np.zeros((2, 2 * rows)), "l": [0] * rows}[name]
    with pytest.raises(RowsLostError, match=f"'{name}' has not the 3 rows"):
        Joint(SEGMENT, AXES).split(Result({name: value}, {}), [1, 2])


def test_bytes_are_counted_by_row() -> None:
    """Rounded up; what is there once counts once, and what is no array is not known."""
    result = Result({"a": np.zeros((3, 5), np.int8), "t": np.zeros(7, np.int8), "k": np.zeros(4), "l": [1]}, {})
    assert Joint(SEGMENT, AXES).row_bytes(result, 3) == (32, 5 + 3)
