"""Models that onnxruntime would die of are mended or refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

import onnxscope


def _run(data: bytes, **inputs: np.ndarray):
    """Loads a model, and captures all of it."""
    with onnxscope.local(intra_op_threads=1) as scope:
        return scope.load(data).capture(inputs, at="*")


@pytest.mark.parametrize("left_out", ["y", "ys"])
def test_outputs_that_a_loop_leaves_out_get_names(parsed, left_out: str) -> None:
    """Where onnxruntime writes such an output to nowhere and dies, or refuses the model, it runs here."""
    kept = "ys" if left_out == "y" else "y"
    proto = onnx.load_from_string(
        parsed(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x, int64 n, bool c) => ({kept}) {{ y, ys = Loop (n, c, x) <body = b (int64 i, bool ci, float[3] s)
            => (bool co, float[3] so, float[3] w) {{ co = Identity(ci) so = Neg(s) w = Exp(so) }}> }}""")
    )
    proto.graph.node[0].output[:] = ["" if name == left_out else name for name in proto.graph.node[0].output]
    acts = _run(proto.SerializeToString(), x=np.ones(3, np.float32), n=np.array(3), c=np.array(True))
    expected = np.exp([[-1], [1], [-1]]) * np.ones(3) if kept == "ys" else -np.ones(3)
    np.testing.assert_allclose(acts.outputs[kept], expected, rtol=1e-6)
    assert acts["Loop_0::body::w"].shape == (3, 3)


def test_pieces_that_a_split_leaves_out_get_names(parsed) -> None:
    """A Split without one of its outputs runs."""
    proto = onnx.load_from_string(
        parsed("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[2] y) { a, b = Split (x)  y = Neg (b) }""")
    )
    proto.graph.node[0].output[0] = ""
    acts = _run(proto.SerializeToString(), x=np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(acts.outputs["y"], [-2, -3])


def test_a_loop_that_stacks_less_than_bytes_is_refused(parsed) -> None:
    """Its run would write past the end of the stack; the error says what to do instead."""
    with pytest.raises(onnxscope.errors.ModelInvalidError, match=r"Loop y stacks 'q', which is int4.*Cast it to int8"):
        _run(
            parsed("""<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, int64 n) => (float[3] y, float[k, 3] o)
            <bool t = {1}> { y, ys = Loop (n, t, x) <body = b (int64 i, bool c, float[3] u)
                => (bool co, float[3] a, int4[3] q) { co = Identity(c) a = Neg(u) q = Cast<to = 22>(u) }>
                o = Cast<to = 1>(ys) }"""),
        )


_ENCODER = 'y = ai.onnx.ml.LabelEncoder <keys_floats = [1.0], values_strings = ["one"]> (a)'
_FRAGILE = {
    "label encoder": f'g (float[N, 1] x) => (y) {{ a = ai.onnx.ml.Normalizer <norm = "MAX"> (x) {_ENCODER} }}',
    "label encoder in a branch": f"""g (float[N, 1] x, bool c) => (z) {{ z = If (c) <
        then_branch = t () => (y) {{ a = com.microsoft.Gelu (x) {_ENCODER} }},
        else_branch = e () => (v) {{ v = Constant <value_string = "none"> () }}> }}""",
    "label encoder in a function": f"""g (float[N, 1] x) => (z) {{ z = f.F (x) }}
        <domain: "f", opset_import: ["" : 18, "ai.onnx.ml" : 2, "com.microsoft" : 1]>
        F (x) => (y) {{ a = com.microsoft.Gelu (x) {_ENCODER} }}""",
    "label encoder in a function whose input is called like a typed value": f"""g (float[N, 1] x) => (z) {{
        u = com.microsoft.Gelu (x)  z = f.F (u) }}
        <domain: "f", opset_import: ["" : 18, "ai.onnx.ml" : 2]> F (x) => (y) {{ a = Identity (x) {_ENCODER} }}""",
    "label encoder that reads a function's input": """g (float[N, 1] a) => (z) {
        u = com.microsoft.Gelu (a)  z = f.F (u) }
        <domain: "f", opset_import: ["" : 18, "ai.onnx.ml" : 2]> F (a) => (y) { ENCODER }""".replace(
        "ENCODER", _ENCODER
    ),
    "identity matrix": "g (float[N, 1] x) => (y) { a = com.microsoft.Gelu (x) y = EyeLike <dtype = 1> (a) }",
}


@pytest.mark.parametrize("name", _FRAGILE)
def test_operators_that_onnx_must_not_be_asked_about(name: str) -> None:
    """ONNX's inference ends the process where their input has no type; here they are listed and captured."""
    text = '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 2, "com.microsoft" : 1, "f" : 1]>' + _FRAGILE[name]
    script = f"""
import numpy as np, onnx.parser, onnxscope
with onnxscope.local(intra_op_threads=1) as scope:
    model = scope.load(onnx.parser.parse_model({text!r}))
    x = {{model.inputs[0].name: np.ones((2, 1), np.float32)}}
    x |= {{"c": np.array(True)}} if len(model.inputs) == 2 else {{}}
    print(len(model.capture(x, at="*")), *(point.dtype for point in model.hook_points()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[0]) >= 2
