"""Selectors as callers write them."""

from __future__ import annotations

import pytest

import onnxscope
from onnxscope.results import HookPoint, HookPoints
from onnxscope.selectors import normalise

POINT = HookPoint("onnx::Relu_8", "Relu", "float32", None, 0.5, "activation")


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("relu_5", ["relu_5"]),
        (["op:Relu", "!relu_5"], ["op:Relu", "!relu_5"]),
        ((), []),
        (iter(["a"]), ["a"]),
        (POINT, ["onnx::Relu_8"]),
        ([POINT, "b"], ["onnx::Relu_8", "b"]),
        (HookPoints([POINT]), ["onnx::Relu_8"]),
    ],
)
def test_one_or_many(at, expected):
    """A string, a hook point, or any number of these."""
    assert normalise(at) == expected


@pytest.mark.parametrize("at", [3, [3], None, [""], [["a"]]])
def test_what_is_no_selector_is_refused(at):
    """With an example of what is."""
    with pytest.raises(onnxscope.SelectorInvalidError, match="op:Relu"):
        normalise(at)
