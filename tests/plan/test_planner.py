"""From a spec to a plan, and what it costs."""

from __future__ import annotations

import pytest

from onnxscope_server.domain import CaptureSpec, DataType, OutputMode, Reduction, ReductionKind, TensorType
from onnxscope_server.errors import HookPointNotFoundError, InputMismatchError, ReductionInvalidError
from onnxscope_server.plan.cost import cost
from onnxscope_server.plan.planner import plan

MEAN, NORM = Reduction(ReductionKind.MEAN), Reduction(ReductionKind.NORM)


def spec(*selectors, **asked):
    """Makes a spec."""
    return CaptureSpec("encoder", selectors=selectors, **asked)


def test_of_several_rules_the_last_wins(encoder):
    """A rule's pattern takes everything that was captured, constants too; types are those after reduction."""
    made = plan(encoder, spec("scores", "h", "c", reductions=(("*", NORM), ("scores", MEAN))))
    assert [(capture.address, capture.reduction, capture.type.shape) for capture in made.captures] == [
        ("scores", MEAN, ("row", 2)),
        ("h", NORM, ("row", "position")),
        ("c", NORM, (4,)),
    ]


def test_equal_plans_are_equal_and_hashable(encoder):
    """Sessions are shared by plan."""
    one = plan(encoder, spec("h", reductions=(("h", MEAN),)))
    two = plan(encoder, spec("h", reductions=(("*", NORM), ("h", MEAN))))
    assert one == two
    assert len({one, two}) == 1


def test_no_selectors_capture_nothing(encoder):
    """Then only the outputs are asked for."""
    assert plan(encoder, spec()).captures == ()


def test_a_rule_for_nothing_that_is_captured_is_an_error(encoder):
    """A reduction that would silently not apply says so."""
    with pytest.raises(HookPointNotFoundError, match=r"none of the captured hook points \(h\)"):
        plan(encoder, spec("h", reductions=(("scores", MEAN),)))


def test_a_mask_must_be_an_input(encoder):
    """The error lists the inputs."""
    masked = Reduction(ReductionKind.MEAN, mask_input="attention_mask")
    with pytest.raises(ReductionInvalidError, match="Its inputs are bias, mask, words"):
        plan(encoder, spec("h", reductions=(("h", masked),)))
    assert plan(encoder, spec("h", reductions=(("h", Reduction(ReductionKind.MEAN, mask_input="mask")),)))


def test_cost_counts_bytes_with_shapes_bound(encoder):
    """Known sizes are counted as they are on the wire; unknown ones are None."""
    made = plan(encoder, spec("h", "scores", "words", reductions=(("scores", MEAN),)))
    bound = cost(encoder, made, {"words": (2, 5)}, 4)
    assert [(value.name, value.is_output, value.byte_count) for value in bound.values] == [
        ("h", False, 2 * 5 * 4 * 4),
        ("scores", False, 2 * 2 * 4),
        ("words", False, 2 * 5 * 8),
        ("y", True, 2 * 5 * 2 * 4),
        ("tag", True, None),
    ]
    assert (bound.node_count, bound.model_node_count, bound.unknown_count) == (4, 5, 1)
    unbound = cost(encoder, made, {}, 4)
    assert unbound.unknown_count == 5
    assert unbound.values[0].type == TensorType(DataType.FLOAT32, ("row", "position", 4))


def test_a_mask_makes_the_count_of_positions_unknown(encoder):
    """How many it keeps is known only when it runs."""
    rule = ("h", Reduction(ReductionKind.POSITIONS, mask_value="m"))
    made = plan(encoder, spec("h", reductions=(rule,), outputs=OutputMode.NONE))
    (value,) = cost(encoder, made, {"words": (2, 5)}, 1).values
    assert value.byte_count is None
    assert value.type == TensorType(DataType.FLOAT32, (None, 4))


def test_cost_refuses_shapes_of_unknown_inputs(encoder):
    """The error lists the inputs."""
    with pytest.raises(InputMismatchError, match=r"no input 'x'.*words: int64 \[row, position\]"):
        cost(encoder, plan(encoder, spec("h")), {"x": (1,)}, 1)
