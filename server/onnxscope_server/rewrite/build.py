"""From a plan to a segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import onnx
import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.scopes import Place
from onnxscope_server.catalog.value_types import of_one_iteration
from onnxscope_server.domain import Capture, Output, OutputMode, Plan, PlannedProbe, Reading, Segment, ValueType
from onnxscope_server.errors import NotImplementedYetError
from onnxscope_server.rewrite import readings
from onnxscope_server.rewrite.dequantize import Dequantize, real_type
from onnxscope_server.rewrite.expand import Expand
from onnxscope_server.rewrite.expose import Expose
from onnxscope_server.rewrite.fill_slots import FillSlots
from onnxscope_server.rewrite.forget_shapes import ForgetShapes
from onnxscope_server.rewrite.graft import Graft, Scion
from onnxscope_server.rewrite.lift import Lift
from onnxscope_server.rewrite.name_copies import NameCopies
from onnxscope_server.rewrite.outputs import DropOutputs
from onnxscope_server.rewrite.prune import Prune
from onnxscope_server.rewrite.reduce import Reduce
from onnxscope_server.rewrite.segments import cut, segments, sizes_of

_NO_FILES: Mapping[str, bytes] = MappingProxyType({})


def build(model: CatalogModel, plan: Plan, files: Mapping[str, bytes] = _NO_FILES) -> Segment:
    """Rewrites a model's graph so that it gives what a plan asks for, and computes nothing else.

    Args:
        model: the model; it is not changed.
        plan: what is asked, made for this model.
        files: of the plan's probes, by digest.

    Returns:
        A segment whose graph has the model's outputs first (none of them for `OutputMode.NONE`), under their own names
        and in their order, then one output for each capture, and those of the probes.

    Raises:
        NotImplementedYetError: a value of its type cannot leave the body that it is in.
        ReductionInvalidError: a reduction does not fit its value or the model's opset.
        ProbeInvalidError: a probe can't be written in the model's opset.
    """
    built = _built(model, plan, files)
    return replace(built.whole, graph=graph.serialised(built.proto))


def build_segments(model: CatalogModel, plan: Plan, files: Mapping[str, bytes] = _NO_FILES) -> tuple[Segment, ...]:
    """Does what `build` does, in segments where there is much to send; together they are what `build` returns."""
    built = _built(model, plan, files)
    if plan.whole or built.varying:
        return (replace(built.whole, graph=graph.serialised(built.proto)),)
    places = model.contents.places(expand=plan.expand).values()
    original = {place.name for place in places if not place.path}
    known = {capture.address: capture.type for capture in plan.captures}
    outputs = {output.value: output.type for probe in plan.probes for output in probe.outputs}
    sizes = {**sizes_of(built.whole.captures, known), **sizes_of(built.whole.probes, outputs)}
    return segments(built.whole, cut(built.proto, built.types, sizes, original))


@dataclass(frozen=True, slots=True)
class _Built:
    """A rewritten graph.

    Attributes:
        whole: all that is said of it; its own graph is empty.
        proto: the graph.
        types: of values of the main graph, as far as they are known.
        varying: whether nothing that is known of shapes was relied on.
    """

    whole: Segment
    proto: onnx.ModelProto
    types: Mapping[str, ValueType | None]
    varying: bool


def _built(model: CatalogModel, plan: Plan, files: Mapping[str, bytes]) -> _Built:
    try:
        return _rewritten(model, plan, files)
    except NotImplementedYetError:
        if plan.varying:
            raise
        # some values come out in that way only
        return _rewritten(model, replace(plan, varying=True), files)


def _rewritten(model: CatalogModel, plan: Plan, files: Mapping[str, bytes]) -> _Built:
    contents = model.contents
    where = contents.places(expand=plan.expand)
    captured = {capture: where[capture.address] for capture in plan.captures}
    probed = {probe: where[probe.address] for probe in plan.probes}
    scalings = {address: where[address] for address in plan.scalings}
    places = tuple(dict.fromkeys((*captured.values(), *probed.values())))
    rewritten = model.graph({place.path for place in (*places, *scalings.values()) if place.path})
    types: dict[Place, ValueType | None] = dict(contents.typed({}, expand=plan.expand))
    slots = [contents.slots[place] for place in places if place in contents.slots]
    taken_apart = [contents.parts[place] for place in places if place in contents.parts] if plan.expand else []
    if plan.outputs is OutputMode.NONE:
        DropOutputs()(rewritten)
    if plan.varying:
        ForgetShapes()(rewritten)
    Expand({item.anchor: item for item in taken_apart}.values())(rewritten)
    FillSlots(slots, contents.slots, types)(rewritten)
    if plan.dequantize:
        quantised = {place: contents.scalings[place] for place in captured.values() if place in contents.scalings}
        dequantize = Dequantize(quantised)
        dequantize(rewritten)
        types |= {real: real_type(types, place, quantised[place]) for place, real in dequantize.dequantized.items()}
        captured = {capture: dequantize.dequantized.get(place, place) for capture, place in captured.items()}
    reduced, masks = _reduced(rewritten, (*captured.items(), *probed.items()), types)
    graft = Graft([Scion(probe, files[probe.digest], reduced[probe], types.get(reduced[probe])) for probe in probed])
    graft(rewritten)
    types |= {graft.grafted[output.value]: output.type for probe in probed for output in probe.outputs}
    wanted = {capture.address: reduced[capture] for capture in captured}
    captures, found, results = brought_out(rewritten, (wanted, scalings, graft.grafted), types, varying=plan.varying)
    keeps_outputs = plan.outputs is not OutputMode.NONE
    whole = Segment(
        graph=b"",
        data_folder=model.data_folder,
        captures=captures,
        outputs=tuple(spec.name for spec in model.outputs) if keeps_outputs else (),
        inputs=inputs_read(model, rewritten),
        masks=masks,
        node_count=len(rewritten.graph),
        scalings=found,
        probes=results,
    )
    named = {place.name: type_ for place, type_ in types.items() if not place.path}
    return _Built(whole, graph.to_proto(rewritten), named, plan.varying)


def _reduced(
    rewritten: ir.Model, wanted: Sequence[tuple[Capture | PlannedProbe, Place]], types: dict[Place, ValueType | None]
) -> tuple[dict[Capture | PlannedProbe, Place], Mapping[str, str]]:
    """Reduces values; says where what is wanted then is, and the graph input of each mask. `types` gets theirs."""
    items = [(item, (item.address, item.reduction, place)) for item, place in wanted if item.reduction is not None]
    reduce = Reduce({key: types.get(key[2]) for _, key in items})
    reduce(rewritten)
    found = dict(wanted)
    for item, key in items:
        found[item] = reduce.reduced[key]
        types[found[item]] = of_one_iteration(item.type, found[item].repeats)
    return found, reduce.masks


def brought_out(
    rewritten: ir.Model,
    groups: Sequence[Mapping[str, Place]],
    types: Mapping[Place, ValueType | None],
    *,
    varying: bool = False,
) -> list[dict[str, Reading]]:
    """Makes values outputs, wherever they are, and cuts what no output needs.

    Args:
        rewritten: the model; it is changed.
        groups: places of values, by address.
        types: of values, of one iteration, as far as they are known.
        varying: whether shapes may differ between iterations even where types say otherwise.

    Returns:
        How to read the values from the model's outputs, by address, for each group.
    """
    wanted = {(group, address): place for group, places in enumerate(groups) for address, place in places.items()}
    lift = Lift({key: place for key, place in wanted.items() if place.path}, types, varying=varying)
    lift(rewritten)
    risen = {key: lift.lifted.get(key) or Output(place.name) for key, place in wanted.items()}
    expose = Expose(name for reading in risen.values() for name in readings.names(reading))
    for one in (expose, Prune(), NameCopies()):
        one(rewritten)
    found: list[dict[str, Reading]] = [{} for _ in groups]
    for (group, address), reading in risen.items():
        found[group][address] = readings.replaced(reading, lambda name: Output(expose.exposed[name]))
    return found


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
