"""The segment that finds out the shapes of a model's values and brings nothing else."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.description import Kind
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import DataType, Output, Segment, TensorType
from onnxscope_server.rewrite.build import inputs_read
from onnxscope_server.rewrite.expand import Expand
from onnxscope_server.rewrite.fill_slots import FillSlots
from onnxscope_server.rewrite.fragment import Fragment
from onnxscope_server.rewrite.free_axes import FreeAxes
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.opset import opset_of
from onnxscope_server.rewrite.outputs import DropOutputs
from onnxscope_server.rewrite.prune import Prune
from onnxscope_server.rewrite.scopes import values_by_name

_KINDS = frozenset({Kind.INPUT, Kind.ACTIVATION, Kind.OUTPUT, Kind.UNUSED})
# first opset whose Shape onnxruntime computes for an element type, where that is not the first of all
_SINCE = {
    DataType.BFLOAT16: 13,
    DataType.FLOAT8E4M3FN: 21,
    DataType.FLOAT8E4M3FNUZ: 21,
    DataType.FLOAT8E5M2: 21,
    DataType.FLOAT8E5M2FNUZ: 21,
}
_NEVER = frozenset(
    {
        DataType.COMPLEX64,
        DataType.COMPLEX128,
        DataType.UINT4,
        DataType.INT4,
        DataType.FLOAT4E2M1,
        DataType.FLOAT8E8M0,
        DataType.UINT2,
        DataType.INT2,
    }
)


class ProbeShapes(ir.passes.InPlacePass):
    """Puts a Shape behind values and makes the shapes outputs.

    Before:  x -> Conv -> c                        outputs: none
    After:   x -> Conv -> c -> Shape -> c::shape   outputs: c::shape

    Args:
        addresses: names of tensors of the main graph.

    Attributes:
        shapes: the output of each address, after the call.
    """

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self.shapes: dict[str, str] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the nodes and the outputs."""
        values, names = values_by_name(model.graph), FreshNames(model)
        for address in self._addresses:
            fragment = Fragment(model.graph, names, opset_of(model), address)
            shape = fragment.add("Shape", values[address])
            model.graph.outputs.append(shape)
            self.shapes[address] = shape.name or ""
        return ir.passes.PassResult(model, modified=bool(self._addresses))


def shape_probe(model: CatalogModel, free: Collection[tuple[str, int]] = (), *, expand: bool = False) -> Segment:
    """Rewrites a model's graph so that it gives the shapes of its values, and nothing else.

    Inputs, activations, outputs and unused slots of the main graph that are known to be arrays are asked; others have
    no shape, or none that could be asked for without knowing their type.
    Nor are arrays asked whose elements onnxruntime's Shape does not take.

    Args:
        model: the model; it is not changed.
        free: input name and axis of fixed sizes to free first.
        expand: ask the parts of operators too.

    Returns:
        A segment whose captures are int64 [rank], by address.
    """
    rewritten = model.graph()
    contents = model.contents
    known = contents.typed({}, expand=expand)
    slots = [slot for place, slot in contents.slots.items() if not place.path and place in known]
    FillSlots(slots, contents.slots, {})(rewritten)
    if expand:
        parts = (item for item in contents.parts.values() if not item.anchor.path)
        Expand({item.anchor: item for item in parts}.values())(rewritten)
    opset, values = opset_of(rewritten), values_by_name(rewritten.graph)
    places = contents.places(expand=expand)
    addresses = [
        point.address
        for point in model.points(expand=expand)
        if point.kind in _KINDS
        and not places[point.address].path
        and point.address in values
        and isinstance(point.type, TensorType)
        and not point.type.sparse
        and point.type.data_type not in _NEVER
        and _SINCE.get(point.type.data_type, 1) <= opset
    ]
    probe = ProbeShapes(addresses)
    for one in (FreeAxes(free), DropOutputs(), probe, Prune()):
        one(rewritten)
    return Segment(
        graph=graph.write(rewritten),
        data_folder=model.data_folder,
        captures={address: Output(name) for address, name in probe.shapes.items()},
        outputs=(),
        inputs=inputs_read(model, rewritten),
        masks={},
        node_count=len(rewritten.graph),
    )
