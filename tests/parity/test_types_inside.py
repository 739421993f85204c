"""Types inside of bodies and functions that only onnxruntime knows."""

from __future__ import annotations

import numpy as np
from onnx import parser

import onnxscope

_MODEL = """<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1, "f" : 1]>
g (float[3] x, bool c, int64 n) => (float[3] y) {
    z = If (c) <
        then_branch = t () => (r) {
            w = com.microsoft.Gelu (x)
            v = Neg (w)
            r = Loop (n, c, v) <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so) {
                co = Identity (ci)
                h = com.microsoft.Gelu (s)
                a = Add (h, v)
                so = f.F (a)
            }>
        },
        else_branch = e () => (q) { q = Neg (x) }
    >
    y = f.F (z)
}
<domain: "f", opset_import: ["" : 20, "com.microsoft" : 1]> F (X) => (Y) { Z = com.microsoft.Gelu (X) Y = Neg (Z) }
"""


def test_the_runtime_is_asked_about_bodies_and_functions() -> None:
    """Operators of com.microsoft have types in branches, in a loop in one, and in functions; all are captured."""
    inputs = {"x": np.ones(3, np.float32), "n": np.array(2)}
    with onnxscope.local(intra_op_threads=1) as scope:
        model = scope.load(parser.parse_model(_MODEL))
        types = {point.address: point.dtype for point in model.hook_points()}
        assert set(types.values()) == {"float32", "bool"}
        taken = model.capture({**inputs, "c": np.array(True)}, at="*")
        other = model.capture({**inputs, "c": np.array(False)}, at="*")
    assert set(taken) == set(other) == set(types)
    assert taken["If_0::then_branch::Loop_0::body::F_0::F::Z"].shape == (2, 3)
    assert taken["If_0::else_branch::q"] is None
    assert other["If_0::then_branch::w"] is None
    np.testing.assert_array_equal(taken["z"], taken["If_0::then_branch::r"])
    np.testing.assert_allclose(taken["If_0::then_branch::v"], -0.8413447 * inputs["x"], rtol=1e-5)
