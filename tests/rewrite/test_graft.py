"""Probes in the graph: what is added, what stays, and what is known of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from tests.cut_everywhere import cut_everywhere
from tests.served_probes import Linear

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probe_entry import as_model, described
from onnxscope_server.domain import OutputMode, Plan, Reduction, ReductionKind, RowAxis, Segment
from onnxscope_server.plan.probes import planned_probes
from onnxscope_server.probe_domain import ProbeInfo, ProbeKind, Task
from onnxscope_server.rewrite.build import build, build_segments
from onnxscope_server.rewrite.rows import MixedRowsError, row_axes

CHAIN = """<ir_version: 8, opset_import: ["" : 17]> chain (float[row, 4] x) => (float[row, 4] y) {
    weights = Neg (x)  h = Tanh (weights)  scores = Abs (h)  y = Neg (scores) }"""
MEAN = Reduction(ReductionKind.MEAN)


def grafted(
    model: CatalogModel,
    *probes: tuple[str, str, bytes, Reduction | None],
    outputs: OutputMode = OutputMode.NONE,
    cut: bool = False,
) -> tuple[Segment, ...]:
    """Builds a model with probes: name, address, file, reduction."""
    entries = [
        described(
            as_model(data, name),
            data,
            ProbeInfo(name, model.digest, address, reduction, ProbeKind.ONNX, Task.UNSUPERVISED),
        )
        for name, address, data, reduction in probes
    ]
    plan = Plan(model.digest, (), outputs, exact=False, probes=planned_probes(model, entries))
    files = {entry.digest: data for entry, (_, _, data, _) in zip(entries, probes, strict=True)}
    return build_segments(model, plan, files) if cut else (build(model, plan, files),)


def test_names_of_a_probe_meet_none_of_the_model(model_of: Any, run: Any) -> None:
    """Both have values named weights, scores and x; the probe's are new, and so are those of another probe."""
    model, linear = model_of(CHAIN), Linear.drawn(4)
    (segment,) = grafted(
        model, ("a", "h", linear.onnx(), None), ("b", "h", linear.onnx(), None), outputs=OutputMode.UNMODIFIED
    )
    x = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
    values = run(segment, {"x": x})
    labels, scores = linear.says(np.tanh(-x))
    for name in "ab":
        np.testing.assert_array_equal(values[segment.probes[f"{name}::labels"].name], labels)
        np.testing.assert_allclose(values[segment.probes[f"{name}::scores"].name], scores, rtol=1e-5)
    np.testing.assert_allclose(values["y"], -np.abs(np.tanh(-x)), rtol=1e-6)


def test_what_two_probes_read_is_reduced_once(model_of: Any) -> None:
    """The same reduction at the same place, for probes and for a capture."""
    model = model_of(CHAIN.replace("float[row, 4]", "float[row, position, 4]"))
    linear = Linear.drawn(4)
    (segment,) = grafted(model, ("a", "h", linear.onnx(), MEAN), ("b", "h", Linear.drawn(4, seed=1).onnx(), MEAN))
    nodes = onnx.ModelProto.FromString(segment.graph).graph.node
    assert sum(node.op_type == "ReduceMean" for node in nodes) == 1
    assert [node.op_type for node in nodes if node.op_type in ("Neg", "Tanh", "Abs")] == ["Neg", "Tanh"]


def test_rows_of_a_linear_probe_are_known_to_be_apart(model_of: Any) -> None:
    """So that requests with it run together."""
    (segment,) = grafted(model_of(CHAIN), ("a", "h", Linear.drawn(4).onnx(), None), outputs=OutputMode.UNMODIFIED)
    axes = row_axes(segment, {"x": (4,)})
    assert {axes[reading.name] for reading in segment.probes.values()} == {RowAxis(0, 1)}


@pytest.mark.parametrize(
    "nodes",
    ["m = ReduceMean <axes = [0]> (x)  y = Sub (x, m)", "k = Constant <value = int64 {0}> ()  y = CumSum (x, k)"],
)
def test_a_probe_that_mixes_rows_runs_alone(model_of: Any, nodes: str) -> None:
    """A mean over rows, and a sum of those before."""
    head = '<ir_version: 8, opset_import: ["" : 17]> p (float[n, 4] x) => (float[n, 4] y)'
    data = parser.parse_model(f"{head} {{ {nodes} }}").SerializeToString()
    (segment,) = grafted(model_of(CHAIN), ("a", "h", data, None))
    with pytest.raises(MixedRowsError):
        row_axes(segment, {"x": (4,)})


def test_segments_together_read_what_the_whole_does(model_of: Any) -> None:
    """Each probe in one of them."""
    model, linear = model_of(CHAIN), Linear.drawn(4).onnx()
    probes = (("a", "weights", linear, None), ("b", "scores", linear, None))
    with cut_everywhere():
        segments = grafted(model, *probes, outputs=OutputMode.INSTRUMENTED, cut=True)
    (whole,) = grafted(model, *probes, outputs=OutputMode.INSTRUMENTED)
    assert {name: reading for segment in segments for name, reading in segment.probes.items()} == whole.probes


def test_a_probe_with_a_body_takes_it_along(model_of: Any, run: Any) -> None:
    """An If inside of a probe reads the probe's own values, under their new names."""
    data = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> p (float[n, 4] x) => (float[n, 4] y)
        <float zero = {0}> {
            h = ReduceSum <keepdims = 0> (x)  c = Greater (h, zero)
            y = If (c) <then_branch = a () => (float[n, 4] u) { u = Neg (x) },
                        else_branch = b () => (float[n, 4] v) { t = Add (x, x)  v = Identity (t) }> }"""
    ).SerializeToString()
    (segment,) = grafted(model_of(CHAIN), ("p", "h", data, None))
    for x in (np.ones((2, 4), np.float32), -np.ones((2, 4), np.float32)):
        h = np.tanh(-x)
        found = run(segment, {"x": x})[segment.probes["p::y"].name]
        np.testing.assert_allclose(found, -h if h.sum() > 0 else 2 * h, rtol=1e-6)
