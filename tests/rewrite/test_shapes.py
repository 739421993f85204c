"""The shape probe: the shapes of everything that has one, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx

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
    assert {item.name for item in graph.output} == set(segment.captures.values())
    assert "y" not in segment.captures.values()
