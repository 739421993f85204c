"""The pass that grafts reductions on to values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import onnx_ir as ir

from onnxscope_server.catalog.scopes import Place
from onnxscope_server.domain import DataType, Reduction, TensorType, ValueType
from onnxscope_server.rewrite.element_types import opset_needed
from onnxscope_server.rewrite.fragment import Fragment
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.opset import opset_of
from onnxscope_server.rewrite.reductions import MASKED, REDUCERS
from onnxscope_server.rewrite.scopes import holder_at, values_by_name
from onnxscope_server.rewrite.subject import Subject, invalid

# an address, what is done to its value, and where that is
Reduced: TypeAlias = tuple[str, Reduction, Place]
_OLDEST_OPSET = 7
_OLDEST_MASKED_OPSET = 9


class Reduce(ir.passes.InPlacePass):
    """Grafts a reduction on to each of some values, in the graph that the value is in.

    - Without a mask a reduction is an operator or two.

          Before:  x -> MatMul -> h -> Relu -> y
          After:   x -> MatMul -> h -> Relu -> y
                   h -> ReduceMean -> h::mean

    - A mask is a model input, or an input that is added: bool [row, position], one for each name.

          Before:  x -> MatMul -> h                      inputs: x
          After:   x -> MatMul -> h                      inputs: x, mask::words
                   h, mask::words -> Where -> ReduceSum -> Div -> h::mean

    The operators are written as the model's opset has them.

    Args:
        reductions: what to do to which values, and their types as far as they are known.

    Attributes:
        reduced: where each reduced value is, after the call.
        masks: the graph input of each mask that was added, after the call.
    """

    def __init__(self, reductions: Mapping[Reduced, ValueType | None]) -> None:
        self._reductions = dict(reductions)
        self.reduced: dict[Reduced, Place] = {}
        self.masks: dict[str, str] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the nodes and the masks.

        Raises:
            ReductionInvalidError: a reduction does not fit its value or the model's opset.
        """
        names = FreshNames(model)
        for (address, reduction, place), declared in self._reductions.items():
            if not isinstance(declared, TensorType | None) or (declared and declared.sparse):
                raise invalid(address, reduction, "it is not an array. Capture it without a reduction")
            holder = holder_at(model, place.path)
            opset = _opset(model, place, address, reduction, declared)
            name = names.like(f"{address}::{reduction.kind.value}")
            fragment = Fragment(holder, names, opset, name)
            mask = self._mask(model, names, place, address, reduction, declared)
            subject = Subject(address, reduction, values_by_name(holder)[place.name], declared, fragment, mask)
            result = REDUCERS[reduction.kind](subject)
            result.name = name
            self.reduced[address, reduction, place] = Place(place.path, name)
        return ir.passes.PassResult(model, modified=bool(self._reductions))

    def ensures(self, model: ir.Model) -> None:
        """Every reduced value is there, every added mask an input."""
        inputs = {value.name for value in model.graph.inputs}
        there = all(place.name in values_by_name(holder_at(model, place.path)) for place in self.reduced.values())
        if not there or not inputs >= set(self.masks.values()):
            raise ir.passes.PostconditionError("a reduction or a mask is missing")

    def _mask(
        self,
        model: ir.Model,
        names: FreshNames,
        place: Place,
        address: str,
        reduction: Reduction,
        declared: TensorType | None,
    ) -> ir.Value | None:
        given = [name for name in (reduction.mask_input, reduction.mask_value) if name is not None]
        if not given:
            return None
        if reduction.kind not in MASKED or len(given) > 1:
            raise invalid(address, reduction, "it takes no mask" if len(given) == 1 else "give one mask")
        if any(not step.op_type for step in place.path):
            raise invalid(address, reduction, "no mask is seen in a function. Capture it without a mask")
        inputs = {value.name: value for value in model.graph.inputs}
        if declared is not None and declared.data_type is DataType.STRING:
            raise invalid(address, reduction, "onnxruntime picks no text by a mask. Leave the mask out")
        if reduction.mask_input is not None:
            found = inputs.get(reduction.mask_input)
            if found is None or found.dtype is ir.DataType.STRING:
                raise invalid(address, reduction, f"{reduction.mask_input!r} is no input that can be a mask")
            return found
        if given[0] not in self.masks:
            mask = ir.Value(
                name=names.like(f"mask::{given[0]}"),
                type=ir.TensorType(ir.DataType.BOOL),
                shape=ir.Shape([None, None]),
            )
            model.graph.inputs.append(mask)
            self.masks[given[0]] = mask.name or ""
            return mask
        return inputs[self.masks[given[0]]]


def _opset(model: ir.Model, place: Place, address: str, reduction: Reduction, declared: TensorType | None) -> int:
    opset = opset_of(model, place.path)
    masked = reduction.mask_input is not None or reduction.mask_value is not None
    needed = _OLDEST_MASKED_OPSET if masked else _OLDEST_OPSET
    if declared is not None:
        needed = max(needed, opset_needed(declared.data_type))
    if opset < needed:
        raise invalid(
            address,
            reduction,
            f"it needs opset {needed} and the model has {opset}. Convert the model with "
            "onnx.version_converter, or capture without a reduction",
        )
    return opset
