"""Functions of one call get names of their own."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import parser

from onnxscope_server.catalog import graph, own_functions
from onnxscope_server.rewrite.name_copies import NameCopies

HEAD = '<ir_version: 10, opset_import: ["" : 17, "f" : 1, "h" : 1]>'
FUNCTION = '<domain: "f", opset_import: ["" : 17, "f" : 1, "h" : 1]>'
OTHER = FUNCTION.replace('domain: "f"', 'domain: "h"')
X = np.array([1, -2], np.float32)


def named(text: str, **options) -> onnx.ModelProto:
    """A model whose calls have functions of their own, after the pass."""
    proto = parser.parse_model(HEAD + text.replace("@FUNCTION", FUNCTION).replace("@OTHER", OTHER))
    own_functions.give(proto, **options)
    model = graph.from_proto(proto)
    NameCopies()(model)
    return onnx.ModelProto.FromString(graph.write(model))


def keys(proto: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """Domain, name and overload of every function, sorted."""
    return sorted((item.domain, item.name, item.overload) for item in proto.functions)


def run(proto: onnx.ModelProto, **feeds) -> np.ndarray:
    """Runs a model with onnxruntime."""
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": X, **feeds})[0]


TWICE = """g (float[2] x) => (float[2] y) { a = f.F <k = 2.0> (x)  y = f.F <k = 3.0> (a) }
    @FUNCTION F <k> (x) => (y) { c = Constant <value_float: float = @k> ()  y = Mul (x, c) }"""


def test_copies_are_told_apart_by_name():
    """No copy has an overload, calls follow, and the function that was copied stays."""
    proto = named(TWICE)
    assert keys(proto) == [("f", "F", ""), ("f", "F_1", ""), ("f", "F_2", "")]
    assert [node.op_type for node in proto.graph.node] == ["F_1", "F_2"]
    np.testing.assert_array_equal(run(proto), 6 * X)


def test_names_that_are_taken_are_left_to_who_has_them():
    """A function of the model is called F_1 already; one of that name in another domain is no hindrance."""
    proto = named(
        """g (float[2] x) => (float[2] y) { a = f.F (x)  b = h.F_2 (a)  y = f.F_1 (b) }
        @FUNCTION F (x) => (y) { y = Neg (x) }
        @FUNCTION F_1 (x) => (y) { y = Abs (x) }
        @OTHER F_2 (x) => (y) { y = Add (x, x) }"""
    )
    assert len(set(keys(proto))) == len(proto.functions) == 6
    assert {overload for _, _, overload in keys(proto)} == {""}
    assert {(domain, name) for domain, name, _ in keys(proto)} >= {("f", "F"), ("f", "F_1"), ("f", "F_2"), ("h", "F_2")}
    np.testing.assert_array_equal(run(proto), np.abs(2 * X))


def test_calls_in_functions_and_in_bodies_follow():
    """At every depth: in a branch of a function, too."""
    proto = named(
        """g (float[2] x, bool c) => (float[2] y) { a = f.F (x, c)  y = If (c) <
            then_branch = t () => (p) { p = f.F (a, c) }, else_branch = e () => (q) { q = f.G (a) }> }
        @FUNCTION F (x, c) => (y) { y = If (c) <
            then_branch = t () => (p) { p = f.G (x) }, else_branch = e () => (q) { q = Abs (x) }> }
        @FUNCTION G (x) => (y) { y = Add (x, x) }"""
    )
    assert {overload for _, _, overload in keys(proto)} == {""}
    assert len(proto.functions) == 2 + 5
    np.testing.assert_array_equal(run(proto, c=np.array(True)), 4 * X)
    np.testing.assert_array_equal(run(proto, c=np.array(False)), 2 * np.abs(X))


def test_overloads_of_the_model_stay():
    """Only copies are renamed; a copy of an overload has none any more."""
    text = """g (float[2] x) => (float[2] y) { a = f.F (x)  y = f.F (a) }
        @FUNCTION F (x) => (y) { y = Neg (x) }
        @FUNCTION F (x) => (y) { y = Abs (x) }"""
    proto = parser.parse_model(HEAD + text.replace("@FUNCTION", FUNCTION))
    proto.functions[1].overload = proto.graph.node[1].overload = "abs"
    own_functions.give(proto, lambda path: path[0].anchor == "a")
    model = graph.from_proto(proto)
    NameCopies()(model)
    written = onnx.ModelProto.FromString(graph.write(model))
    assert keys(written) == [("f", "F", ""), ("f", "F", "abs"), ("f", "F_1", "")]
    assert [(node.op_type, node.overload) for node in written.graph.node] == [("F_1", ""), ("F", "abs")]


def test_without_copies_nothing_changes():
    """The pass says so."""
    model = graph.from_proto(parser.parse_model(HEAD + TWICE.replace("@FUNCTION", FUNCTION)))
    before = graph.write(model)
    assert not NameCopies()(model).modified
    assert graph.write(model) == before
