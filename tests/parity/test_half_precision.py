"""Half precision: onnxruntime puts casts around operators without a kernel, and takes pairs of casts away again."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser

import onnxscope

_MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x) => (float[N] y) { h = Cast <to = 10> (x)  a = Erf (h)  y = Cast <to = 1> (a) }"""


@pytest.mark.parametrize("exact", [False, True])
def test_outputs_stay_where_a_capture_keeps_a_cast(scope: onnxscope.Scope, exact: bool) -> None:
    """A captured value is rounded where the unmodified model does not round it; its outputs come from beside."""
    proto = parser.parse_model(_MODEL)
    options = ort.SessionOptions()
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.linspace(0, 1, 9, dtype=np.float32)
    (plain,) = ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})
    model = scope.load(proto)
    for at in ("h", "a", "y", "*"):
        acts = model.capture(x, at=at, exact=exact)
        np.testing.assert_array_equal(acts.outputs["y"], plain)
    assert acts.fidelity.fusion_blocked
    assert acts.fidelity.max_output_difference > 0
