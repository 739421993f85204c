"""The shape probe: the shapes of everything that has one, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx

from onnxscope_server.domain import Output
from onnxscope_server.rewrite.shapes import shape_probe


def test_every_array_tells_its_shape(model_of, run):
    """Inputs, activations and outputs are asked; weights, constants and sequences are not."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,M] x, float[N] dead) => (float[M,N] y) <float[1] w = {1}> {
            two = Add(w, w)
            h = Mul(x, two)
            s = SplitToSequence(h)
            i = SequenceAt(s, zero)
            y = Transpose(h)
            zero = Constant <value_int = 0> ()
        }
    """)
    segment = shape_probe(model)
    feeds = {"x": np.ones((2, 5), np.float32), "dead": np.ones(2, np.float32)}
    values = run(segment, feeds)
    shapes = {address: values[name].tolist() for address, name in segment.captures.items()}
    assert shapes.pop("i", [1, 5]) == [1, 5]
    assert shapes == {"x": [2, 5], "dead": [2], "h": [2, 5], "y": [5, 2]}
    assert segment.outputs == ()
    assert all(value.dtype == np.int64 for value in values.values())


def test_the_models_own_outputs_are_not_computed_for_their_own_sake(model_of):
    """Only shapes are outputs of the graph."""
    model = model_of("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (float[N] y) { y = Relu(x) }
    """)
    segment = shape_probe(model)
    graph = onnx.load_from_string(segment.graph).graph
    assert {item.name for item in graph.output} == {reading.name for reading in segment.captures.values()}
    assert Output("y") not in segment.captures.values()


def test_arrays_whose_shape_onnxruntime_cannot_tell_are_left_out(model_of, run):
    """Its Shape takes no packed and no complex elements; the others still tell theirs."""
    model = model_of("""
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[N] x, complex64[N] c) => (float[N] y) <float[1] scale = {2}> {
            zero = Constant <value = int4[1] {1}> ()
            q = QuantizeLinear (x, scale, zero)
            y = DequantizeLinear (q, scale, zero)
        }
    """)
    segment = shape_probe(model)
    values = run(segment, {"x": np.ones(3, np.float32)}, exact=True)
    assert {address: values[name].tolist() for address, name in segment.captures.items()} == {"x": [3], "y": [3]}


def test_float8_tells_its_shape_where_onnxruntime_can(model_of, run):
    """Its Shape takes float8 from opset 21 on, though other operators do from 19."""
    for opset, known in ((20, {"x"}), (21, {"x", "y"})):
        model = model_of(f"""
            <ir_version: 9, opset_import: ["" : {opset}]>
            g (float[N] x) => (float8e5m2[N] y) {{ y = Cast <to = 19> (x) }}
        """)
        segment = shape_probe(model)
        run(segment, {"x": np.ones(3, np.float32)}, exact=True)
        assert set(segment.captures) == known
