"""Parts of operators over the whole way: listed, planned, captured, reduced and streamed with expand=True."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import onnxscope

X = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
PARTS = ["soft::expand::X_ReduceMax", "soft::expand::X_Sub", "soft::expand::X_Exp", "soft::expand::X_ReduceSum"]


@pytest.fixture
def model(scope: Any, parsed: Any) -> Any:
    """Gives x [row, 5] -> h = 2x -> y = softmax(h)."""
    return scope.load(
        parsed(
            """<ir_version: 9, opset_import: ["" : 18]>
            g (float[row, 5] x) => (float[row, 5] y) <float two = {2.0}>
            { h = Mul(x, two)  [soft] y = Softmax(h) }"""
        )
    )


def test_parts_are_listed_where_asked_for(model: Any) -> None:
    """With expand=True `*` has the parts, in the order of computation, with types and rows."""
    assert [point.address for point in model.hook_points()] == ["h", "y"]
    points = model.hook_points(expand=True)
    assert [point.address for point in points] == ["h", *PARTS, "y"]
    assert {point.kind for point in points[1:-1]} == {"activation"}
    assert {point.batch_axis for point in points} == {0}
    assert points[1].shape == ("row", 1)
    assert [point.address for point in model.hook_points("op:Exp", expand=True)] == [PARTS[2]]


def test_parts_are_captured_beside_the_operator(model: Any) -> None:
    """The parts are the operator's; the outputs are the unmodified model's."""
    acts = model.capture(X, at="*", expand=True)
    assert list(acts) == ["h", *PARTS, "y"]
    np.testing.assert_allclose(acts[PARTS[2]] / acts[PARTS[3]], acts["y"], atol=1e-6)
    np.testing.assert_array_equal(acts.outputs["y"], model.run(X).outputs["y"])


def test_parts_are_hook_points_like_any_other(model: Any) -> None:
    """Planned in bytes, reduced, exact, and streamed with padding."""
    assert model.plan(X, at=PARTS, expand=True, outputs=False).known_byte_count == 4 * (3 + 15 + 15 + 3)
    reduced = model.capture(X, at=PARTS[2], expand=True, reduce=onnxscope.reduce.index(1, 0), exact=True)
    np.testing.assert_allclose(reduced[PARTS[2]], np.exp(2 * X - 2 * X.max(1, keepdims=True))[:, 0], atol=1e-6)
    batches = list(model.stream(X, at=PARTS[3], expand=True, batch_size=2))
    assert [acts[PARTS[3]].shape for acts in batches] == [(2, 1), (1, 1)]


def test_a_part_without_expand_says_what_to_do(model: Any) -> None:
    """The address of a part is no hook point otherwise; the error says expand=True."""
    with pytest.raises(onnxscope.HookPointNotFoundError, match="expand=True"):
        model.capture(X, at=PARTS[0])
    with pytest.raises(onnxscope.HookPointNotFoundError, match="X_Exp"):
        model.capture(X, at="soft::expand::X_Exq", expand=True)
