"""From a spec to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxscope_server.catalog.description import HookPoint
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probe_entry import ProbeEntry
from onnxscope_server.catalog.value_types import of_one_iteration, over_iterations
from onnxscope_server.domain import Capture, CaptureSpec, Plan, Quantization, Reduction, TensorType, ValueType
from onnxscope_server.errors import HookPointNotFoundError, ReductionInvalidError
from onnxscope_server.plan.probes import planned_probes
from onnxscope_server.plan.reductions import reduced
from onnxscope_server.plan.selectors import matching, select

_SHOWN = 5


def plan(model: CatalogModel, spec: CaptureSpec, probes: Sequence[ProbeEntry] = ()) -> Plan:
    """Resolves what a call asks against a model.

    Args:
        model: the model that the spec names.
        spec: what is asked.
        probes: those that it names.

    Returns:
        The plan; its captures are in the order of the selectors.

    Raises:
        HookPointNotFoundError: a selector matches nothing, or a reduction's selector none of what is captured.
        SelectorInvalidError: a selector cannot be read.
        ReductionInvalidError: a reduction does not fit a hook point.
        ProbeInvalidError: a probe does not fit the hook point that it reads.
    """
    points = select(model.points(expand=spec.expand), spec.selectors) if spec.selectors else ()
    chosen = _reductions(points, spec.reductions)
    inputs = {item.name for item in (*model.inputs, *model.optional_inputs)}
    captures = []
    places = model.contents.places(expand=spec.expand)
    quantizations = _quantizations(model, points, expand=spec.expand)
    types = {point.address: point.type for point in model.hook_points} if quantizations else {}
    for point in points:
        reduction = chosen.get(point.address)
        if reduction is not None and reduction.mask_input is not None and reduction.mask_input not in inputs:
            raise ReductionInvalidError(
                f"The mask {reduction.mask_input!r} of {reduction.kind.value!r} is no input of the model. Its inputs "
                f"are {', '.join(sorted(inputs))}; a mask of your own goes in as an array.",
                address=point.address,
                reduction=reduction.kind.value,
            )
        quantization = quantizations.get(point.address)
        type_ = point.type
        if spec.dequantize and quantization is not None:
            type_ = _real(type_, types.get(quantization.scale))
        if reduction is not None:
            repeats = places[point.address].repeats
            type_ = over_iterations(reduced(point.address, reduction, of_one_iteration(type_, repeats)), repeats)
        captures.append(Capture(point.address, reduction, type_, quantization))
    plain = {point.address for point in model.hook_points} if spec.expand else ()
    expand = spec.expand and any(capture.address not in plain for capture in captures)
    dequantize = spec.dequantize and bool(quantizations)
    return Plan(
        model.digest,
        tuple(captures),
        spec.outputs,
        spec.exact,
        expand,
        dequantize,
        probes=planned_probes(model, probes),
    )


def _quantizations(model: CatalogModel, points: Sequence[HookPoint], *, expand: bool) -> dict[str, Quantization]:
    """Returns how those of the hook points are quantised that are."""
    scalings = model.contents.scalings
    if not scalings:
        return {}
    places = model.contents.places(expand=expand)
    addresses = {place: address for address, place in places.items()}
    found = {}
    for point in points:
        scaling = scalings.get(places[point.address])
        if scaling is not None:
            zero_point = None if scaling.zero_point is None else addresses[scaling.zero_point]
            scale = addresses[scaling.scale]
            found[point.address] = Quantization(scale, zero_point, scaling.axis, scaling.block_size)
    return found


def _real(type_: ValueType | None, scale: ValueType | None) -> ValueType | None:
    """Returns the type of a dequantised value: that of its scale, in its own shape."""
    if not isinstance(type_, TensorType) or not isinstance(scale, TensorType):
        return None
    return replace(type_, data_type=scale.data_type)


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
