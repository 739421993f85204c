"""The limit: onnxruntime itself, in this process, with the values that are captured exposed naively."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

_PROVIDERS = ["CPUExecutionProvider"]


def plain(model: Path) -> onnxruntime.InferenceSession:
    """Makes a session of a model file as it is."""
    return onnxruntime.InferenceSession(model, providers=_PROVIDERS)


class Exposed:
    """A model whose values are outputs too: appended without a type, as everybody does it.

    Args:
        model: its file.
        names: values to fetch, beside the model's outputs.
    """

    def __init__(self, model: Path, names: Sequence[str]) -> None:
        proto = onnx.load(model)
        outputs = [item.name for item in proto.graph.output]
        added = [name for name in names if name not in outputs]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
        self.names = [*outputs, *added]
        self._session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=_PROVIDERS)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Runs it once and returns all of them."""
        values: list[Any] = self._session.run(self.names, feeds)
        return values
