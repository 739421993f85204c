"""A plan in segments is the plan in one segment: the same bits, whatever is in the graph and wherever it is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, parser
from tests.conformance.random_models import models
from tests.cut_everywhere import cut_everywhere
from tests.rewrite.test_random_graphs import models as graphs

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import (
    Capture,
    CaptureSpec,
    DataType,
    OutputMode,
    Plan,
    Reduction,
    ReductionKind,
    Segment,
    TensorType,
)
from onnxscope_server.errors import ModelInvalidError, ReductionInvalidError, RunFailedError
from onnxscope_server.plan.planner import plan as make_plan
from onnxscope_server.rewrite.build import build, build_segments
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.readings import read
from onnxscope_server.run.session import Session

_SMALL = settings(
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],  # a smaller model takes minutes to find
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
_X = np.array([0.5, -1.0, 2.0], np.float32)
_REDUCTIONS = (ReductionKind.MAX, ReductionKind.MEAN, ReductionKind.NORM, ReductionKind.FLATTEN)
Brought = dict[tuple[str, str], Any]
_OPENING = Opening(intra_op_threads=1)


def in_segments(model: CatalogModel, plan: Plan, piece_bytes: int = 1) -> tuple[Segment, ...]:
    """Builds a plan in as many segments as there may be."""
    with cut_everywhere(piece_bytes):
        return build_segments(model, plan)


def plan_for(model: CatalogModel, *selectors: str, **rest: Any) -> Plan:
    """Makes the plan of a spec."""
    return make_plan(model, CaptureSpec("model", selectors=selectors, **rest))


def brought(segments: Sequence[Segment], plan: Plan, feeds: Mapping[str, Any], **masks: Any) -> Brought:
    """Runs segments one after the other, each on what it says that it takes and no more; returns all they bring."""
    types = {capture.address: capture.type for capture in plan.captures}
    handles: dict[str, Any] = {}
    values: dict[str, Any] = {}
    found: Brought = {}
    for segment in segments:
        session = Session(segment, _OPENING, exact=plan.exact)
        given = {name: feeds[name] for name in segment.inputs if name in feeds}
        given |= {name: masks[mask] for mask, name in segment.masks.items()}
        given |= {name: handles[name] for name in segment.carried}
        made, handed = session.run_on(given, list(session.outputs), None, None, segment.handed)
        handles |= handed
        values |= made
        for kind, readings in (("activation", segment.captures), ("scaling", segment.scalings)):
            for address, reading in readings.items():
                assert (kind, address) not in found
                found[kind, address] = read(reading, values, types.get(address) if kind == "activation" else None)
        for name in segment.outputs:
            assert ("output", name) not in found
            found["output", name] = values[name]
        # what is read later is what was handed on
        values = {name: values[name] for name in handles}
    return found


def bits(value: Any) -> Any:
    """What two values are equal by."""
    if isinstance(value, list):
        return [bits(item) for item in value]
    return value if value is None else (value.dtype.str, value.shape, value.tobytes())


def check_same_bits(model: CatalogModel, plan: Plan, feeds: Mapping[str, Any], piece_bytes: int = 1) -> int:
    """Compares a plan in segments with the plan in one; returns into how many it was cut."""
    segments = in_segments(model, plan, piece_bytes)
    whole = build(model, plan)
    check_partition(segments, whole)
    one, many = brought([whole], plan, feeds), brought(segments, plan, feeds)
    assert {address for kind, address in many if kind == "activation"} == {item.address for item in plan.captures}
    assert {address for kind, address in many if kind == "scaling"} == set(plan.scalings)
    assert set(one) == set(many)
    assert {key: bits(value) for key, value in one.items()} == {key: bits(value) for key, value in many.items()}
    return len(segments)


def check_partition(segments: Sequence[Segment], whole: Segment) -> None:
    """Each node that depends on inputs is in one segment, and what crosses is an output of the whole graph too."""
    graph = onnx.load_from_string(whole.graph).graph
    pieces = [onnx.load_from_string(segment.graph).graph for segment in segments]
    exposed = [item.name for item in graph.output]
    assert Counter(item.name for piece in pieces for item in piece.output) == Counter(exposed)
    assert [name for segment in segments for name in segment.outputs] == sorted(
        whole.outputs, key=lambda name: next(at for at, segment in enumerate(segments) if name in segment.outputs)
    )
    made: set[str] = set()
    for segment, piece in zip(segments, pieces, strict=True):
        assert set(segment.carried) <= made
        assert set(segment.carried) <= set(exposed)
        assert set(segment.handed) <= {item.name for item in piece.output}
        made.update(segment.handed)
    wanted = Counter(node.SerializeToString(deterministic=True) for node in graph.node)
    found = Counter(node.SerializeToString(deterministic=True) for piece in pieces for node in piece.node)
    assert set(found) == set(wanted)
    varying = fed_by_inputs(graph)
    for node in graph.node:
        line = node.SerializeToString(deterministic=True)
        assert found[line] == wanted[line] or node.output[0] not in varying


def fed_by_inputs(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that depend on the graph's inputs; a body may read any value that it names."""
    known = {item.name for item in graph.input}
    for node in graph.node:
        if known.intersection(names_in(node)):
            known.update(node.output)
    return known


def names_in(node: onnx.NodeProto) -> Iterator[str]:
    """Yields all names that a node and its bodies read."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            yield from (item.name for item in body.output)
            for inner in body.node:
                yield from names_in(inner)


def runs(model: CatalogModel, plan: Plan) -> bool:
    """Tells whether onnxruntime takes a plan in one segment; some names and shapes that vary it does not."""
    try:
        brought([build(model, plan)], plan, {"x": _X})
    except (ModelInvalidError, RunFailedError, ReductionInvalidError):
        return False
    return True


@_SMALL
@given(proto=models(), exact=st.booleans(), piece_bytes=st.sampled_from([1, 30, 100]), data=st.data())
def test_control_flow_and_functions_give_the_same_bits(
    proto: onnx.ModelProto, exact: bool, piece_bytes: int, data: st.DataObject
) -> None:
    """Of what the main graph makes, of some values in bodies and functions, and with some of all those reduced."""
    model = CatalogModel.from_bytes(proto.SerializeToString())
    places = model.contents.places(expand=False)
    inner = [address for address, place in places.items() if place.path]
    chosen = set(data.draw(st.lists(st.sampled_from(inner), max_size=4))) if inner else set()
    plain = plan_for(model, *(address for address, place in places.items() if not place.path or address in chosen))
    plan = replace(plain, exact=exact, outputs=data.draw(st.sampled_from(OutputMode)))
    reducing = replace(plan, captures=tuple(replace(item, reduction=reduction(data, item)) for item in plan.captures))
    for one in (plan, reducing):
        if runs(model, one):
            event(f"{min(check_same_bits(model, one, {'x': _X}, piece_bytes), 5)} segments")
        else:
            event("does not run")


def reduction(data: st.DataObject, capture: Capture) -> Reduction | None:
    """Draws a reduction that fits a value, or none."""
    kind = data.draw(st.sampled_from([None, *_REDUCTIONS]))
    type_ = capture.type
    fits = isinstance(type_, TensorType) and type_.data_type is DataType.FLOAT32 and type_.shape
    return Reduction(kind, axis=None if kind is ReductionKind.FLATTEN else 0) if kind and fits else None


@_SMALL
@given(case=graphs(), condition=st.booleans(), exact=st.booleans())
def test_any_order_of_nodes_and_shared_weights_give_the_same_bits(case: Any, condition: bool, exact: bool) -> None:
    """Of inputs, weights and values that several nodes read, with nodes in any order and outputs anywhere."""
    proto, _, _, addresses = case
    model = CatalogModel.from_bytes(proto.SerializeToString())
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {name: rng.standard_normal((2, 3), dtype=np.float32) for name in ("x", "y")}
    plan = plan_for(model, *addresses, exact=exact)
    event(f"{min(check_same_bits(model, plan, feeds | {'condition': np.array(condition)}), 5)} segments")


def model_of(text: str, opset: int = 21) -> CatalogModel:
    """Makes a model from ONNX's text form."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]> g '
    return CatalogModel.from_bytes(parser.parse_model(head + text).SerializeToString())


def nodes_of(segment: Segment) -> list[str]:
    """Lists the first outputs of a segment's nodes."""
    return [node.output[0] for node in onnx.load_from_string(segment.graph).graph.node]


def test_quantised_values_and_their_scales_come_as_from_one_segment() -> None:
    """Stored and as real numbers, with scales that are constants, weights and computed."""
    model = model_of(
        """(float[4, 6] x) => (float[4, 6] y) <float s = {0.1}, uint8 z = {7}> {
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  r = Relu (d)
            q2, s2, z2 = DynamicQuantizeLinear (r)  d2 = DequantizeLinear (q2, s2, z2)
            q3 = QuantizeLinear (d2, s, z)  y = DequantizeLinear (q3, s, z) }"""
    )
    feeds = {"x": np.linspace(-1, 2, 24, dtype=np.float32).reshape(4, 6)}
    for dequantize in (False, True):
        for exact in (False, True):
            plan = plan_for(model, "*", exact=exact, dequantize=dequantize)
            assert plan.scalings
            assert check_same_bits(model, plan, feeds) > 2


def test_weights_that_only_some_segments_read_are_in_those() -> None:
    """And what constants alone say is in every segment that needs it, but is read from the first that has it."""
    model = model_of(
        """(float[2, 2] x) => (float[2, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {5, 6, 7, 8}> {
            k = Constant <value_float = 3.0> ()  kk = Neg (k)  a = MatMul (x, w)  b = Mul (a, kk)
            c = MatMul (b, v)  y = Mul (c, kk) }"""
    )
    plan = plan_for(model, "*", "w", "v", "k", "kk")
    segments = in_segments(model, plan)
    assert len(segments) == 4
    assert [name for segment in segments for name in nodes_of(segment) if name == "kk"] == ["kk"] * 3
    assert check_same_bits(model, plan, {"x": np.eye(2, dtype=np.float32)}) == 4


def test_sparse_weights_are_in_the_segments_that_read_them() -> None:
    """As dense ones are."""
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [2], [3.0, 4.0]),
        helper.make_tensor("places", TensorProto.INT64, [2], [0, 3]),
        [4],
    )
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["b"]),
         helper.make_node("Add", ["b", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        sparse_initializer=[sparse],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = CatalogModel.from_bytes(proto.SerializeToString())
    assert check_same_bits(model, plan_for(model, "*"), {"x": np.ones(4, np.float32)}) == 3


def test_chance_is_drawn_once() -> None:
    """A node that draws depends on nothing and is still in one segment only: all who read it get the same numbers."""
    model = model_of(
        """(float[3] x) => (float[3] y) {
            n = RandomNormal <shape = [3]> ()  a = Add (x, n)  b = Neg (a)  c = Sub (b, n)  y = Neg (c) }"""
    )
    plan = plan_for(model, "*", "n")
    segments = in_segments(model, plan)
    assert len(segments) > 1
    assert [name for segment in segments for name in nodes_of(segment)].count("n") == 1
    found = brought(segments, plan, {"x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(found["activation", "a"], 1 + found["activation", "n"])
    np.testing.assert_array_equal(found["activation", "c"], found["activation", "b"] - found["activation", "n"])


def test_chance_in_a_body_and_in_a_function_is_drawn_once() -> None:
    """Wherever the node that draws is."""
    model = CatalogModel.from_bytes(
        parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[3] x, bool t) => (float[3] y) {
                yes = Constant <value = bool {1}> ()
                n = If (yes) <then_branch = a () => (u) { u = RandomNormal <shape = [3]> () },
                              else_branch = b () => (v) { v = RandomNormal <shape = [3]> () }>
                m = f.draw ()
                a = Add (x, n)  b = Add (a, m)  c = Sub (b, n)  y = Sub (c, m) }
            <domain: "f", opset_import: ["" : 17]> draw () => (r) { r = RandomUniform <shape = [3]> () }"""
        ).SerializeToString()
    )
    plan = plan_for(model, "n", "m", "a", "b", "c", "y")
    segments = in_segments(model, plan)
    assert len(segments) > 1
    names = [name for segment in segments for name in nodes_of(segment)]
    assert (names.count("n"), names.count("m")) == (1, 1)


@pytest.mark.parametrize("asked", [(), ("r1", "r2"), ("c2", "y")])
def test_what_would_be_fused_is_not_cut_apart(asked: tuple[str, ...]) -> None:
    """Between nodes whose value nobody asked for lies no cut: only what is exposed anyway crosses."""
    model = model_of(
        """(float[1, 1, 8, 8] x) => (float[1, 1, 8, 8] y) <float[1, 1, 1, 1] w = {2}> {
            c1 = Conv (x, w)  r1 = Relu (c1)  c2 = Conv (r1, w)  r2 = Relu (c2)  c3 = Conv (r2, w)  y = Relu (c3) }"""
    )
    plan = plan_for(model, *(asked or ("y",)))
    segments = in_segments(model, plan)
    assert {name for segment in segments for name in segment.carried} == {*asked} - {"y"}
    check_same_bits(model, plan, {"x": np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8) - 30})


def test_a_cut_waits_until_nothing_else_crosses() -> None:
    """While a value that stays inside is still to be read, the graph is not cut, however much there is to send."""
    model = model_of(
        """(float[8] x) => (float[8] y) {
            hidden = Neg (x)  a = Abs (hidden)  b = Sqrt (a)  c = Add (b, hidden)  d = Neg (c)  y = Neg (d) }"""
    )
    first, *others = in_segments(model, plan_for(model, "a", "b", "c", "d", "y"))
    assert nodes_of(first) == ["hidden", "a", "b", "c"]
    assert [nodes_of(segment) for segment in others] == [["d"], ["y"]]
    check_same_bits(model, plan_for(model, "a", "b", "c", "d", "y"), {"x": np.ones(8, np.float32)})


def test_a_sequence_does_not_cross() -> None:
    """It stays in the segment that makes it, exposed or not."""
    model = model_of(
        """(float[3] x) => (float[3] y) {
            a = Neg (x)  s = SequenceConstruct (a, x)  b = Abs (a)  i = Constant <value_int = 1> ()
            c = SequenceAt (s, i)  d = Add (b, c)  y = Neg (d) }"""
    )
    plan = plan_for(model, "*")
    segments = in_segments(model, plan)
    assert len(segments) == 4
    assert not any("s" in segment.carried for segment in segments)
    check_same_bits(model, plan, {"x": np.ones(3, np.float32)})


@pytest.mark.parametrize("declared", ["string[N] t", "seq(float[3]) t", "optional(float[3]) t"])
def test_a_model_that_takes_more_than_tensors_of_numbers_stays_whole(declared: str) -> None:
    """Onnxruntime runs it in another way, which does not hand values over."""
    model = model_of(f"(float[3] x, {declared}) => (float[3] y, u) {{ a = Neg (x)  y = Abs (a)  u = Identity (t) }}")
    assert len(in_segments(model, plan_for(model, "*"))) == 1


def test_a_mask_goes_where_it_is_used() -> None:
    """To the segments that reduce with it, and it is the same value there."""
    model = model_of("(float[2, 3, 4] x) => (float[2, 3, 4] y) { a = Neg (x)  b = Abs (a)  c = Sqrt (b)  y = Neg (c) }")
    reducing = {"b": Reduction(ReductionKind.MEAN, mask_value="m"), "y": Reduction(ReductionKind.LAST, mask_value="m")}
    plan = plan_for(model, "a", "b", "c", "y", outputs=OutputMode.NONE)
    plan = replace(plan, captures=tuple(replace(one, reduction=reducing.get(one.address)) for one in plan.captures))
    segments, whole = in_segments(model, plan), build(model, plan)
    check_partition(segments, whole)
    assert len(segments) > 2
    assert 0 < sum(bool(segment.masks) for segment in segments) < len(segments)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    one, many = (brought(some, plan, {"x": x}, m=mask) for some in ([whole], segments))
    assert {key: bits(value) for key, value in one.items()} == {key: bits(value) for key, value in many.items()}


def test_a_reduction_leaves_with_what_it_reduces() -> None:
    """It doesn't wait for the end, where rewriting put it: the last segment is the last of the model's own nodes."""
    lines = "".join(f"v{index} = Neg (v{index - 1})  " for index in range(1, 6))
    model = model_of(f"(float[2, 3, 4] x) => (float[2, 3, 4] y) {{ v0 = Abs (x)  {lines} y = Neg (v5) }}")
    plan = plan_for(model, *(f"v{index}" for index in range(6)), outputs=OutputMode.INSTRUMENTED)
    first, *_ = plan.captures
    plan = replace(plan, captures=(replace(first, reduction=Reduction(ReductionKind.MEAN)), *plan.captures[1:]))
    segments = in_segments(model, plan)
    at = next(index for index, segment in enumerate(segments) if "v0" in segment.captures)
    assert at < len(segments) - 1


def test_a_plan_with_little_to_send_stays_in_one_segment(digits_path: Any) -> None:
    """With the constants as they are: little is less than 8 MiB of a row."""
    model = CatalogModel.from_bytes(digits_path.read_bytes())
    assert len(build_segments(model, plan_for(model, "*"))) == 1
    assert len(in_segments(model, plan_for(model, "*"))) > 1


@pytest.mark.parametrize(("values", "count"), [(7, 1), (64, 8)])
def test_much_to_send_is_cut_and_the_first_piece_is_small(values: int, count: int) -> None:
    """With the constants as they are; values of 1 MiB, 7 of them less than is cut at all."""
    lines = "".join(f"v{index} = Neg (v{index - 1})  " for index in range(1, values))
    model = model_of(f"(float[262144] x) => (float[262144] y) {{ v0 = Abs (x)  {lines} y = Neg (v{values - 1}) }}")
    plan = plan_for(model, *(f"v{index}" for index in range(values)), outputs=OutputMode.NONE)
    segments = build_segments(model, plan)
    assert len(segments) >= count
    assert (len(segments) == 1) == (count == 1)
    if count > 1:
        assert len(segments[0].captures) <= len(segments[1].captures)
        assert len(segments) <= 128


def test_a_plan_that_is_to_stay_whole_does() -> None:
    """And one that relies on no shapes."""
    model = model_of("(float[3] x) => (float[3] y) { a = Neg (x)  b = Abs (a)  y = Neg (b) }")
    plan = plan_for(model, "*")
    assert len(in_segments(model, plan)) == 3
    assert len(in_segments(model, replace(plan, whole=True))) == 1
    assert len(in_segments(model, replace(plan, varying=True))) == 1


def test_functions_that_call_functions_go_where_they_are_called() -> None:
    """A segment has the functions that its nodes call, directly or through others and in bodies, and no more."""
    text = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[3] x, bool t) => (float[3] y) {
            a = f.outer (x)  b = Neg (a)
            c = If (t) <then_branch = p () => (u) { u = f.inner (b) }, else_branch = q () => (v) { v = Neg (b) }>
            y = Neg (c) }
        <domain: "f", opset_import: ["" : 17, "f" : 1]> outer (p) => (r) { s = f.inner (p)  r = Neg (s) }
        <domain: "f", opset_import: ["" : 17]> inner (p) => (r) { r = Abs (p) }"""
    model = CatalogModel.from_bytes(parser.parse_model(text).SerializeToString())
    plan = plan_for(model, "a", "b", "c", "y")
    segments = in_segments(model, plan)
    named = [{item.name for item in onnx.load_from_string(segment.graph).functions} for segment in segments]
    assert named == [{"outer", "inner"}, set(), {"inner"}, set()]
    feeds: dict[str, Any] = {"x": _X, "t": np.array(True)}
    assert check_same_bits(model, plan, feeds) == 4
    assert check_same_bits(model, plan_for(model, *model.contents.places(expand=False)), feeds) > 1
