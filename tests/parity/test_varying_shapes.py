"""Values in bodies whose shapes differ between iterations, or that no body lets out as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser
from tests.conformance.expected import expected, is_known, same
from tests.conformance.interpreter import interpret

import onnxscope
from onnxscope_server.catalog.model import CatalogModel

_XS = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1]], np.float32)
_N = np.array(3)
_GROWING = """g (float[3] x, int64 n) => (float y) {
    t = Constant <value = bool {1}> ()  o = Constant <value = float {0}> ()
    z = Constant <value = int64[1] {0}> ()  k = Constant <value = int64[1] {1}> ()
    y = Loop (n, t, o) <body = b (int64 i, bool c, float v) => (bool co, float vo) {
        co = Identity (c)  e = Add (i, k)  s = Slice (x, z, e)  vo = ReduceSum <keepdims = 0> (s) }> }"""
_SCAN = """g (float[N, 3] xs) => (float[N, 3] ys) {
    ys = Scan <num_scan_inputs = 1, body = b (float[3] x) => (float[3] y) { %s y = Neg (x) }> (xs) }"""
_BRANCH = """g (float[N, 3] xs, bool c, int64 n) => (float[N, 3] ys) {
    ys = Scan <num_scan_inputs = 1, body = b (float[3] x) => (float[3] y) {
        y = If (c) <then_branch = t () => (float[3] r) { %s }, else_branch = e () => (float[3] q) { q = Exp (x) }>
    }> (xs) }"""
CASES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "a loop of an old opset": (11, _GROWING, {"x": _XS[0], "n": _N}),
    "a loop without trips": (11, _GROWING, {"x": _XS[0], "n": np.array(0)}),
    "a state that grows against what is declared": (
        17,
        """g (float[1] x, int64 n) => (float[K] y) { t = Constant <value = bool {1}> ()
            y = Loop (n, t, x) <body = b (int64 i, bool c, float[1] v) => (bool co, float[M] vo) {
                co = Identity (c)  e = Tanh (v)  vo = Concat <axis = 0> (v, e) }> }""",
        {"x": _XS[0, :1], "n": _N},
    ),
    "a scan": (20, _SCAN % "z = NonZero (x)  w = Neg (z)", {"xs": _XS}),
    "a scan from behind, along another axis": (
        20,
        """g (float[3, N] xs, float[2] a) => (ys) {
            s, ys = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
                scan_output_axes = [-1], scan_output_directions = [1],
                body = b (float[2] u, float[3] x) => (float[2] v, float[3] y) {
                    z = NonZero (x)  v = Neg (u)  y = Neg (x) }> (a, xs) }""",
        {"xs": np.ascontiguousarray(_XS.T), "a": np.ones(2, np.float32)},
    ),
    "lists and optionals in a scan": (
        20,
        _SCAN
        % """l = SequenceConstruct (x, x)  o = Optional (x)  h = OptionalGetElement (o)
            i = Constant <value_int = 1> ()  q = SequenceAt (l, i)""",
        {"xs": _XS},
    ),
    "a branch in a scan": (20, _BRANCH % "z = NonZero (x)  r = Neg (x)", {"xs": _XS, "c": np.array(True), "n": _N}),
    "a branch in a scan, not taken": (
        20,
        _BRANCH % "z = NonZero (x)  r = Neg (x)",
        {"xs": _XS, "c": np.array(False), "n": _N},
    ),
    "a loop in a branch in a scan": (
        20,
        _BRANCH
        % """r = Loop (n, , x) <body = b (int64 i, bool k, float[3] v) => (bool ko, float[3] w) {
            ko = Identity (k)  z = NonZero (v)  w = If (c) <
                then_branch = t () => (float[3] a) { a = Sin (v) }, else_branch = e () => (float[3] d) { d = Neg (v) }>
            }>""",
        {"xs": _XS, "c": np.array(True), "n": _N},
    ),
    "lists in a map over a list": (
        20,
        """g (seq(float[K]) xs, float[1] a) => (seq(float[K]) t) {
            t = SequenceMap (xs, a) <body = b (float[K] e, float[1] d) => (float[K] r) {
                l = SequenceConstruct (e, d)  i = Constant <value_int = 0> ()  r = SequenceAt (l, i) }> }""",
        {"xs": list(_XS), "a": np.ones(1, np.float32)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_value_comes_out(scope: onnxscope.Scope, case: str) -> None:
    """Arrays of one shape are stacked, others are in a list; outputs stay, and a second call gives the same."""
    opset, text, feeds = CASES[case]
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>' + text)
    data = proto.SerializeToString()
    places = CatalogModel.from_bytes(data).contents.places(expand=False)
    model = scope.load(data)
    for _ in range(2):
        acts = model.capture(feeds, at=list(places))
        record = interpret(proto, feeds)
        known = {address: value for address, place in places.items() if is_known(value := expected(record, place))}
        assert len(known) == len(places)
        assert not [address for address, value in known.items() if not same(acts[address], value, rtol=1e-6, atol=1e-6)]
        for name, value in model.run(feeds).outputs.items():
            assert same(acts.outputs[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("to", "dtype"), [(10, "float16"), (16, "bfloat16"), (17, "float8_e4m3fn"), (19, "float8_e5m2"), (22, "int4")]
)
def test_types_that_no_list_has_come_out_too(scope: onnxscope.Scope, to: int, dtype: str) -> None:
    """The elements are the same, in their own type, whichever type onnxruntime can join."""
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, int64 n) => (float y) {{
        t = Constant <value = bool {{1}}> ()  o = Constant <value = float {{0}}> ()
        z = Constant <value = int64[1] {{0}}> ()  k = Constant <value = int64[1] {{1}}> ()
        y = Loop (n, t, o) <body = b (int64 i, bool c, float v) => (bool co, float vo) {{
            co = Identity (c)  e = Add (i, k)  s = Slice (x, z, e)  a = Cast <to = {to}> (s)
            f = Cast <to = 1> (a)  vo = ReduceSum <keepdims = 0> (f) }}> }}"""
    x = np.array([1, -2, 3], np.float32)
    found = scope.load(parser.parse_model(text)).capture({"x": x, "n": _N}, at="*::a")["Loop_0::body::a"]
    assert [(item.dtype.name, item.shape) for item in found] == [(dtype, (1,)), (dtype, (2,)), (dtype, (3,))]
    np.testing.assert_array_equal(found[-1].astype(np.float32), x)


def test_a_scan_of_opset_8_has_rows_before_iterations(scope: onnxscope.Scope) -> None:
    """It runs its body for every row and every position; a branch in it is taken or not in each of them."""
    text = """<ir_version: 10, opset_import: ["" : 8]> g (float[2, 3, 1] xs, float[2, 1] a) => (s, ys) {
        z = Constant <value = float[1] {0}> ()
        s, ys = Scan <num_scan_inputs = 1, body = b (float[1] u, float[1] x) => (float[1] v, float[1] y) {
            c = Greater (x, z)  w = Neg (x)  v = Add (u, x)
            y = If (c) <then_branch = t () => (p) { p = Exp (x) },
                        else_branch = e () => (q) { q = Neg (x) }> }> (, a, xs)
    }"""
    xs = np.array([[1, -1, 2], [-1, -2, 3]], np.float32)[..., None]
    model = scope.load(parser.parse_model(text))
    acts = model.capture({"xs": xs, "a": np.zeros((2, 1), np.float32)}, at=["*::w", "*::p"])
    np.testing.assert_array_equal(acts["Scan_0::body::w"], -xs)
    taken = acts["Scan_0::body::If_0::then_branch::p"]
    assert [[item is not None for item in row] for row in taken] == (xs[..., 0] > 0).tolist()


def test_an_error_of_the_inputs_stays_what_it_is(scope: onnxscope.Scope) -> None:
    """Where the model fails by itself, so does the capture, with onnxruntime's words."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[K] x, int64 n) => (y) {
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <body = b (int64 i, bool c, v) => (bool co, vo) { co = Identity (c)
            s = Constant <value_ints = [2, 2]> ()  w = Reshape (v, s)  vo = Neg (v) }> }"""
    model = scope.load(parser.parse_model(text))
    assert model.capture({"x": np.ones(4, np.float32), "n": _N}, at="*::w")["Loop_0::body::w"].shape == (3, 2, 2)
    with pytest.raises(onnxscope.errors.RunFailedError, match="Reshape"):
        model.capture({"x": np.ones(5, np.float32), "n": _N}, at="*::w")
