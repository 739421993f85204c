"""What the catalog asks the runtime, which knows more operators than onnx does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from onnxscope_server.domain import ValueType


class Runtime(Protocol):
    """Answers for the runtime that will run the models."""

    def output_types(self, graph: bytes, data_folder: Path | None) -> Mapping[str, ValueType | None]:
        """Tells the types of the outputs of a serialised ModelProto, as the runtime infers them.

        Raises:
            OnnxscopeServerError: it does not load the graph.
        """

    def has_operator(self, domain: str, op_type: str, version: int) -> bool:
        """Tells whether a version of a domain has an operator; the runtime prefers it to a local function."""
