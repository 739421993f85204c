"""Weights that lie in branches, wherever the branch is."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper, parser

import onnxscope

_BRANCH = """If (c) <
    then_branch = t () => (float[2] r) <int64[2] w = {3, 4}> { d = Cast <to = 1> (w)  r = Add (x, d) },
    else_branch = e () => (float[2] q) { q = Neg (x) }>"""
_MODELS = {
    "If_0": f"g (float[2] x, bool c) => (float[2] y) {{ y = {_BRANCH} }}",
    "F_0::F::If_0": f"""g (float[2] x, bool c) => (float[2] y) {{ y = f.F (x, c) }}
        <domain: "f", opset_import: ["" : 21]> F (x, c) => (y) {{ y = {_BRANCH} }}""",
    "If_0::else_branch::If_0": f"""g (float[2] x, bool c) => (float[2] y) {{
        n = Not (c)
        y = If (n) <then_branch = t1 () => (float[2] p) {{ p = Exp (x) }},
                    else_branch = e1 () => (float[2] z) {{ z = {_BRANCH} }}> }}""",
}


@pytest.mark.parametrize("dtype", ["int64", "int4"])
@pytest.mark.parametrize("at", _MODELS)
def test_weights_of_branches_come_out(scope: onnxscope.Scope, at: str, dtype: str) -> None:
    """In their own type, also where onnxruntime has no operator that hands it on; None where not taken."""
    proto = parser.parse_model('<ir_version: 10, opset_import: ["" : 21, "f" : 1]>' + _MODELS[at])
    if dtype == "int4":
        weight = numpy_helper.from_array(np.array([3, 4], ml_dtypes.int4), "w")
        holders = [proto.graph.node, *(function.node for function in proto.functions)]
        waiting = [node for nodes in holders for node in nodes]
        while waiting:
            for attribute in waiting.pop().attribute:
                waiting.extend(attribute.g.node)
                for tensor in attribute.g.initializer:
                    tensor.CopyFrom(weight)
    model = scope.load(proto)
    x = np.ones(2, np.float32)
    address = f"{at}::then_branch::w"
    taken = model.capture({"x": x, "c": np.array(True)}, at=[address, f"{at}::then_branch::d"])
    assert taken[address].dtype.name == dtype
    assert taken[address].astype(int).tolist() == taken[f"{at}::then_branch::d"].tolist() == [3, 4]
    assert model.capture({"x": x, "c": np.array(False)}, at=address)[address] is None
