"""Probes in the opset of a model: said in other versions of the operators, or refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser
from tests.served_probes import Linear

from onnxscope_server.catalog import graph
from onnxscope_server.errors import ProbeInvalidError
from onnxscope_server.rewrite.spelling import at_versions

X = np.linspace(-2, 2, 20, dtype=np.float32).reshape(5, 4)
MANY = """<ir_version: 8, opset_import: ["" : 18]> many (float[n, 4] x) => (float[n, 4] scores, float[n] norms)
    <float[4] mean = {1, 2, 3, 4}, int64[1] last = {1}> {
        a = Sub (x, mean)  b = Relu (a)  c = ReduceSum <keepdims = 1> (b, last)  d = Sqrt (c)
        e = Squeeze (d, last)  f = Unsqueeze (e, last)  g = Mul (f, b)
        scores = LogSoftmax <axis = -1> (g)  norms = ReduceSumSquare <keepdims = 0> (g, last) }"""


def said(data: bytes, opset: int) -> onnx.ModelProto:
    """Returns a probe in another opset."""
    model = at_versions(data, "p", opset, {})
    proto = graph.to_proto(model)
    for item in proto.opset_import:
        if not item.domain:
            item.version = opset
    return proto


def outputs(data: bytes) -> list[np.ndarray]:
    """Runs a probe."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 15, 17, 18, 21, 23])
@pytest.mark.parametrize("data", [Linear.drawn(4).onnx(18), parser.parse_model(MANY).SerializeToString()])
def test_a_probe_says_the_same_in_other_opsets(data: bytes, opset: int) -> None:
    """Older ones and newer ones, with axes as inputs or as attributes."""
    for found, wanted in zip(outputs(said(data, opset).SerializeToString()), outputs(data), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_functions_are_inlined() -> None:
    """The model would need them under names that its own don't have."""
    data = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]> calls (float[n, 4] x) => (float[n, 4] y) {
            y = own.twice (x) }
        <domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add (a, a) }"""
    ).SerializeToString()
    proto = said(data, 13)
    assert not proto.functions
    np.testing.assert_array_equal(outputs(proto.SerializeToString())[0], 2 * X)


@pytest.mark.parametrize(
    ("nodes", "opset", "why"),
    [
        ("y = HardSwish (x)", 13, "HardSwish of opset 17 can't be said in the model's opset 13"),
        ("y = Softmax <axis = 0> (x)", 12, "Softmax"),
        ("y = Concat <axis = -1> (x)", 9, "Concat"),
        ("k = Shape (x)  y = ReduceSum (x, k)", 12, "ReduceSum"),
        ("y = ai.onnx.ml.TreeEnsembleRegressor (x)", 17, "TreeEnsembleRegressor is of ai.onnx.ml 3"),
    ],
)
def test_what_cannot_be_said_is_refused(nodes: str, opset: int, why: str) -> None:
    """The error names the operator and both versions."""
    head = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> p (float[n, 4] x) => (float[n, 4] y)'
    data = parser.parse_model(f"{head} {{ {nodes} }}").SerializeToString()
    with pytest.raises(ProbeInvalidError, match=why):
        at_versions(data, "p", opset, {"ai.onnx.ml": 1})
