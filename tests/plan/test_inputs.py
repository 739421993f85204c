"""Inputs are checked against what the model declares."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.errors import InputMismatchError
from onnxscope_server.plan.inputs import check

WORDS = np.zeros((2, 5), np.int64)


def test_what_fits_is_taken(encoder):
    """With and without the input that has a default."""
    check(encoder, {"words": WORDS, "mask": WORDS})
    check(encoder, {"words": WORDS, "mask": WORDS, "bias": np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"words": WORDS}, "'mask' is missing"),
        ({"words": WORDS, "mask": WORDS, "m": WORDS}, "no input 'm'"),
        ({"words": WORDS.astype(np.int32), "mask": WORDS}, "its dtype is int32, not int64"),
        ({"words": WORDS[0], "mask": WORDS}, "it has 1 axes, not 2"),
        ({"words": WORDS, "mask": WORDS, "bias": np.zeros(3, np.float32)}, "its axis 0 has 3 entries, not 2"),
        ({"words": [1], "mask": WORDS}, "it is no array"),
    ],
)
def test_what_does_not_fit_is_told_with_all_inputs(encoder, inputs, words):
    """The text ends with the list of what the model takes."""
    with pytest.raises(InputMismatchError, match=words) as caught:
        check(encoder, inputs)
    assert "words: int64 [row, position]; mask: int64 [row, position]; bias: float32 [2]" in caught.value.message
    assert set(caught.value.metadata) == {"input", "expected", "got"}


def test_types_beyond_arrays(parsed):
    """Lists, dicts, text, bfloat16, optionals and scalars."""
    model = CatalogModel.from_bytes(
        parsed("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (seq(float[n]) s, map(int64, float) m, string[2] t, bfloat16 b, optional(float[1]) o) => (string[2] y)
        { y = Identity(t) }""")
    )
    good = {
        "s": [np.zeros(3, np.float32)],
        "m": {1: 2.0},
        "t": np.array(["a", "b"], object),
        "b": np.array(1, ml_dtypes.bfloat16),
        "o": None,
    }
    check(model, good)
    check(model, {key: value for key, value in good.items() if key != "o"})
    for name, bad in (
        ("s", [np.zeros(3)]),
        ("s", np.zeros(3, np.float32)),
        ("m", [1]),
        ("t", np.zeros(2)),
        ("b", np.float32(1)),
        ("o", np.zeros(2, np.float32)),
    ):
        with pytest.raises(InputMismatchError, match=f"The input '{name}' does not fit"):
            check(model, good | {name: bad})
