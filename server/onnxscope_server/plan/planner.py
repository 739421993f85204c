"""From a spec to a plan."""

from __future__ import annotations

from collections.abc import Sequence

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Capture, CaptureSpec, HookPoint, Plan, Reduction
from onnxscope_server.errors import HookPointNotFoundError, ReductionInvalidError
from onnxscope_server.plan.reductions import reduced
from onnxscope_server.plan.selectors import matching, select

_SHOWN = 5


def plan(model: CatalogModel, spec: CaptureSpec) -> Plan:
    """Resolves what a call asks against a model.

    Args:
        model: the model that the spec names.
        spec: what is asked.

    Returns:
        The plan; its captures are in the order of the selectors.

    Raises:
        HookPointNotFoundError: a selector matches nothing, or a reduction's selector none of what is captured.
        SelectorInvalidError: a selector cannot be read.
        ReductionInvalidError: a reduction does not fit a hook point.
    """
    points = select(model.points(expand=spec.expand), spec.selectors) if spec.selectors else ()
    chosen = _reductions(points, spec.reductions)
    inputs = {item.name for item in (*model.inputs, *model.optional_inputs)}
    captures = []
    for point in points:
        reduction = chosen.get(point.address)
        if reduction is not None and reduction.mask_input is not None and reduction.mask_input not in inputs:
            raise ReductionInvalidError(
                f"The mask {reduction.mask_input!r} of {reduction.kind.value!r} is no input of the model. Its inputs "
                f"are {', '.join(sorted(inputs))}; a mask of your own goes in as an array.",
                address=point.address,
                reduction=reduction.kind.value,
            )
        type_ = point.type if reduction is None else reduced(point.address, reduction, point.type)
        captures.append(Capture(point.address, reduction, type_))
    plain = {point.address for point in model.hook_points} if spec.expand else ()
    expand = spec.expand and any(capture.address not in plain for capture in captures)
    return Plan(model.digest, tuple(captures), spec.outputs, spec.exact, expand)


def _reductions(points: Sequence[HookPoint], rules: Sequence[tuple[str, Reduction]]) -> dict[str, Reduction]:
    """Returns the reduction of each address that has one; of several rules the last wins."""
    chosen: dict[str, Reduction] = {}
    for selector, reduction in rules:
        found = matching(points, selector, every_kind=True)
        if not found:
            captured = ", ".join(point.address for point in points[:_SHOWN]) or "there are none"
            more = ", ..." if len(points) > _SHOWN else ""
            raise HookPointNotFoundError(
                f"The reduction {reduction.kind.value!r} is for {selector!r}, which is none of the captured hook "
                f"points ({captured}{more}).",
                selector=selector,
                closest=captured,
            )
        for point in found:
            chosen[point.address] = reduction
    return chosen
