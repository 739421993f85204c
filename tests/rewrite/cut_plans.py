"""Plans that are cut into segments, run one after the other and compared with the plan in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import parser
from tests.cut_everywhere import cut_everywhere

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import CaptureSpec, Plan, Segment
from onnxscope_server.plan.planner import plan as make_plan
from onnxscope_server.rewrite.build import build, build_segments
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.readings import read
from onnxscope_server.run.session import Session

X = np.array([0.5, -1.0, 2.0], np.float32)
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


def model_of(text: str, opset: int = 21) -> CatalogModel:
    """Makes a model from ONNX's text form."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]> g '
    return CatalogModel.from_bytes(parser.parse_model(head + text).SerializeToString())


def nodes_of(segment: Segment) -> list[str]:
    """Lists the first outputs of a segment's nodes."""
    return [node.output[0] for node in onnx.load_from_string(segment.graph).graph.node]
