"""Where values live: every body and every called function, what its addresses start with, and what it sees."""

from __future__ import annotations

import onnx
from onnx import helper, parser

from onnxscope_server.catalog.scopes import Place, Step, anchor_of, called, control_flow, imported, scopes, visible

NESTED = parser.parse_model(
    """<ir_version: 10, opset_import: ["" : 17, "f" : 1]>
    g (float[2] x, bool c, int64 n) => (y) {
        h = f.F (x, c)
        y, ys = Loop (n, c, h) <body = b (int64 i, bool ci, float[2] s) => (bool co, float[2] so, float[2] z) {
            co = Identity (ci)
            so = If (ci) <
                then_branch = t () => (p) { p = Neg (s) },
                else_branch = e () => (q) { q = f.F (s, ci) }>
            z = Exp (so) }>
    }
    <domain: "f", opset_import: ["" : 15]>
    F (x, c) => (r) { r = If (c) <
        then_branch = t () => (p) { p = Neg (x) },
        else_branch = e () => (q) { q = Exp (x) }> }
    <domain: "f", opset_import: ["" : 13]>
    Idle (x) => (r) { r = Neg (x) }"""
)
CALL = Step("h", "F", "")
BODY = Step("y", "body", "Loop")
THEN, ELSE = Step("so", "then_branch", "If"), Step("so", "else_branch", "If")
INNER = Step("q", "F", "")
F_THEN, F_ELSE = Step("r", "then_branch", "If"), Step("r", "else_branch", "If")


def test_every_scope_comes_after_the_one_around_it():
    """Main graph, bodies and called functions, in the order of the file; a function that nobody calls has none."""
    assert [(scope.path, scope.prefix) for scope in scopes(NESTED)] == [
        ((), ""),
        ((CALL,), "F_0::F::"),
        ((CALL, F_THEN), "F_0::F::If_0::then_branch::"),
        ((CALL, F_ELSE), "F_0::F::If_0::else_branch::"),
        ((BODY,), "Loop_0::body::"),
        ((BODY, THEN), "Loop_0::body::If_0::then_branch::"),
        ((BODY, ELSE), "Loop_0::body::If_0::else_branch::"),
        ((BODY, ELSE, INNER), "Loop_0::body::If_0::else_branch::F_0::F::"),
        ((BODY, ELSE, INNER, F_THEN), "Loop_0::body::If_0::else_branch::F_0::F::If_0::then_branch::"),
        ((BODY, ELSE, INNER, F_ELSE), "Loop_0::body::If_0::else_branch::F_0::F::If_0::else_branch::"),
    ]


def test_operators_are_those_of_the_function_around():
    """Bodies have the versions of the graph or function that they are in."""
    versions = {scope.prefix: scope.imports[""] for scope in scopes(NESTED)}
    assert versions[""] == versions["Loop_0::body::If_0::else_branch::"] == 17
    assert versions["F_0::F::"] == versions["F_0::F::If_0::then_branch::"] == 15


def test_names_of_nodes_go_into_prefixes():
    """A name that two nodes share is not used; a later output is the anchor where the first has no name."""
    sources = [onnx.ValueInfoProto(name=name) for name in "xc"]
    branch = parser.parse_graph("b () => (a) { a = Neg (x) }")
    nodes = [
        helper.make_node("If", ["c"], outputs, name=name, then_branch=branch, else_branch=branch)
        for outputs, name in ((["", "k"], "one"), (["l"], "both"), (["m"], "both"), ([""], "idle"))
    ]
    found = list(scopes(helper.make_model(helper.make_graph(nodes, "g", sources, []))))
    assert [scope.prefix for scope in found[1::2]] == [
        "one::else_branch::",
        "If_1::else_branch::",
        "If_2::else_branch::",
    ]
    assert found[1].path == (Step("k", "else_branch", "If"),)


def test_only_control_flow_has_bodies_that_are_scopes():
    """An operator of somebody else may hold a graph for purposes of its own."""
    body = parser.parse_graph("b () => (a) { a = Neg (x) }")
    own = helper.make_node("If", ["c"], ["y"], then_branch=body)
    assert [where for where, _ in control_flow(own)] == ["then_branch"]
    spelt_out = helper.make_node("If", ["c"], ["y"], then_branch=body, domain="ai.onnx")
    assert [where for where, _ in control_flow(spelt_out)] == ["then_branch"]
    assert not list(control_flow(helper.make_node("If", ["c"], ["y"], then_branch=body, domain="else")))
    assert not list(control_flow(helper.make_node("Unheard", ["c"], ["y"], body=body)))
    referring = helper.make_node("If", ["c"], ["y"])
    referring.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH, ref_attr_name="given")
    assert not list(control_flow(referring))


def test_a_function_is_found_by_domain_name_and_overload():
    """One of the same name elsewhere is another."""
    node = helper.make_node("F", ["x"], ["y"], domain="f", overload="o")
    assert called(node) == ("f", "F", "o")
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    for domain, overload in (("f", ""), ("h", "o")):
        proto.functions.add(name="F", domain=domain, overload=overload)
    assert [scope.path for scope in scopes(proto)] == [()]
    proto.functions.add(name="F", domain="f", overload="o")
    assert [scope.path for scope in scopes(proto)] == [(), (Step("y", "F", ""),)]


def test_a_body_sees_what_is_around_it_up_to_its_function():
    """The nearest first; the values of a caller are not among them."""
    assert list(visible(())) == [()]
    assert list(visible((BODY, THEN))) == [(BODY, THEN), (BODY,), ()]
    assert list(visible((BODY, ELSE, INNER))) == [(BODY, ELSE, INNER)]
    assert list(visible((CALL, F_THEN))) == [(CALL, F_THEN), (CALL,)]


def test_a_place_counts_the_iterations_around_it():
    """Bodies that run again and again, not branches and functions."""
    scan, mapped = Step("a", "body", "Scan"), Step("b", "body", "SequenceMap")
    assert Place((), "v").repeats == 0
    assert Place((CALL, F_THEN), "v").repeats == 0
    assert Place((BODY, ELSE, INNER, scan, mapped), "v").repeats == 3


def test_both_spellings_of_onnx_are_one_domain():
    """Versions are under the empty name."""
    imports = [helper.make_opsetid("ai.onnx", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=imports)
    assert imported(proto) == {"": 17, "ai.onnx.ml": 3}


def test_the_anchor_is_the_first_output_with_a_name():
    """A node without one has no anchor."""
    assert anchor_of(helper.make_node("LSTM", ["x"], ["", "h", "c"])) == "h"
    assert not anchor_of(helper.make_node("Relu", ["x"], [""]))
    assert not anchor_of(helper.make_node("Relu", ["x"], []))
