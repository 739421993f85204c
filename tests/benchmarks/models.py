"""The models that are measured: those that packages ship, and those that are made here and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from tests.benchmarks.figures import Bench
from tests.benchmarks.transformer import transformer
from tests.conformance import fetch

_LAYERS = 16
_CHANNELS = 32
_SIDE = 32


def digits() -> Path:
    """Returns the demo's CNN: image [batch, 1, 8, 8] -> logits [batch, 10]."""
    return Path(str(files("onnxscope.demo") / "digits.onnx"))


def resnet50(bench: Bench) -> Path:
    """Returns onnx's light_resnet50 with weights: gpu_0/data_0 [1, 3, 224, 224] -> [1, 1000]; 98 MB.

    Its 175 hidden values are 150.2 MB.
    """
    return _kept(bench, "resnet50.onnx", _resnet50)


def bert(bench: Bench) -> Path:
    """Returns a transformer the size of a small BERT: x [batch, position, 768] -> y, of the same shape; 226 MB."""
    return _kept(bench, "bert.onnx", lambda: transformer(layers=8, width=768, heads=12))


def cnn(bench: Bench) -> Path:
    """Returns a CNN of 16 layers: x [batch, 3, 32, 32] -> y [batch, 10]; its 35 values are 4.2 MB a row."""
    return _kept(bench, "cnn.onnx", _cnn)


def widening(bench: Bench) -> Path:
    """Returns a model x [row, 1], w [1, column] -> y [row, 1] that has one hidden value: wide [row, column]."""
    return _kept(bench, "widening.onnx", _widening)


def kokoro(bench: Bench) -> Path | None:
    """Returns the speech synthesis that packages ship, or None where it can't be had."""
    model = fetch.corpus(bench.cache.parent / "conformance") / "kokoro" / "model.onnx"
    return model if model.exists() else None


def _kept(bench: Bench, name: str, make: Callable[[], onnx.ModelProto]) -> Path:
    path = bench.cache / "models" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        onnx.save(make(), part)
        part.replace(path)
    return path


def _resnet50() -> onnx.ModelProto:
    """Gives the weights values: in the package's file each is a ConstantOfShape."""
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"
    model = onnx.load(light)
    graph, rng = model.graph, np.random.default_rng(0)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    parts = {
        name: part
        for node in graph.node
        if node.op_type == "BatchNormalization"
        for name, part in zip(node.input[1:], ("scale", "bias", "mean", "variance"), strict=True)
    }
    made = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    weights = [
        onnx.numpy_helper.from_array(_weight(rng, shapes[node.input[0]], parts.get(node.output[0])), node.output[0])
        for node in made
    ]
    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    read = {name for node in kept for name in node.input}
    stored = [tensor for tensor in graph.initializer if tensor.name in read]
    inputs = [item for item in graph.input if item.name not in shapes]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend([*stored, *weights])
    graph.input.extend(inputs)
    model.ir_version = 8  # from 4 on, initializers need not be inputs
    return model


def _weight(rng: np.random.Generator, shape: np.ndarray, part: str | None) -> np.ndarray:
    if part in ("scale", "variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    spread = 0.1 if part else np.sqrt(2 / max(1, np.prod(shape[1:])))
    return (rng.standard_normal(shape) * spread).astype(np.float32)


def _cnn() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes, weights, last, width = [], [], "x", 3
    for layer in range(_LAYERS):
        weight = rng.standard_normal((_CHANNELS, width, 3, 3)) * np.sqrt(2 / (9 * width))
        weights.append(onnx.numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"))
        nodes.append(onnx.helper.make_node("Conv", [last, f"w{layer}"], [f"conv{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(onnx.helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"]))
        last, width = f"relu{layer}", _CHANNELS
    head = (rng.standard_normal((_CHANNELS, 10)) * 0.1).astype(np.float32)
    weights.append(onnx.numpy_helper.from_array(head, "head"))
    nodes.append(onnx.helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(onnx.helper.make_node("Flatten", ["pooled"], ["features"]))
    nodes.append(onnx.helper.make_node("MatMul", ["features", "head"], ["y"]))
    return _model(nodes, {"x": ["batch", 3, _SIDE, _SIDE]}, {"y": ["batch", 10]}, weights)


def _widening() -> onnx.ModelProto:
    nodes = [
        onnx.helper.make_node("Add", ["x", "w"], ["wide"]),
        onnx.helper.make_node("ReduceMax", ["wide"], ["y"], axes=[1], keepdims=1),
    ]
    return _model(nodes, {"x": ["row", 1], "w": [1, "column"]}, {"y": ["row", 1]}, [])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    weights: list[onnx.TensorProto],
) -> onnx.ModelProto:
    described = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in values.items()]
        for values in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph(nodes, "made", *described, initializer=weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
