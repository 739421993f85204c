"""From a plan to a segment."""

from __future__ import annotations

import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import OutputMode, Plan, Segment
from onnxscope_server.rewrite.expand import Expand
from onnxscope_server.rewrite.expose import Expose
from onnxscope_server.rewrite.fill_slots import FillSlots
from onnxscope_server.rewrite.outputs import DropOutputs
from onnxscope_server.rewrite.prune import Prune
from onnxscope_server.rewrite.reduce import Reduce


def build(model: CatalogModel, plan: Plan) -> Segment:
    """Rewrites a model's graph so that it gives what a plan asks for, and computes nothing else.

    Args:
        model: the model; it is not changed.
        plan: what is asked, made for this model.

    Returns:
        A segment whose graph has the model's outputs first (none of them for `OutputMode.NONE`), under their own names
        and in their order, then one output for each capture.

    Raises:
        NotImplementedYetError: an address is not in the main graph.
        ReductionInvalidError: a reduction does not fit its value or the model's opset.
    """
    rewritten = model.graph()
    plain = [capture.address for capture in plan.captures if capture.reduction is None]
    points = model.points(expand=plan.expand) if len(plain) < len(plan.captures) else ()
    types = {point.address: point.type for point in points}
    expose = Expose(plain)
    reduce = Reduce(
        {
            capture.address: (capture.reduction, types.get(capture.address))
            for capture in plan.captures
            if capture.reduction is not None
        }
    )
    slots = [model.slots[capture.address] for capture in plan.captures if capture.address in model.slots]
    passes: list[ir.passes.InPlacePass] = [expose, reduce, Prune()]
    if slots:
        passes.insert(0, FillSlots(slots, model.slots, model.typed({})))
    if plan.expand:
        expansions = {capture.address: model.parts.get(capture.address) for capture in plan.captures}
        passes.insert(0, Expand({item.anchor: item for item in expansions.values() if item is not None}.values()))
    if plan.outputs is OutputMode.NONE:
        passes.insert(0, DropOutputs())
    for one in passes:
        one(rewritten)
    captures = expose.exposed | reduce.reduced
    keeps_outputs = plan.outputs is not OutputMode.NONE
    return Segment(
        graph=graph.write(rewritten),
        data_folder=model.data_folder,
        captures={capture.address: captures[capture.address] for capture in plan.captures},
        outputs=tuple(spec.name for spec in model.outputs) if keeps_outputs else (),
        inputs=inputs_read(model, rewritten),
        masks=reduce.masks,
        node_count=len(rewritten.graph),
    )


def unmodified(model: CatalogModel) -> Segment:
    """Returns the model as it is: its own bytes, all its inputs and outputs."""
    return Segment(
        graph=model.graph_bytes,
        data_folder=model.data_folder,
        captures={},
        outputs=tuple(spec.name for spec in model.outputs),
        inputs=tuple(spec.name for spec in (*model.inputs, *model.optional_inputs)),
        masks={},
        node_count=model.node_count,
    )


def inputs_read(model: CatalogModel, rewritten: ir.Model) -> tuple[str, ...]:
    """Returns the names of the inputs that a model declares and its rewritten graph still has."""
    declared = {spec.name for spec in (*model.inputs, *model.optional_inputs)}
    return tuple(value.name for value in rewritten.graph.inputs if value.name in declared)
