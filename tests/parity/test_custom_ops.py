"""Custom operators: only those of libraries that the operator of the server allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime_extensions
import pytest
from onnx import parser

import onnxscope

_MODEL = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.contrib" : 1]>
g (string[N] x) => (string[N] y) { u = ai.onnx.contrib.StringUpper (x)  y = Identity (u) }"""


def test_a_library_that_is_allowed_brings_its_operators() -> None:
    """Their values are hook points with a type, and are captured."""
    with onnxscope.local(custom_ops=[onnxruntime_extensions.get_library_path()]) as scope:
        model = scope.load(parser.parse_model(_MODEL))
        assert [point.dtype for point in model.hook_points()] == ["string", "string"]
        acts = model.capture(np.array(["a", "b"], object), at="u")
    assert acts["u"].tolist() == ["A", "B"]


def test_without_it_the_error_says_what_to_do() -> None:
    """A model can't bring code."""
    with onnxscope.local() as scope, pytest.raises(onnxscope.ModelInvalidError, match=r"StringUpper.*--custom-ops"):
        scope.load(parser.parse_model(_MODEL))


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    """When the server starts, and by name."""
    library = tmp_path / "operators.so"
    library.write_bytes(b"no library")
    with pytest.raises(onnxscope.CustomOpsInvalidError, match=r"can't use .*operators\.so"):
        onnxscope.local(custom_ops=[library]).models()
