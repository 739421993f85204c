"""What is known not to hold, and why; whatever else fails makes the measurement fail."""

from __future__ import annotations

from tests.conformance.measure import Row

_NO_BFLOAT16 = "onnxruntime has no bfloat16 Div, of which ONNX makes Celu"
# model: (what its problems start with, why)
KNOWN: dict[str, tuple[tuple[str, ...], str]] = {
    "test_celu_bfloat16": (("Celu_0::expand::", "the parts of Y make something else"), _NO_BFLOAT16),
}


def reason(row: Row, problem: str) -> str:
    """Returns why a problem of a model is known; empty where it is not."""
    starts, why = KNOWN.get(row.name, ((), ""))
    return why if problem.startswith(starts) else ""
