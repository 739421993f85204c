"""Values in bodies and functions, each compared with what a plain interpreter of the model says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from tests.conformance.expected import expected, is_known, same
from tests.conformance.interpreter import interpret

import onnxscope
from onnxscope_server.catalog import own_functions
from onnxscope_server.catalog.model import CatalogModel

_HEAD = '<ir_version: 8, opset_import: ["" : 17, "f" : 1]>'
_FUNCTION = '<domain: "f", opset_import: ["" : 17, "f" : 1]>'
_X = np.array([1, 2, 3], np.float32)
_TRUE, _FALSE = np.array(True), np.array(False)
_UP_TO_J = """
    o = Constant <value = int64[1] {0}> ()
    k = Constant <value = int64[1] {1}> ()
    j1 = Unsqueeze (j, o)
    e = Add (j1, k)
    sl = Slice (u, o, e)"""
_INNER_LOOP = f"""
    a, zz = Loop (i, ci, s) <body = b2 (int64 j, bool cj, float[3] u) => (bool cjo, float[3] uo, float[3] z)
        {{ cjo = Identity (cj)  uo = Neg (u)  z = Exp (u) {_UP_TO_J} }}>"""


def _trips(*counts: int) -> list[dict[str, Any]]:
    return [{"x": _X, "n": np.array(count)} for count in counts]


CASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "branches": (
        """g (float[3] x, bool c) => (y) { y = If (c) <
            then_branch = t () => (a) { q = Neg (x)  a = Exp (q) },
            else_branch = e () => (b) { b = Neg (x) }> }""",
        [{"x": _X, "c": _TRUE}, {"x": _X, "c": _FALSE}],
    ),
    "a loop with a state and a scan output": (
        """g (float[3] x, int64 n) => (y) { t = Constant <value = bool {1}> ()
            y, ys = Loop (n, t, x) <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so, float[3] z)
            { co = Identity (ci)  h = Neg (s)  so = Add (h, x)  z = Exp (so) }> }""",
        _trips(3, 1, 0),
    ),
    "shapes that change from one iteration to the next": (
        f"""g (float[3] x, int64 n) => (y) {{ t = Constant <value = bool {{1}}> ()
            y = Loop (n, t, x) <body = b (int64 j, bool ci, float[3] u) => (bool co, float[3] so)
            {{ co = Identity (ci) {_UP_TO_J} so = Neg (u) }}> }}""",
        _trips(3, 1, 0),
    ),
    "a branch in a loop": (
        """g (float[3] x, int64 n) => (y) { t = Constant <value = bool {1}> ()
            y = Loop (n, t, x) <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so)
            { co = Identity (ci)  one = Constant <value = int64 {1}> ()  c = Greater (i, one)
              so = If (c) <then_branch = t () => (a) { q = Neg (s)  a = Exp (q) },
                           else_branch = e () => (d) { r = Concat <axis = 0> (s, s)  d = Neg (s) }> }> }""",
        _trips(4, 1, 0),
    ),
    "a loop in a branch in a loop": (
        f"""g (float[3] x, int64 n) => (y) {{ t = Constant <value = bool {{1}}> ()
            y = Loop (n, t, x) <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so)
            {{ co = Identity (ci)  one = Constant <value = int64 {{1}}> ()  c = Greater (i, one)
              so = If (c) <then_branch = t () => (a) {{ {_INNER_LOOP} }},
                           else_branch = e () => (d) {{ d = Neg (s) }}> }}> }}""",
        _trips(4, 2, 0),
    ),
    "a scan, one output backwards": (
        """g (float[3] s0, float[4, 3] xs) => (y, ys) { y, ys = Scan <num_scan_inputs = 1, scan_output_directions = [1],
            body = b (float[3] s, float[3] x) => (float[3] so, float[3] z)
            { t = Neg (x)  so = Add (t, s)  z = Exp (so) }> (s0, xs) }""",
        [{"s0": _X, "xs": np.arange(12, dtype=np.float32).reshape(4, 3) / 12}],
    ),
    "a map over a sequence": (
        """g (seq(float[N]) s) => (seq(float[N]) y) { y = SequenceMap <body = b (float[N] x) => (float[N] o)
            { q = Neg (x)  o = Add (q, q) }> (s) }""",
        [{"s": [_X, _X[:2]]}, {"s": [_X, _X]}],
    ),
    "a sequence that grows": (
        """g (float[3] x, int64 n) => (seq(float[3]) y) { t = Constant <value = bool {1}> ()  s0 = SequenceEmpty ()
            y = Loop (n, t, s0) <body = b (int64 i, bool ci, seq(float[3]) s) => (bool co, seq(float[3]) so)
            { co = Identity (ci)  so = SequenceInsert (s, x) }> }""",
        _trips(3, 1, 0),
    ),
    "calls with attributes, in each other": (
        f"""g (float[3] x) => (y) {{ a = f.F <k = 1.0> (x)  y = f.F <k = 2.0> (a) }}
        {_FUNCTION} F <k> (x) => (y) {{ c = Constant <value_float: float = @k> ()  d = f.G (x)  y = Mul (c, d) }}
        {_FUNCTION} G (x) => (y) {{ n = Neg (x)  y = Exp (n) }}""",
        [{"x": _X}],
    ),
    "control flow in a function that is called twice": (
        f"""g (float[3] x, bool c) => (y) {{ a = f.F (x, c)  y = f.F (a, c) }}
        {_FUNCTION} F (x, c) => (y) {{ n = Constant <value = int64 {{3}}> ()
            y = Loop (n, c, x) <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so)
            {{ co = Identity (ci)  one = Constant <value = int64 {{1}}> ()  k = Greater (i, one)
              so = If (k) <then_branch = t () => (a) {{ a = f.G (s) }},
                           else_branch = e () => (d) {{ d = Neg (s) }}> }}> }}
        {_FUNCTION} G (x) => (y) {{ n = Neg (x)  y = Exp (n) }}""",
        [{"x": _X, "c": _TRUE}, {"x": _X, "c": _FALSE}],
    ),
    "half precision and text in a branch in a loop": (
        """g (float16[3] x, string[2] w, int64 n) => (y) { t = Constant <value = bool {1}> ()
            y = Loop (n, t, x) <body = b (int64 i, bool ci, float16[3] s) => (bool co, float16[3] so)
            { co = Identity (ci)  one = Constant <value = int64 {1}> ()  c = Greater (i, one)
              so = If (c) <then_branch = t () => (a) { v = Identity (w)  a = Neg (s) },
                           else_branch = e () => (d) { l = Less (s, x)  d = Identity (s) }> }> }""",
        [{"x": _X.astype(np.float16), "w": np.array(["a", "ä"], object), "n": np.array(3)}],
    ),
}


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "optimised"])
@pytest.mark.parametrize("case", CASES)
def test_every_value_is_what_an_interpreter_says(scope: onnxscope.Scope, case: str, exact: bool) -> None:
    """Every hook point inside of nodes holds what it should, at every depth, and outputs stay as they are."""
    text, runs = CASES[case]
    data = parser.parse_model(_HEAD + text).SerializeToString()
    places = CatalogModel.from_bytes(data).contents.places(expand=False)
    model = scope.load(data)
    for feeds in runs:
        acts = model.capture(feeds, at=list(places), exact=exact)
        proto = onnx.ModelProto.FromString(data)
        own_functions.give(proto)
        record = interpret(proto, feeds)
        known = {address: expected(record, place) for address, place in places.items()}
        wrong = [a for a, value in known.items() if is_known(value) and not same(acts[a], value, rtol=1e-6, atol=1e-6)]
        assert not wrong
        assert sum(map(is_known, known.values())) > len(known) / 2
        plain = model.run(feeds)
        for name, value in plain.outputs.items():
            assert same(acts.outputs[name], value, rtol=0, atol=0)


def test_iterations_come_first_and_branches_not_taken_are_none(scope: onnxscope.Scope) -> None:
    """An array where shapes agree, also over no trip at all; a list where they don't; None in a branch not taken."""
    text, _ = CASES["a branch in a loop"]
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    points = {point.address: point for point in model.hook_points()}
    assert points["Loop_0::body::If_0::then_branch::q"].shape == (None, 3)
    acts = model.capture({"x": _X, "n": np.array(3)}, at="*")
    assert acts["Loop_0::body::so"].shape == (3, 3)
    taken = acts["Loop_0::body::If_0::then_branch::q"]
    assert taken[0] is None
    assert taken[1] is None
    np.testing.assert_array_equal(taken[2], -acts["Loop_0::body::so"][1])
    none = model.capture({"x": _X, "n": np.array(0)}, at="*")
    assert none["Loop_0::body::so"].shape == (0, 3)


def test_each_call_has_addresses_of_its_own(scope: onnxscope.Scope) -> None:
    """One function, called twice with other attributes, holds other values; nested calls too."""
    text, runs = CASES["calls with attributes, in each other"]
    acts = scope.load(parser.parse_model(_HEAD + text).SerializeToString()).capture(runs[0], at="*::F::*")
    assert list(acts) == ["F_0::F::G_0::G::n", "F_0::F::G_0::G::y", "F_0::F::d", "F_0::F::y",
                          "F_1::F::G_0::G::n", "F_1::F::G_0::G::y", "F_1::F::d", "F_1::F::y"]  # fmt: skip
    np.testing.assert_array_equal(acts["F_1::F::G_0::G::n"], -acts["F_0::F::y"])


def test_values_inside_are_reduced_in_every_iteration(scope: onnxscope.Scope) -> None:
    """A reduction is of one iteration's value; the iterations stay."""
    text, _ = CASES["a loop with a state and a scan output"]
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    feeds = {"x": _X, "n": np.array(4)}
    whole = model.capture(feeds, at="Loop_0::body::so")["Loop_0::body::so"]
    largest = onnxscope.reduce.topk(1)
    found = model.capture(feeds, at="Loop_0::body::so", reduce=largest)["Loop_0::body::so"]
    np.testing.assert_array_equal(found, whole.max(-1, keepdims=True))


def test_unused_slots_and_parts_are_there_inside_too(scope: onnxscope.Scope) -> None:
    """An LSTM in a branch shows the outputs that it leaves out, and its gates."""
    numbers = ", ".join(str(number % 5 / 10) for number in range(16))
    text = f"""g (float[3, 1, 2] x, bool c) => (y) {{
        w = Constant <value_floats = [{numbers}]> ()
        shape = Constant <value_ints = [1, 8, 2]> ()
        w3 = Reshape (w, shape)
        y = If (c) <then_branch = t () => (a) {{ q, a = LSTM <hidden_size = 2> (x, w3, w3) }},
                    else_branch = e () => (b) {{ b = ReduceSum <keepdims = 1> (x) }}> }}"""
    model = scope.load(parser.parse_model(_HEAD + text).SerializeToString())
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 1, 2)
    at = ["If_0::then_branch::LSTM_0::output::Y_c", "If_0::then_branch::LSTM_0::expand::C"]
    acts = model.capture({"x": x, "c": _TRUE}, at=at, expand=True)
    np.testing.assert_allclose(acts[at[0]][0, 0], acts[at[1]][-1, 0, 0], atol=1e-6)
    assert all(value is None for value in model.capture({"x": x, "c": _FALSE}, at=at, expand=True).values())
