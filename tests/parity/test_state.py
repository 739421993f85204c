"""A state that is carried from one batch to the next: pieces of a sequence give what the whole gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

POSITIONS, ROWS, FEATURES, UNITS = 11, 2, 4, 3
CARRY = {"h": "h0", "c": "c0"}
Y, PARTS = "LSTM_0::output::Y", "LSTM_0::expand::*"


def _lstm(*, defaults: bool) -> bytes:
    """An LSTM x [position, row, feature] that gives its last states only, and the largest of the last hidden one."""
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 4 * UNITS, FEATURES), "r": (1, 4 * UNITS, UNITS), "b": (1, 8 * UNITS)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if defaults:
        weights |= {name: np.zeros((1, ROWS, UNITS), np.float32) for name in ("h0", "c0")}
    declared = {"x": ["s", ROWS, FEATURES], "h0": [1, ROWS, UNITS], "c0": [1, ROWS, UNITS]}
    graph = helper.make_graph(
        [
            helper.make_node("LSTM", ["x", "w", "r", "b", "", "h0", "c0"], ["", "h", "c"], hidden_size=UNITS),
            helper.make_node("ReduceMax", ["h"], ["top"], keepdims=0),
        ],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in declared.items()],
        [onnx.ValueInfoProto(name=name) for name in ("top", "h", "c")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    """float32 [position, row, feature]."""
    return rng.standard_normal((POSITIONS, ROWS, FEATURES)).astype(np.float32)


@pytest.fixture
def zeros() -> dict[str, np.ndarray]:
    """States to begin with."""
    return {name: np.zeros((1, ROWS, UNITS), np.float32) for name in ("h0", "c0")}


def _pieces(x: np.ndarray, first: dict[str, np.ndarray], lengths: tuple[int, ...]) -> Iterator[dict[str, np.ndarray]]:
    start = 0
    for length in lengths:
        yield {"x": x[start : start + length], **(first if start == 0 else {})}
        start += length


@pytest.mark.parametrize("lengths", [(11,), (4, 4, 3), (1,) * 11])
@pytest.mark.parametrize("defaults", [False, True], ids=["given", "default"])
def test_pieces_of_a_sequence_are_the_sequence(
    scope: Any, x: np.ndarray, zeros: dict[str, np.ndarray], lengths: tuple[int, ...], defaults: bool
) -> None:
    """Hidden states, gates and outputs of every position, however the sequence is cut, are those of one run."""
    model = scope.load(_lstm(defaults=defaults))
    whole = model.capture({"x": x, **zeros}, at=[Y, PARTS], expand=True)
    first = {} if defaults else zeros
    found = list(model.stream(_pieces(x, first, lengths), at=[Y, PARTS], expand=True, carry=CARRY))
    assert [len(acts[Y]) for acts in found] == list(lengths)
    assert len(whole) > 5
    for address, array in whole.items():
        if array.shape[:1] == (POSITIONS,):
            joined = np.concatenate([acts[address] for acts in found])
            np.testing.assert_allclose(joined, array, rtol=1e-5, atol=1e-6)
    for name in ("top", "h", "c"):
        np.testing.assert_allclose(found[-1].outputs[name], whole.outputs[name], rtol=1e-5, atol=1e-6)


def test_each_piece_begins_where_the_last_one_ended(scope: Any, x: np.ndarray, zeros: dict[str, np.ndarray]) -> None:
    """The state that goes in is the one that came out, to the bit; the caller need not ask for outputs."""
    model = scope.load(_lstm(defaults=False))
    found = list(
        model.stream(_pieces(x, zeros, (4, 4, 3)), at=["h0", "c0", "h", "c"], carry=CARRY, outputs=False, exact=True)
    )
    assert not any(acts.outputs for acts in found)
    for before, after in itertools.pairwise(found):
        np.testing.assert_array_equal(after["h0"], before["h"])
        np.testing.assert_array_equal(after["c0"], before["c"])


def test_a_batch_that_brings_its_own_state_begins_anew(scope: Any, x: np.ndarray, zeros: dict[str, np.ndarray]) -> None:
    """Two sequences in one stream: the second is as if it were alone."""
    model = scope.load(_lstm(defaults=False))
    halves = [{"x": x[:4], **zeros}, {"x": x[4:8]}, {"x": x[:4], **zeros}, {"x": x[4:8]}]
    found = list(model.stream(halves, at=Y, carry=CARRY))
    for first, second in ((0, 2), (1, 3)):
        np.testing.assert_array_equal(found[first][Y], found[second][Y])
    assert not np.array_equal(found[0][Y], found[1][Y])
