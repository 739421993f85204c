"""Where a plan is cut, and where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.rewrite.cut_plans import check_same_bits, in_segments, model_of, nodes_of, plan_for

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import OutputMode, Reduction, ReductionKind
from onnxscope_server.rewrite.build import build_segments


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


@pytest.mark.parametrize(("values", "count"), [(7, 1), (64, 6), (300, 18)])
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
