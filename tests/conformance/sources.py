"""Where the models come from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from tests.conformance.measure import Case


def backend_nodes() -> Iterator[Case]:
    """Yields the node tests that the onnx package generates, with their inputs."""
    import onnx.backend.test.case.node as nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nodes.collect_testcases(None)
    for case in found:
        if case.model is None:
            continue
        inputs = case.data_sets[0][0] if case.data_sets else []
        names = [item.name for item in case.model.graph.input]
        feeds = dict(zip(names, map(_value, inputs), strict=False))
        yield Case("onnx node tests", case.name, case.model.SerializeToString(), feeds)


def backend_data() -> Iterator[Case]:
    """Yields the models with data that the onnx package brings along."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in sorted(root.iterdir()):
        if folder.name == "light":
            yield from (Case("onnx light models", file.stem, file) for file in sorted(folder.glob("*.onnx")))
            continue
        for file in sorted(folder.glob("*/model.onnx")):
            yield Case(f"onnx {folder.name}", file.parent.name, file, _stored(file))


def onnxruntimes_own() -> Iterator[Case]:
    """Yields the models that the onnxruntime package brings along."""
    root = Path(onnxruntime.__file__).parent / "datasets"
    yield from (Case("onnxruntime datasets", file.stem, file) for file in sorted(root.glob("*.onnx")))


def files(group: str, root: Path) -> Iterator[Case]:
    """Yields the models in a folder."""
    for file in sorted(root.rglob("*.onnx")):
        yield Case(group, str(file.relative_to(root)), file)


def _stored(file: Path) -> dict[str, Any] | None:
    proto = onnx.load(file, load_external_data=False)
    given = {tensor.name for tensor in proto.graph.initializer}
    names = [item.name for item in proto.graph.input if item.name not in given]
    types = {item.name: item.type for item in proto.graph.input}
    folders = sorted(file.parent.glob("test_data_set_*"))
    if not folders:
        return None
    feeds = {}
    for index, name in enumerate(names):
        stored = folders[0] / f"input_{index}.pb"
        if not stored.is_file():
            return None
        kind = types[name].WhichOneof("value")
        holder = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(
            kind, onnx.TensorProto
        )()
        holder.ParseFromString(stored.read_bytes())
        feeds[name] = _value(holder)
    return feeds


def _value(given: Any) -> Any:
    if isinstance(given, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(given)
        return array.astype(str).astype(object) if array.dtype == object else array
    if isinstance(given, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(given)
    if isinstance(given, onnx.OptionalProto):
        return onnx.numpy_helper.to_optional(given)
    if isinstance(given, list):
        return [_value(item) for item in given]
    return np.asarray(given) if isinstance(given, np.generic) else given
