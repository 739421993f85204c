"""Reductions as callers write them and as they are sent."""

from __future__ import annotations

import numpy as np
import pytest

import onnxscope
from onnxscope import reduce
from onnxscope.v1 import capture_service_pb2 as pb


def test_kinds_are_those_of_the_proto():
    """Every kind has a name here, and the other way round."""
    known = {name.removeprefix("REDUCTION_KIND_").lower() for name in pb.ReductionKind.DESCRIPTOR.values_by_name}
    assert set(reduce.KINDS) == known - {"unspecified"}
    assert all(callable(getattr(reduce, kind)) for kind in reduce.KINDS)


@pytest.mark.parametrize("kind", [kind for kind in reduce.KINDS if kind not in {"index", "topk"}])
def test_a_name_alone_is_a_reduction(kind):
    """All that need no parameters, as strings and as calls."""
    message = reduce.to_message(reduce.of(kind), "")
    assert message == reduce.to_message(getattr(reduce, kind)(), "")
    assert message == pb.Reduction(kind=f"REDUCTION_KIND_{kind.upper()}")


def test_parameters_arrive():
    """Axis 0 is not the same as no axis."""
    assert reduce.to_message(reduce.index(0, -1), "") == pb.Reduction(kind="REDUCTION_KIND_INDEX", axis=0, index=-1)
    assert reduce.to_message(reduce.topk(5), "") == pb.Reduction(kind="REDUCTION_KIND_TOPK", top_count=5)
    assert reduce.to_message(reduce.mean(axis=1, mask="m"), "").mask_input == "m"
    assert reduce.to_message(reduce.last(mask=[[1, 0]]), "mask_0").mask_value == "mask_0"


@pytest.mark.parametrize("wrong", ["median", 3, None, "index", "topk", ["mean"]])
def test_what_is_no_reduction_is_refused(wrong):
    """The message lists what there is, or which function to call."""
    with pytest.raises(onnxscope.ReductionInvalidError, match="use"):
        reduce.of(wrong)


def test_parameters_without_meaning_are_refused():
    """Here, where they are written."""
    with pytest.raises(onnxscope.ReductionInvalidError, match="at least 1"):
        reduce.topk(0)
    for mask in (np.ones(3), np.array([["a"]])):
        with pytest.raises(onnxscope.ReductionInvalidError, match="matrix"):
            reduce.mean(mask=mask)


def test_rules():
    """A reduction alone is for all that is captured; a dict keeps its order."""
    assert reduce.rules(None, ["h"]) == []
    assert reduce.rules("mean", []) == []
    assert [(s, r.kind) for s, r in reduce.rules("mean", ["h", "!g"])] == [("*", "mean")]
    both = reduce.rules({"*": "mean", "h": reduce.topk(2)}, ["h"])
    assert [(s, r.kind) for s, r in both] == [("*", "mean"), ("h", "topk")]
