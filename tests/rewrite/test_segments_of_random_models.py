"""Whatever is in a model and wherever its plan is cut: the segments give the same bits as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from tests.conformance.random_models import models
from tests.rewrite.cut_plans import X, brought, check_same_bits, plan_for
from tests.rewrite.random_graphs import models as graphs

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Capture, DataType, OutputMode, Plan, Reduction, ReductionKind, TensorType
from onnxscope_server.errors import ModelInvalidError, ReductionInvalidError, RunFailedError
from onnxscope_server.rewrite.build import build

_SMALL = settings(
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],  # a smaller model takes minutes to find
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
_REDUCTIONS = (ReductionKind.MAX, ReductionKind.MEAN, ReductionKind.NORM, ReductionKind.FLATTEN)


def runs(model: CatalogModel, plan: Plan) -> bool:
    """Tells whether onnxruntime takes a plan in one segment; some names and shapes that vary it does not."""
    try:
        brought([build(model, plan)], plan, {"x": X})
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
            event(f"{min(check_same_bits(model, one, {'x': X}, piece_bytes), 5)} segments")
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
