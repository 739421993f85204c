"""Values come out of branches, iterations and functions: each way out alone, then one in another."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxscope_server.catalog import graph
from onnxscope_server.domain import DataType, Each, Output, Ragged, SequenceType, Taken
from onnxscope_server.errors import NotImplementedYetError
from onnxscope_server.rewrite import readings
from onnxscope_server.rewrite.expose import Expose
from onnxscope_server.rewrite.lift import Lift
from onnxscope_server.rewrite.name_copies import NameCopies
from onnxscope_server.run.readings import read

HEAD = '<ir_version: 10, opset_import: ["" : {opset}, "f" : 1]>'
FUNCTION = '<domain: "f", opset_import: ["" : 17, "f" : 1]>'
X = np.array([1, 2, 3], np.float32)
XS = np.arange(12, dtype=np.float32).reshape(4, 3)
TRUE, FALSE = np.array(True), np.array(False)
# the first i + 1 entries of s
UP_TO_I = """o = Constant <value = int64[1] {0}> ()  k = Constant <value = int64[1] {1}> ()
    after = Unsqueeze (i, o)  e = Add (after, k)  part = Slice (s, o, e)"""


@pytest.fixture(scope="module")
def lift(model_of):
    """Lifts values of a model in the text form; keeps what the tests look at."""

    def lifted(text: str, *addresses: str, opset: int = 17) -> SimpleNamespace:
        model = model_of(HEAD.format(opset=opset) + text.replace("@FUNCTION", FUNCTION))
        places = model.contents.places(expand=False)
        wanted = {address: places[address] for address in addresses}
        rewritten = model.graph({place.path for place in wanted.values()})
        outputs = [value.name for value in rewritten.graph.outputs]
        one = Lift(wanted, model.contents.typed({}))
        result = one(rewritten)
        types = {point.address: point.type for point in model.hook_points}
        return SimpleNamespace(model=rewritten, lifted=one.lifted, types=types, outputs=outputs, result=result)

    return lifted


@pytest.fixture(scope="module")
def values(lift, run):
    """Runs a model with values lifted; returns these, and the model's own outputs under their names."""

    def held(text: str, feeds, *addresses: str, opset: int = 17):
        one = lift(text, *addresses, opset=opset)
        expose = Expose(name for reading in one.lifted.values() for name in readings.names(reading))
        for step in (expose, NameCopies()):
            step(one.model)
        got = run(graph.write(one.model), feeds, exact=True)
        exposed = {
            address: readings.replaced(reading, lambda name: Output(expose.exposed[name]))
            for address, reading in one.lifted.items()
        }
        held = {address: read(reading, got, one.types[address]) for address, reading in exposed.items()}
        return held | {name: got[name] for name in one.outputs}

    return held


def nodes_of(model: ir.Model) -> list[ir.Node]:
    """The nodes of the main graph."""
    return list(model.graph)


BRANCHES = """g (float[3] x, bool c) => (y) { y = If (c) <
    then_branch = t () => (a) { q = Neg (x)  a = Exp (q) }, else_branch = e () => (b) { r = Abs (x)  b = Sin (r) }> }"""
IN_THEN, IN_ELSE = "If_0::then_branch::", "If_0::else_branch::"


def test_a_branch_that_is_not_taken_gives_none(values):
    """Values of both branches at once: those of one, None for the other."""
    addresses = [IN_THEN + "q", IN_ELSE + "r"]
    taken = values(BRANCHES, {"x": X, "c": TRUE}, *addresses)
    np.testing.assert_array_equal(taken[addresses[0]], -X)
    assert taken[addresses[1]] is None
    np.testing.assert_allclose(taken["y"], np.exp(-X), rtol=1e-6)
    other = values(BRANCHES, {"x": X, "c": FALSE}, *addresses)
    assert other[addresses[0]] is None
    np.testing.assert_array_equal(other[addresses[1]], X)


def test_a_flag_tells_which_branch_was_taken(lift):
    """The reading holds flag and value; the other branch gives a stand-in of the same type and known size."""
    one = lift(BRANCHES, IN_THEN + "q")
    node = nodes_of(one.model)[0]
    flag, value = node.outputs[2].name, node.outputs[1].name
    assert one.lifted == {IN_THEN + "q": Taken(Output(flag), Output(value), 0)}
    branch = node.attributes["else_branch"].as_graph()
    stand_in = branch.outputs[1].producer().attributes["value"].as_tensor()
    assert (stand_in.dtype, list(stand_in.shape)) == (ir.DataType.FLOAT, [3])


def test_what_a_branch_gives_anyway_comes_out_once(lift, values):
    """A branch's own output is found under the node's; only the flag is added."""
    one = lift(BRANCHES, IN_THEN + "a")
    assert len(nodes_of(one.model)[0].outputs) == 2
    held = values(BRANCHES, {"x": X, "c": TRUE}, IN_THEN + "a", IN_ELSE + "b")
    np.testing.assert_array_equal(held[IN_THEN + "a"], held["y"])
    assert held[IN_ELSE + "b"] is None


def test_a_branch_without_nodes_gets_a_stand_in_too(values):
    """Its output is one of its own weights; the weight comes out as well."""
    text = """g (float[3] x, bool c) => (y) { y = If (c) <then_branch = t () => (a) { q = Neg (x)  a = Exp (q) },
        else_branch = e () => (w) <float[3] w = {4, 5, 6}> { }> }"""
    held = values(text, {"x": X, "c": FALSE}, IN_THEN + "q", IN_ELSE + "w")
    assert held[IN_THEN + "q"] is None
    assert held[IN_ELSE + "w"].tolist() == held["y"].tolist() == [4, 5, 6]
    held = values(text, {"x": X, "c": TRUE}, IN_THEN + "q", IN_ELSE + "w")
    np.testing.assert_array_equal(held[IN_THEN + "q"], -X)
    assert held[IN_ELSE + "w"] is None


@pytest.mark.parametrize("number", [1, 6, 7, 9, 10, 11, 8])
def test_stand_ins_have_the_type_of_the_value(values, number):
    """Onnxruntime refuses an If whose branches give different types: any type has a stand-in."""
    text = f"""g (float[3] x, bool c) => (y) {{ y = If (c) <
        then_branch = t () => (a) {{ q = Cast <to = {number}> (x)  a = Cast <to = 1> (q) }},
        else_branch = e () => (b) {{ b = Identity (x) }}> }}"""
    want = X.astype(str).astype(object) if number == 8 else X.astype(onnx.helper.tensor_dtype_to_np_dtype(number))
    held = values(text, {"x": X, "c": TRUE}, IN_THEN + "q")[IN_THEN + "q"]
    assert held.dtype == want.dtype
    assert held.shape == want.shape
    if number != 8:
        np.testing.assert_array_equal(held, want)
    assert values(text, {"x": X, "c": FALSE}, IN_THEN + "q")[IN_THEN + "q"] is None


def test_lists_come_out_of_branches(values):
    """An empty list stands in."""
    text = """g (float[3] x, bool c) => (y) { y = If (c) <
        then_branch = t () => (a) { l = SequenceConstruct (x, x)  i = Constant <value = int64 {1}> ()
            a = SequenceAt (l, i) }, else_branch = e () => (b) { b = Identity (x) }> }"""
    held = values(text, {"x": X, "c": TRUE}, IN_THEN + "l")[IN_THEN + "l"]
    assert [item.tolist() for item in held] == [X.tolist()] * 2
    assert values(text, {"x": X, "c": FALSE}, IN_THEN + "l")[IN_THEN + "l"] is None


def test_large_stand_ins_are_empty(lift):
    """A graph does not grow by what a branch would have held."""
    one = lift(BRANCHES.replace("float[3]", "float[100000]"), IN_THEN + "q")
    assert len(graph.write(one.model)) < 2000


def test_a_value_of_unknown_type_in_a_branch_says_so(model_of):
    """The other branch has to give the same type, and nobody knows it."""
    model = model_of(HEAD.format(opset=17) + BRANCHES)
    place = model.contents.places(expand=False)[IN_THEN + "q"]
    with pytest.raises(NotImplementedYetError, match="'q' can't be captured"):
        Lift({"q": place}, {})(model.graph({place.path}))


LOOP = """g (float[3] x, int64 n, bool c) => (y, ys) { y, ys = Loop (n, c, x) <
    body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so, float[3] z)
    { co = Identity (ci)  h = Neg (s)  so = Add (h, x)  z = Exp (so) }> }"""
IN_LOOP = "Loop_0::body::"


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_iterations_of_a_loop_come_first(values, trips):
    """Values of the body, its inputs and what it gives anyway, for any number of trips."""
    names = ["i", "ci", "s", "h", "so", "z"]
    held = values(LOOP, {"x": X, "n": np.array(trips), "c": TRUE}, *(IN_LOOP + name for name in names))
    states = [X, X - X, X - X + X]
    want = {
        "i": np.arange(trips),
        "ci": np.ones(trips, bool),
        "s": np.array(states[:trips], np.float32).reshape(trips, 3),
        "h": -np.array(states[:trips], np.float32).reshape(trips, 3),
    }
    for name, array in want.items():
        assert held[IN_LOOP + name].dtype == array.dtype
        np.testing.assert_array_equal(held[IN_LOOP + name], array)
    np.testing.assert_array_equal(held[IN_LOOP + "so"], X - held[IN_LOOP + "s"])
    np.testing.assert_array_equal(held[IN_LOOP + "z"], held["ys"])


def test_one_shape_is_a_scan_output(lift):
    """No copy into a list where one array does: the reading is one output, with an Each around it."""
    one = lift(LOOP, IN_LOOP + "h")
    node = nodes_of(one.model)[0]
    assert len(node.outputs) == 3
    assert one.lifted == {IN_LOOP + "h": Each(Output(node.outputs[2].name))}


def test_the_same_value_twice_is_found_twice(model_of, run):
    """Two keys for one place."""
    model = model_of(HEAD.format(opset=17) + LOOP)
    place = model.contents.places(expand=False)[IN_LOOP + "h"]
    rewritten = model.graph({place.path})
    one = Lift({1: place, 2: place}, model.contents.typed({}))
    one(rewritten)
    expose = Expose(name for reading in one.lifted.values() for name in readings.names(reading))
    expose(rewritten)
    got = run(graph.write(rewritten), {"x": X, "n": np.array(2), "c": TRUE}, exact=True)
    first, second = (got[Output(expose.exposed[one.lifted[key].item.name])] for key in (1, 2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("head", ["(n, c, x)", "(n, , x)", "(, c, x)"])
def test_shapes_that_change_are_carried_in_a_list(values, head):
    """Whatever of count and condition a Loop leaves out; results that were there keep their places."""
    text = f"""g (float[3] x, int64 n, bool c) => (y, ys) {{ y, ys = Loop {head} <
        body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so, float[3] z)
        {{ two = Constant <value = int64 {{2}}> ()  co = Less (i, two)
           {UP_TO_I} so = Neg (s)  z = Exp (s) }}> }}"""
    held = values(text, {"x": X, "n": np.array(3), "c": TRUE}, IN_LOOP + "part", IN_LOOP + "so")
    parts = held[IN_LOOP + "part"]
    assert [part.tolist() for part in parts] == [[1], [-1, -2], [1, 2, 3]]
    np.testing.assert_array_equal(held["y"], -X)
    np.testing.assert_allclose(held["ys"], np.exp([X, -X, X]), rtol=1e-6)
    np.testing.assert_array_equal(held[IN_LOOP + "so"], [-X, X, -X])


def test_a_loop_without_a_state_carries_too(values):
    """There is no state to put the list behind."""
    text = f"""g (float[3] s, int64 n, bool c) => (ys) {{ ys = Loop (n, c) <
        body = b (int64 i, bool ci) => (bool co, float[3] z) {{ co = Identity (ci)  z = Neg (s)  {UP_TO_I} }}> }}"""
    held = values(text, {"s": X, "n": np.array(2), "c": TRUE}, IN_LOOP + "part")
    assert [part.tolist() for part in held[IN_LOOP + "part"]] == [[1], [1, 2]]
    assert held["ys"].shape == (2, 3)


def test_lists_in_a_loop_come_as_lists_of_lists(lift, values):
    """One list for all iterations, and how many of it each has."""
    text = """g (float[3] x, int64 n, bool c) => (seq(float[3]) y) { s0 = SequenceEmpty ()
        y = Loop (n, c, s0) <body = b (int64 i, bool ci, seq(float[3]) s) => (bool co, seq(float[3]) so)
        { co = Identity (ci)  so = SequenceInsert (s, x) }> }"""
    address = IN_LOOP + "so"
    assert isinstance(lift(text, address).lifted[address], Each)
    assert isinstance(lift(text, address).lifted[address].item, Ragged)
    for trips in (0, 1, 3):
        held = values(text, {"x": X, "n": np.array(trips), "c": TRUE}, address)[address]
        assert [len(item) for item in held] == list(range(1, trips + 1))


def test_texts_in_a_loop_are_not_moved_away(values):
    """Onnxruntime moves texts out of a Loop, and leaves nothing to another output of the same memory."""
    text = """g (string[2] x, int64 n, bool c) => (y) { y = Loop (n, c, x) <
        body = b (int64 i, bool ci, string[2] s) => (bool co, string[2] so)
        { co = Identity (ci)  h = Identity (s)  so = Identity (h) }> }"""
    words = np.array(["a", "ä"], object)
    held = values(text, {"x": words, "n": np.array(2), "c": TRUE}, *(IN_LOOP + name for name in ("s", "h", "so")))
    assert all(value.tolist() == [["a", "ä"]] * 2 for name, value in held.items() if name != "y")
    assert held["y"].tolist() == ["a", "ä"]
    none = values(text, {"x": words, "n": np.array(0), "c": TRUE}, IN_LOOP + "h")
    assert none[IN_LOOP + "h"].shape == (0, 2)


@pytest.mark.parametrize("number", [DataType.INT4, DataType.UINT4])
def test_four_bits_leave_a_loop_in_bytes(lift, number):
    """Onnxruntime writes past the end of four bits, so it never sees them: a Cast inside, and one back outside."""
    text = LOOP.replace("h = Neg (s)", f"h = Neg (s)  q = Cast <to = {number}> (h)")
    one = lift(text, IN_LOOP + "q", opset=21)
    node, cast = nodes_of(one.model)
    body = node.attributes["body"].as_graph()
    inside = body.outputs[-1].producer()
    assert inside.op_type == cast.op_type == "Cast"
    assert inside.attributes["to"].as_int() in (DataType.INT8, DataType.UINT8)
    assert cast.attributes["to"].as_int() == number
    assert cast.inputs[0] is node.outputs[-1]
    assert one.lifted == {IN_LOOP + "q": Each(Output(cast.outputs[0].name))}


def test_an_old_loop_does_not_carry_lists(model_of):
    """Before opset 13 a Loop has arrays only, and the error says so."""
    model = model_of(HEAD.format(opset=11) + LOOP)
    place = model.contents.places(expand=False)[IN_LOOP + "h"]
    with pytest.raises(NotImplementedYetError, match="too old"):
        Lift({"h": place}, {place: SequenceType(None)})(model.graph({place.path}))


def test_a_scan_keeps_axes_and_directions_of_its_own_outputs(values):
    """What is added is stacked forwards along the first axis, in the order in which the iterations ran."""
    text = """g (float[3] s0, float[4, 3] xs) => (s, ys, zs) { s, ys, zs = Scan <num_scan_inputs = 1,
        scan_input_directions = [1], scan_output_axes = [1, 0], scan_output_directions = [0, 1],
        body = b (float[3] a, float[3] x) => (float[3] ao, float[3] y, float[3] z)
        { ao = Add (a, x)  y = Neg (x)  q = Exp (x)  z = Identity (ao) }> (s0, xs) }"""
    names = ["a", "x", "q", "y"]
    held = values(text, {"s0": X, "xs": XS}, *(f"Scan_0::body::{name}" for name in names))
    backwards = XS[::-1]
    sums = np.cumsum([X, *backwards], 0, dtype=np.float32)
    np.testing.assert_array_equal(held["Scan_0::body::x"], backwards)
    np.testing.assert_array_equal(held["Scan_0::body::a"], sums[:-1])
    np.testing.assert_array_equal(held["Scan_0::body::y"], -backwards)
    np.testing.assert_allclose(held["Scan_0::body::q"], np.exp(backwards), rtol=1e-6)
    np.testing.assert_array_equal(held["ys"], -backwards.T)
    np.testing.assert_array_equal(held["zs"], sums[:0:-1])
    np.testing.assert_array_equal(held["s"], sums[-1])


def test_lists_do_not_leave_a_scan(model_of):
    """A Scan gives arrays only, and the error says so."""
    text = """g (float[4, 3] xs) => (ys) { ys = Scan <num_scan_inputs = 1, body = b (float[3] x) => (float[3] y)
        { l = SequenceConstruct (x, x)  y = Neg (x) }> (xs) }"""
    model = model_of(HEAD.format(opset=17) + text)
    place = model.contents.places(expand=False)["Scan_0::body::l"]
    with pytest.raises(NotImplementedYetError, match="only arrays come out of a Scan"):
        Lift({"l": place}, model.contents.typed({}))(model.graph({place.path}))


def test_a_map_gives_one_value_for_each_item(values):
    """Of the body, of its inputs, of what all items share; arrays where shapes agree, none for no items."""
    text = """g (seq(float[N]) s, float[3] u) => (seq(float[N]) y) { y = SequenceMap <
        body = b (float[N] x, float[3] v) => (float[N] o)
        { q = Neg (x)  sum = ReduceSum <keepdims = 0> (v)  o = Add (q, sum) }> (s, u) }"""
    names = ["x", "v", "q", "sum", "o"]
    addresses = [f"SequenceMap_0::body::{name}" for name in names]
    held = values(text, {"s": [X, X[:2]], "u": X}, *addresses)
    assert [item.tolist() for item in held["SequenceMap_0::body::q"]] == [[-1, -2, -3], [-1, -2]]
    assert held["SequenceMap_0::body::v"].tolist() == [[1, 2, 3]] * 2
    assert held["SequenceMap_0::body::sum"].tolist() == [6, 6]
    for got, want in zip(held["SequenceMap_0::body::o"], held["y"], strict=True):
        np.testing.assert_array_equal(got, want)
    none = values(text, {"s": [], "u": X}, *addresses)
    assert [len(none[address]) for address in addresses] == [0] * 5


CALLS = """g (float[3] x) => (y) { a = f.F <k = 2.0> (x)  y = f.F <k = 5.0> (a) }
    @FUNCTION F <k> (x) => (y) { c = Constant <value_float: float = @k> ()  n = f.G (x)  y = Mul (c, n) }
    @FUNCTION G (x) => (y) { m = Neg (x)  y = Abs (m) }"""


def test_values_of_a_function_are_those_of_one_call(values):
    """Two calls, each with the function's values, its inputs and those of a function that it calls."""
    names = ["x", "c", "n", "y", "G_0::G::m", "G_0::G::x"]
    held = values(CALLS, {"x": X}, *(f"F_{call}::F::{name}" for call in (0, 1) for name in names))
    for call, (source, factor) in enumerate([(X, 2), (2 * X, 5)]):
        for name, want in zip(names, [source, factor, source, source * factor, -source, source], strict=True):
            np.testing.assert_array_equal(held[f"F_{call}::F::{name}"], want)
    np.testing.assert_array_equal(held["y"], 10 * X)


def test_a_call_that_gives_it_anyway_is_left_as_it_is(lift):
    """A function's own output is the call's."""
    one = lift(CALLS, "F_0::F::y")
    assert one.lifted == {"F_0::F::y": Output("a")}
    assert [len(node.outputs) for node in nodes_of(one.model)] == [1, 1]


def test_an_output_that_a_call_leaves_out_gets_a_name(values):
    """The call's slot is filled, and its other results stay."""
    text = """g (float[3] x) => (y) { , y = f.F (x) }
        @FUNCTION F (x) => (n, y) { n = Neg (x)  y = Exp (n) }"""
    held = values(text, {"x": X}, "F_0::F::n")
    np.testing.assert_array_equal(held["F_0::F::n"], -X)
    np.testing.assert_allclose(held["y"], np.exp(-X), rtol=1e-6)


NESTED = f"""g (float[3] x, int64 n, bool c) => (y) {{ y = Loop (n, c, x) <
    body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] so) {{
        co = Identity (ci)  one = Constant <value = int64 {{1}}> ()  late = Greater (i, one)
        so = If (late) <
            then_branch = t () => (a) {{ rows = SequenceConstruct (s, x)
                l = SequenceMap <body = m (float[3] u) => (float[3] v) {{ w = Exp (u)  v = Abs (w) }}> (rows)
                j = Constant <value = int64 {{0}}> ()  a = SequenceAt (l, j) }},
            else_branch = e () => (d) {{ d = Neg (s)  {UP_TO_I} }}> }}> }}"""


def test_one_way_out_after_the_other(values):
    """Of a branch in a loop: None where it was not taken, and shapes of their own where it was."""
    inner = "Loop_0::body::If_0::"
    feeds = {"x": X, "n": np.array(4), "c": TRUE}
    held = values(NESTED, feeds, inner + "else_branch::part", inner + "else_branch::d", inner + "then_branch::a")
    parts = held[inner + "else_branch::part"]
    assert [None if part is None else part.tolist() for part in parts] == [[1], [-1, -2], None, None]
    taken = held[inner + "then_branch::a"]
    assert taken[:2] == [None, None]
    np.testing.assert_allclose(taken[2], np.exp(X), rtol=1e-6)
    np.testing.assert_array_equal(held["y"], taken[3])
    none = values(NESTED, feeds | {"n": np.array(0)}, inner + "else_branch::d")
    assert none[inner + "else_branch::d"].shape == (0, 3)


def test_a_list_of_a_map_in_a_branch_in_a_loop(values):
    """Iterations first, then items; None for the iterations that went the other way."""
    address = "Loop_0::body::If_0::then_branch::SequenceMap_0::body::w"
    held = values(NESTED, {"x": X, "n": np.array(4), "c": TRUE}, address)[address]
    assert held[:2] == [None, None]
    assert held[2].shape == (2, 3)
    np.testing.assert_allclose(held[2][1], np.exp(X), rtol=1e-6)


def test_nothing_to_lift_leaves_the_model_alone(lift):
    """No output is added, and the pass says so."""
    one = lift(LOOP)
    assert one.lifted == {}
    assert not one.result.modified
    assert len(nodes_of(one.model)[0].outputs) == 2
