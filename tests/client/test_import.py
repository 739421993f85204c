"""What importing the client brings along."""

from __future__ import annotations

import subprocess
import sys

import onnxscope


def test_importing_the_client_imports_neither_onnx_nor_the_server():
    """Nor anything heavy that is not a dependency of the client."""
    heavy = "onnx onnx_ir onnxruntime onnxscope_server matplotlib pandas sklearn pydantic rich typer"
    code = f"import onnxscope, onnxscope.aio, sys; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""


def test_public_names_exist():
    """Everything in __all__ is there, and the version is the distribution's."""
    assert all(hasattr(onnxscope, name) for name in onnxscope.__all__)
    assert sorted(set(onnxscope.__all__)) == sorted(onnxscope.__all__)
    assert onnxscope.__version__.count(".") >= 2
