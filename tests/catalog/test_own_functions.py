"""Each call gets a function of its own, with the attributes of the call put in place."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import helper, parser

from onnxscope_server.catalog import own_functions
from onnxscope_server.catalog.scopes import Step, called, functions, scopes

HEAD = '<ir_version: 10, opset_import: ["" : 17, "f" : 1]>'
FUNCTION = '<domain: "f", opset_import: ["" : 17, "f" : 1]>'


def parsed(text: str) -> onnx.ModelProto:
    """A model from a main graph, and functions where the text says @FUNCTION."""
    return parser.parse_model(HEAD + text.replace("@FUNCTION", FUNCTION))


def given(text: str, **options) -> onnx.ModelProto:
    """The same with functions given to calls."""
    proto = parsed(text)
    own_functions.give(proto, **options)
    return proto


def function_of(proto: onnx.ModelProto, node: onnx.NodeProto) -> onnx.FunctionProto:
    """The function that a node calls."""
    return functions(proto)[called(node)]


def attributes_of(node: onnx.NodeProto) -> dict:
    """Values of a node's attributes, none of which refers to anything."""
    assert not any(attribute.ref_attr_name for attribute in node.attribute)
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


SCALED = """g (float[2] x) => (float[2] y) { a = f.F <k = 2.0> (x)  b = f.F (a)  y = f.F <k = 4.0> (b) }
    @FUNCTION F <k: float = 3.0> (x) => (y) { c = Constant <value_float: float = @k> ()  y = Mul (c, x) }"""


def test_every_call_has_its_own_function():
    """Of the same name and domain, told apart by the overload; what was there stays as it was."""
    before = parsed(SCALED)
    proto = given(SCALED)
    keys = [called(node) for node in proto.graph.node]
    assert len(set(keys)) == 3
    assert {(domain, name) for domain, name, _ in keys} == {("f", "F")}
    assert all(own_functions.is_copy(overload) for _, _, overload in keys)
    assert not own_functions.is_copy("")
    assert proto.functions[0] == before.functions[0]
    assert len(proto.functions) == 4


def test_attributes_are_put_in_place_of_references():
    """What the call says, or the default; neither call nor function has attributes left."""
    proto = given(SCALED)
    inside = [function_of(proto, node) for node in proto.graph.node]
    assert [attributes_of(function.node[0]) for function in inside] == [
        {"value_float": 2.0},
        {"value_float": 3.0},
        {"value_float": 4.0},
    ]
    assert not any(node.attribute for node in proto.graph.node)
    assert not any(function.attribute or function.attribute_proto for function in inside)


def test_an_attribute_that_nobody_gives_is_left_to_the_operator():
    """A reference without a value is taken away, and the attributes beside it stay."""
    proto = given(
        """g (float[2] x) => (float[2] y) { y = f.F (x) }
        @FUNCTION F <a, b> (x) => (y) { y = Mystery <first: float = @a, kept = 1, last: int = @b> (x) }"""
    )
    assert attributes_of(function_of(proto, proto.graph.node[0]).node[0]) == {"kept": 1}


def test_an_attribute_takes_the_name_that_it_has_inside():
    """One of another name, handed on to two nodes."""
    proto = given(
        """g (float[2] x) => (float[2] y) { y = f.F <outer = 1> (x) }
        @FUNCTION F <outer> (x) => (y) {
            a = Concat <axis: int = @outer> (x, x)  y = Softmax <axis: int = @outer> (a) }"""
    )
    function = function_of(proto, proto.graph.node[0])
    assert [attributes_of(node) for node in function.node] == [{"axis": 1}] * 2


def test_references_in_bodies_are_resolved():
    """At any depth inside of the function's nodes."""
    proto = given(
        """g (float[2] x, bool c) => (float[2] y) { y = f.F <k = 7.0> (x, c) }
        @FUNCTION F <k> (x, c) => (y) { y = If (c) <
            then_branch = t () => (a) { a = If (c) <
                then_branch = tt () => (p) { p = Constant <value_float: float = @k> () },
                else_branch = te () => (q) { q = Identity (x) }> },
            else_branch = e () => (b) { b = Constant <value_float: float = @k> () }> }"""
    )
    outer = function_of(proto, proto.graph.node[0]).node[0]
    bodies = {attribute.name: attribute.g for attribute in outer.attribute}
    inner = next(item.g for item in bodies["then_branch"].node[0].attribute if item.name == "then_branch")
    assert attributes_of(inner.node[0]) == attributes_of(bodies["else_branch"].node[0]) == {"value_float": 7.0}


def test_calls_in_functions_and_bodies_have_their_own_too():
    """F calls G in a branch: two calls of F make two of G, each with the attribute that came down to it."""
    proto = given(
        """g (float[2] x, bool c) => (float[2] y) { a = f.F <k = 2.0> (x, c)  y = f.F <k = 5.0> (a, c) }
        @FUNCTION F <k> (x, c) => (y) { y = If (c) <
            then_branch = t () => (p) { p = f.G <m: float = @k> (x) }, else_branch = e () => (q) { q = f.G (x) }> }
        @FUNCTION G <m: float = 9.0> (x) => (y) { c = Constant <value_float: float = @m> ()  y = Mul (c, x) }"""
    )
    found = []
    for node in proto.graph.node:
        branches = {item.name: item.g for item in function_of(proto, node).node[0].attribute}
        calls = [branches[where].node[0] for where in ("then_branch", "else_branch")]
        found += [attributes_of(function_of(proto, call).node[0])["value_float"] for call in calls]
    assert found == [2.0, 9.0, 5.0, 9.0]
    assert len({function.overload for function in proto.functions if function.name == "G"}) == 5


def test_overloads_of_the_model_are_kept():
    """A call of one of two overloads gets a copy of that one, and no overload is used twice."""
    proto = parsed(
        """g (float[2] x) => (float[2] y) { a = f.F (x)  b = f.F (a)  y = f.F (b) }
        @FUNCTION F (x) => (y) { y = Neg (x) }
        @FUNCTION F (x) => (y) { y = Exp (x) }"""
    )
    proto.functions[1].overload = proto.graph.node[1].overload = "onnxscope:call:1"
    own_functions.give(proto)
    inside = [function_of(proto, node) for node in proto.graph.node]
    assert [function.node[0].op_type for function in inside] == ["Neg", "Exp", "Neg"]
    assert len({function.overload for function in proto.functions}) == len(proto.functions) == 5


def test_only_wanted_calls_get_copies():
    """The others share what was there; inside of them nothing is copied."""
    text = """g (float[2] x) => (float[2] y) { a = f.F (x)  y = f.F (a) }
        @FUNCTION F (x) => (y) { b = f.G (x)  y = f.G (b) }
        @FUNCTION G (x) => (y) { y = Neg (x) }"""
    way = (Step("y", "F", ""), Step("b", "G", ""))
    proto = given(text, wanted={way[:1], way}.__contains__)
    first, second = proto.graph.node
    assert called(first) == ("f", "F", "")
    copied = function_of(proto, second)
    assert own_functions.is_copy(copied.overload)
    assert [own_functions.is_copy(node.overload) for node in copied.node] == [True, False]
    assert len(proto.functions) == 4


def test_a_call_without_a_named_output_is_left_alone():
    """Nothing tells it apart, and nothing needs it."""
    proto = parsed(
        """g (float[2] x) => (float[2] y) { a = f.F (x)  y = Neg (x) }
        @FUNCTION F (x) => (y) { y = Neg (x) }"""
    )
    proto.graph.node[0].output[0] = ""
    own_functions.give(proto)
    assert len(proto.functions) == 1


def test_a_model_without_functions_is_left_alone(mlp):
    """Not a byte changes."""
    proto = onnx.ModelProto.FromString(mlp)
    own_functions.give(proto)
    assert proto.SerializeToString() == mlp


def test_the_model_computes_what_it_did():
    """In onnxruntime it is 2 * 3 * 4 times the input, before and after."""
    x = np.array([1, -2], np.float32)
    for proto in (parsed(SCALED), given(SCALED)):
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], 24 * x)


def test_every_call_has_a_scope_of_its_own():
    """What `give` does is what `scopes` walks: the same paths before and after."""
    text = """g (float[2] x) => (float[2] y) { a = f.F (x)  y = f.F (a) }
        @FUNCTION F (x) => (y) { b = f.G (x)  y = f.G (b) }
        @FUNCTION G (x) => (y) { y = Neg (x) }"""
    proto = given(text)
    assert [scope.path for scope in scopes(parsed(text))] == [scope.path for scope in scopes(proto)]
    holders = [id(scope.holder) for scope in scopes(proto)]
    assert len(set(holders)) == len(holders) == 7
