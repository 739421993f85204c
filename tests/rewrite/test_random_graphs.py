"""Whatever is exposed in whatever graph: outputs stay, activations are right, and only what is needed is left."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from tests.rewrite.random_graphs import SHAPE, models

from onnxscope_server.domain import OutputMode
from onnxscope_server.rewrite.build import build, unmodified


def free_names(graph):
    """Names that a body reads and does not define."""
    own = {name for node in graph.node for name in node.output}
    return {name for node in graph.node for name in names_read(node)} - own


def names_read(node):
    """Names that a node reads, itself and in its branches."""
    read = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            read |= free_names(attribute.g)
    return read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=models(), seed=st.integers(0, 1000), condition=st.booleans())
def test_watching_changes_nothing_and_sees_everything(case, seed, condition, model_of, plan_of, run):
    """Outputs are bit-equal to the plain model's, activations to the reference's, and no node is idle."""
    proto, ordered, outputs, addresses = case
    rng = np.random.default_rng(seed)
    feeds = {name: rng.standard_normal(SHAPE).astype(np.float32) for name in ("x", "y")}
    feeds["condition"] = np.array(condition)
    evaluator = ReferenceEvaluator(ordered)
    expected = dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    expected |= feeds | {"w": numpy_helper.to_array(ordered.graph.initializer[0])}

    model = model_of(proto)
    before = bytes(model.graph_bytes)
    plain = run(unmodified(model), feeds, exact=True)
    for mode in (OutputMode.UNMODIFIED, OutputMode.NONE):
        segment = build(model, plan_of(*addresses, outputs=mode))
        values = run(segment, feeds, exact=True)
        assert segment.outputs == (tuple(outputs) if mode is OutputMode.UNMODIFIED else ())
        for name in segment.outputs:
            assert values[name].tobytes() == plain[name].tobytes()
        for address in addresses:
            np.testing.assert_array_equal(values[segment.captures[address]], expected[address])
        graph = onnx.load_from_string(segment.graph).graph
        wanted = {item.name for item in graph.output}.union(*map(names_read, graph.node))
        assert all(wanted.intersection(node.output) for node in graph.node)
        assert {item.name for item in (*graph.initializer, *graph.input)} <= wanted
        assert segment.node_count == len(graph.node)
    assert model.graph_bytes == before
