"""A transformer encoder as exporters write it: attention, LayerNorm and Gelu in plain operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

_OPSET = 17


def transformer(*, layers: int, width: int, heads: int) -> onnx.ModelProto:
    """Makes an encoder with random weights; 12 * width^2 of them a layer.

    Args:
        layers: number of layers.
        width: features of a position.
        heads: of the attention.

    Returns:
        A model x [batch, position, width] -> y [batch, position, width].
    """
    graph = _Graph()
    value = "x"
    for layer in range(layers):
        value = _layer(graph, value, f"layer{layer}", width, heads)
    graph.add("Identity", [value], "y")
    shape = ["batch", "position", width]
    made = onnx.helper.make_graph(
        graph.nodes,
        "transformer",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        initializer=graph.weights,
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=8)


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)
        self._constants: dict[tuple[str, str], str] = {}

    def add(self, op_type: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """Returns the name of a constant; equal ones are the same."""
        key = (repr(value), dtype.__name__)
        if key not in self._constants:
            self._constants[key] = self._stored(np.array(value, dtype), f"constant{len(self._constants)}")
        return self._constants[key]

    def random(self, name: str, *shape: int) -> str:
        return self._stored((self._rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32), name)

    def vector(self, name: str, value: float, length: int) -> str:
        return self._stored(np.full(length, value, np.float32), name)

    def _stored(self, array: np.ndarray, name: str) -> str:
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        return name


def _layer(graph: _Graph, value: str, name: str, width: int, heads: int) -> str:
    attended = _attention(graph, value, f"{name}/attention", width, heads)
    value = _norm(graph, graph.add("Add", [value, attended], f"{name}/attended"), f"{name}/norm1", width)
    inner = _gelu(graph, _linear(graph, value, f"{name}/up", width, 4 * width), f"{name}/gelu")
    outer = _linear(graph, inner, f"{name}/down", 4 * width, width)
    return _norm(graph, graph.add("Add", [value, outer], f"{name}/added"), f"{name}/norm2", width)


def _linear(graph: _Graph, value: str, name: str, width: int, made: int) -> str:
    product = graph.add("MatMul", [value, graph.random(f"{name}/weight", width, made)], f"{name}/product")
    return graph.add("Add", [product, graph.vector(f"{name}/bias", 0.01, made)], f"{name}/sum")


def _attention(graph: _Graph, value: str, name: str, width: int, heads: int) -> str:
    split = graph.constant([0, 0, heads, width // heads], np.int64)
    joined = graph.constant([0, 0, width], np.int64)
    turns = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    parts = {}
    for part, turn in turns.items():
        flat = _linear(graph, value, f"{name}/{part}", width, width)
        by_head = graph.add("Reshape", [flat, split], f"{name}/{part}/by_head")
        parts[part] = graph.add("Transpose", [by_head], f"{name}/{part}/turned", perm=turn)
    scores = graph.add("MatMul", [parts["query"], parts["key"]], f"{name}/scores")
    scaled = graph.add("Div", [scores, graph.constant(float(np.sqrt(width // heads)))], f"{name}/scaled")
    weights = graph.add("Softmax", [scaled], f"{name}/weights", axis=-1)
    mixed = graph.add("MatMul", [weights, parts["value"]], f"{name}/mixed")
    turned = graph.add("Transpose", [mixed], f"{name}/turned", perm=[0, 2, 1, 3])
    return _linear(graph, graph.add("Reshape", [turned, joined], f"{name}/joined"), f"{name}/out", width, width)


def _norm(graph: _Graph, value: str, name: str, width: int) -> str:
    mean = graph.add("ReduceMean", [value], f"{name}/mean", axes=[-1])
    centred = graph.add("Sub", [value, mean], f"{name}/centred")
    squared = graph.add("Pow", [centred, graph.constant(2.0)], f"{name}/squared")
    variance = graph.add("ReduceMean", [squared], f"{name}/variance", axes=[-1])
    kept = graph.add("Add", [variance, graph.constant(1e-5)], f"{name}/kept")
    root = graph.add("Sqrt", [kept], f"{name}/root")
    normal = graph.add("Div", [centred, root], f"{name}/normal")
    scaled = graph.add("Mul", [normal, graph.vector(f"{name}/scale", 1.0, width)], f"{name}/scaled")
    return graph.add("Add", [scaled, graph.vector(f"{name}/shift", 0.0, width)], f"{name}/shifted")


def _gelu(graph: _Graph, value: str, name: str) -> str:
    divided = graph.add("Div", [value, graph.constant(float(np.sqrt(2)))], f"{name}/divided")
    erf = graph.add("Erf", [divided], f"{name}/erf")
    plus = graph.add("Add", [erf, graph.constant(1.0)], f"{name}/plus")
    product = graph.add("Mul", [value, plus], f"{name}/product")
    return graph.add("Mul", [product, graph.constant(0.5)], f"{name}/half")
