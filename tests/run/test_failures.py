"""Texts of onnxruntime, made fit for a caller's eyes."""

from __future__ import annotations

import pytest

from onnxscope_server.errors import ModelInvalidError, OutOfMemoryError, RunFailedError
from onnxscope_server.run.failures import clean, load_failure, run_failure

_SEQUENCE = (
    "/onnxruntime_src/onnxruntime/core/framework/TensorSeq.h:94 void onnxruntime::TensorSeq::Add("
    "onnxruntime::Tensor&&) IsSameDataType(tensor) was false. TensorSeq: another data type"
)
_ALLOCATION = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running ConstantOfShape node. Name:''"
    " Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of"
    " size 549755813888\n"
)
_ALLOCATION_CLEANED = (
    "Non-zero status code returned while running ConstantOfShape node. Name:'' Status Message:"
    " Failed to allocate memory for requested buffer of size 549755813888"
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got: 2 Expected: 3", "Got: 2 Expected: 3"),
        (_SEQUENCE, "IsSameDataType(tensor) was false. TensorSeq: another data type"),
        (
            _ALLOCATION,
            _ALLOCATION_CLEANED,
        ),
        (
            "/a/b.cc:7 static int ns::F(T (*)(int)) [with T = float] const no\nStacktrace:\n#1 main",
            "no",
        ),
        ("Load model from /models/m.onnx failed: (no path of C++)", None),
        ("x.h:3 text without a signature (here)", "text without a signature (here)"),
        ("a" * 3000, "a" * 2000 + " ..."),
    ],
)
def test_clean(text: str, cleaned: str | None) -> None:
    """Prefixes, sources, signatures and stacks go; what the text says stays."""
    assert clean(text) == (text if cleaned is None else cleaned)


@pytest.mark.parametrize(
    "error",
    [RuntimeError(_ALLOCATION), RuntimeError("std::bad_alloc"), MemoryError("Unable to allocate 1 TiB")],
)
def test_no_memory_is_its_own_error(error: Exception) -> None:
    """However onnxruntime, C++ and numpy say it."""
    assert isinstance(run_failure(error), OutOfMemoryError)
    assert isinstance(load_failure(error), OutOfMemoryError)


def test_everything_else_is_the_models_or_the_inputs_fault() -> None:
    """The detail stands in the metadata, the advice in the text."""
    run, load = run_failure(RuntimeError("sizes differ")), load_failure(RuntimeError("no such op"))
    assert isinstance(run, RunFailedError)
    assert isinstance(load, ModelInvalidError)
    assert run.metadata == {"detail": "sizes differ"}
    assert load.metadata == {"detail": "no such op"}
    assert "Check that the inputs" in run.message
