"""Models with large weights, and sessions that share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxscope_server.catalog.weights import ingest
from onnxscope_server.domain import Segment
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
from onnxscope_server.run.sharing import Sharing

OPENING = Opening(intra_op_threads=1)
FLOAT = onnx.TensorProto.FLOAT
Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def weight(name: str, *shape: int) -> onnx.TensorProto:
    """A weight of random numbers."""
    seed = sum(name.encode())
    return numpy_helper.from_array(np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32), name)


def made(
    folder: Path, nodes: Sequence[Node], weights: Sequence[onnx.TensorProto], shape: Sequence[Any], **rest: Any
) -> Segment:
    """A segment x -> y whose large weights lie in a folder, as the catalog keeps them."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **attributes) for kind, inputs, outputs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=rest.get("ir_version", 8))
    for name in rest.get("inputs", ()):
        (tensor,) = [tensor for tensor in weights if tensor.name == name]
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    ingested = ingest(folder / "model.onnx", folder / "data")
    assert ingested.moved
    return Segment(ingested.graph_bytes, folder / "data", {}, ("y",), ("x",), {}, len(nodes))


def products(folder: Path) -> Segment:
    """Products that are packed, by two operators: x [row, 1024] -> y."""
    nodes: list[Node] = [
        ("MatMul", ["x", "a"], ["xa"], {}),
        ("Relu", ["xa"], ["r"], {}),
        ("Gemm", ["r", "b", "c"], ["rb"], {"transB": 1}),
        ("MatMul", ["rb", "a"], ["y"], {}),
    ]
    return made(folder, nodes, [weight("a", 1024, 1024), weight("b", 1024, 1024), weight("c", 1024)], ["row", 1024])


def convolutions(folder: Path) -> Segment:
    """Convolutions, whose weights the optimiser scales and moves into blocks: x [1, 256, 6, 6] -> y."""
    nodes: list[Node] = []
    weights = []
    value = "x"
    for layer in range(4):
        names = [f"{kind}{layer}" for kind in ("w", "scale", "shift", "mean", "variance")]
        weights += [weight(names[0], 256, 256, 3, 3), *(weight(name, 256) for name in names[1:4])]
        weights.append(numpy_helper.from_array(np.full(256, 1.5, np.float32), names[4]))
        nodes.append(("Conv", [value, names[0]], [f"conv{layer}"], {"pads": [1, 1, 1, 1]}))
        nodes.append(("BatchNormalization", [f"conv{layer}", *names[1:]], [f"norm{layer}"], {}))
        value = "y" if layer == 3 else f"relu{layer}"
        nodes.append(("Relu", [f"norm{layer}"], [value], {}))
    return made(folder, nodes, weights, [1, 256, 6, 6])


def gates(folder: Path) -> Segment:
    """An LSTM: x [4, 2, 512] -> y."""
    node: Node = ("LSTM", ["x", "w", "r"], ["y"], {"hidden_size": 512})
    return made(folder, [node], [weight("w", 1, 2048, 512), weight("r", 1, 2048, 512)], [4, 2, 512])


def listed(folder: Path) -> Segment:
    """Weights that are inputs too, as old files have it, some of which the optimiser folds away."""
    nodes: list[Node] = [
        ("Add", ["a", "a"], ["twice"], {}),
        ("MatMul", ["x", "twice"], ["xt"], {}),
        ("MatMul", ["xt", "b"], ["y"], {}),
    ]
    weights = [weight("a", 1024, 1024), weight("b", 1024, 1024)]
    return made(folder, nodes, weights, ["row", 1024], ir_version=3, inputs=("a", "b"))


def quantised(folder: Path) -> Segment:
    """Products of integers, whose scales the optimiser joins with them: x [row, 2048] -> y."""
    rng = np.random.default_rng(0)
    whole = numpy_helper.from_array(rng.integers(-100, 100, (2048, 2048), np.int8), "w")
    again = numpy_helper.from_array(rng.integers(-100, 100, (2048, 2048), np.int8), "v")
    scale = numpy_helper.from_array(np.float32(0.01), "scale")
    nodes: list[Node] = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], {}),
        ("MatMulInteger", ["q", "w", "z"], ["i"], {}),
        ("Cast", ["i"], ["f"], {"to": FLOAT}),
        ("Mul", ["s", "scale"], ["both"], {}),
        ("Mul", ["f", "both"], ["real"], {}),
        ("DynamicQuantizeLinear", ["real"], ["q2", "s2", "z2"], {}),
        ("MatMulInteger", ["q2", "v", "z2"], ["i2"], {}),
        ("Cast", ["i2"], ["f2"], {"to": FLOAT}),
        ("Mul", ["f2", "s2"], ["y"], {}),
    ]
    return made(folder, nodes, [whole, again, scale], ["row", 2048])


def feeds(segment: Segment) -> dict[str, Any]:
    """Random inputs of a segment."""
    (item,) = [item for item in onnx.ModelProto.FromString(segment.graph).graph.input if item.name == "x"]
    shape = [dim.dim_value or 3 for dim in item.type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def exposing(segment: Segment, *names: str) -> Segment:
    """The segment with more outputs."""
    proto = onnx.ModelProto.FromString(segment.graph)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return replace(segment, graph=proto.SerializeToString(), outputs=(*segment.outputs, *names))


def run(session: Session) -> list[bytes]:
    """The bits of all outputs."""
    values = session.run(feeds(session.segment), session.segment.outputs)
    return [np.asarray(value).tobytes() for value in values.values()]


def opened(sharing: Sharing, segment: Segment, *, exact: bool = False) -> Session:
    """A session that shares its weights."""
    placed = sharing.placed("d", segment, exact=exact)
    assert placed is not None
    session = Session(segment, OPENING, exact=exact, placed=placed)
    assert session.shared
    return session
