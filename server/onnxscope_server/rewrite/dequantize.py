"""The pass that puts the real numbers of quantised values beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from onnxscope_server.catalog.quantization import Scaling
from onnxscope_server.catalog.scopes import Path, Place, visible
from onnxscope_server.domain import TensorType, ValueType
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.opset import import_domain, opset_of
from onnxscope_server.rewrite.scopes import holder_at, values_by_name

_AXES_SINCE = 13
_MICROSOFT = "com.microsoft"


class Dequantize(ir.passes.InPlacePass):
    """Adds a DequantizeLinear behind quantised values.

    Before:  q -> QLinearConv -> c                       outputs: ...
    After:   q -> QLinearConv -> c -> DequantizeLinear -> c::dequantized

    Args:
        scalings: how each value is quantised.

    Attributes:
        dequantized: where the real numbers of each value are, after the call.
    """

    def __init__(self, scalings: Mapping[Place, Scaling]) -> None:
        self._scalings = dict(scalings)
        self.dequantized: dict[Place, Place] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the nodes."""
        names = FreshNames(model)
        for place, scaling in self._scalings.items():
            inputs = [
                _value(model, place.path, one) if one is not None else None
                for one in (place, scaling.scale, scaling.zero_point)
            ]
            if inputs[-1] is None:
                inputs.pop()
            result = ir.Value(name=names.like(f"{place.name}::dequantized"))
            attributes = {"axis": scaling.axis}
            domain = scaling.domain
            if opset_of(model, place.path) < _AXES_SINCE:
                # ONNX's own knows no axis yet, and takes a scale for each entry along another
                domain = _MICROSOFT
                import_domain(model, place.path, domain)
            if scaling.block_size:
                attributes["block_size"] = scaling.block_size
            node = ir.node("DequantizeLinear", inputs, attributes, domain=domain, outputs=[result], name=result.name)
            holder_at(model, place.path).append(node)
            self.dequantized[place] = Place(place.path, result.name or "")
        return ir.passes.PassResult(model, modified=bool(self._scalings))

    def ensures(self, model: ir.Model) -> None:
        """Every value has its real numbers beside it."""
        for place in self.dequantized.values():
            if place.name not in values_by_name(holder_at(model, place.path)):
                raise ir.passes.PostconditionError("a value was not dequantised")


def _value(model: ir.Model, path: Path, place: Place) -> ir.Value:
    if place.path not in tuple(visible(path)):
        raise ValueError(f"{place} is not to be seen from {path}")
    return values_by_name(holder_at(model, place.path))[place.name]


def real_type(types: Mapping[Place, ValueType | None], place: Place, scaling: Scaling) -> ValueType | None:
    """Returns the type of a dequantised value: that of its scale, in its own shape."""
    type_, scale = types.get(place), types.get(scaling.scale)
    if not isinstance(type_, TensorType) or not isinstance(scale, TensorType):
        return None
    return replace(type_, data_type=scale.data_type)
