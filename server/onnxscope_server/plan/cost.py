"""What a plan brings, in bytes, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.value_types import of_one_iteration, over_iterations
from onnxscope_server.cost_domain import PlanCost, PlannedValue
from onnxscope_server.domain import OutputMode, Plan, TensorType, ValueType
from onnxscope_server.errors import InputMismatchError
from onnxscope_server.plan.element_types import byte_count
from onnxscope_server.plan.inputs import described
from onnxscope_server.plan.reductions import reduced


def cost(model: CatalogModel, plan: Plan, input_shapes: Mapping[str, tuple[int, ...]], node_count: int) -> PlanCost:
    """Says what a plan brings.

    Args:
        model: the model that the plan was made for.
        plan: what is asked.
        input_shapes: number of elements along every axis, by input; sizes that depend on others stay unknown.
        node_count: nodes of the rewritten graph.

    Returns:
        The activations in the plan's order, then the outputs.

    Raises:
        InputMismatchError: a shape is for an input that the model does not have.
        ReductionInvalidError: with these shapes a reduction does not fit.
    """
    known = {spec.name for spec in (*model.inputs, *model.optional_inputs)}
    for name in input_shapes:
        if name not in known:
            raise InputMismatchError(
                f"The model has no input {name!r}. {described(model)}",
                input=name,
                expected=", ".join(sorted(known)),
                got=name,
            )
    types = model.typed(input_shapes, expand=plan.expand)
    values = []
    places = model.contents.places(expand=plan.expand)
    for capture in plan.captures:
        type_ = types.get(capture.address)
        scale = types.get(capture.quantization.scale) if plan.dequantize and capture.quantization else None
        if isinstance(type_, TensorType) and isinstance(scale, TensorType):
            type_ = replace(type_, data_type=scale.data_type)
        if capture.reduction is not None:
            repeats = places[capture.address].repeats
            type_ = of_one_iteration(type_, repeats)
            type_ = over_iterations(reduced(capture.address, capture.reduction, type_), repeats)
        values.append(PlannedValue(capture.address, False, type_, bytes_of(type_), capture.quantization))
    if plan.outputs is not OutputMode.NONE:
        for spec in model.outputs:
            type_ = types.get(spec.name, spec.type)
            values.append(PlannedValue(spec.name, True, type_, bytes_of(type_)))
    return PlanCost(tuple(values), node_count, model.node_count, plan.probes)


def bytes_of(type_: ValueType | None) -> int | None:
    """Returns the size of a value of this type; None where it is not known."""
    if not isinstance(type_, TensorType) or type_.shape is None or type_.sparse:
        return None
    sizes = [size for size in type_.shape if isinstance(size, int)]
    if len(sizes) < len(type_.shape):
        return None
    return byte_count(type_.data_type, math.prod(sizes))
