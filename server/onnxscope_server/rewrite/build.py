"""From a plan to a segment."""

from __future__ import annotations

import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Output, OutputMode, Plan, Segment
from onnxscope_server.rewrite import readings
from onnxscope_server.rewrite.expand import Expand
from onnxscope_server.rewrite.expose import Expose
from onnxscope_server.rewrite.fill_slots import FillSlots
from onnxscope_server.rewrite.lift import Lift
from onnxscope_server.rewrite.name_copies import NameCopies
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
    contents = model.contents
    where = contents.places(expand=plan.expand)
    places = {capture.address: where[capture.address] for capture in plan.captures}
    rewritten = model.graph({place.path for place in places.values() if place.path})
    types = contents.typed({}, expand=plan.expand)
    slots = [contents.slots[place] for place in places.values() if place in contents.slots]
    taken_apart = [contents.parts[place] for place in places.values() if place in contents.parts] if plan.expand else []
    reduced = {capture.address: capture.reduction for capture in plan.captures if capture.reduction is not None}
    reduce = Reduce(
        {address: (reduction, places[address], types.get(places[address])) for address, reduction in reduced.items()}
    )
    lift = Lift({address: place for address, place in places.items() if place.path and address not in reduced}, types)
    if plan.outputs is OutputMode.NONE:
        DropOutputs()(rewritten)
    Expand({item.anchor: item for item in taken_apart}.values())(rewritten)
    FillSlots(slots, contents.slots, types)(rewritten)
    reduce(rewritten)
    lift(rewritten)
    plain = {
        address: Output(place.name) for address, place in places.items() if not place.path and address not in reduced
    }
    risen = plain | lift.lifted
    expose = Expose(name for reading in risen.values() for name in readings.names(reading))
    expose(rewritten)
    Prune()(rewritten)
    NameCopies()(rewritten)
    captures = {
        address: readings.replaced(reading, lambda name: Output(expose.exposed[name]))
        for address, reading in risen.items()
    }
    captures |= {address: Output(name) for address, name in reduce.reduced.items()}
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
