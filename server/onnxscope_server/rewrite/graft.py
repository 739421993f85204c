"""The pass that grafts probes on to values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxscope_server.catalog.inside import inner_graphs, inner_nodes
from onnxscope_server.catalog.scopes import OWN_DOMAINS, Place
from onnxscope_server.domain import PlannedProbe, TensorType, ValueType
from onnxscope_server.errors import ProbeInvalidError
from onnxscope_server.rewrite.element_types import opset_needed
from onnxscope_server.rewrite.fragment import Fragment
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.opset import import_domain, imports_of, opset_of
from onnxscope_server.rewrite.scopes import Holder, holder_at, values_by_name
from onnxscope_server.rewrite.spelling import at_versions

_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Scion:
    """What is grafted where.

    Attributes:
        probe: the probe.
        data: its file.
        place: of the value that it reads, reduced already.
        type: of that value, as far as it is known.
    """

    probe: PlannedProbe
    data: bytes
    place: Place
    type: ValueType | None


class Graft(ir.passes.InPlacePass):
    """Grafts probes on to values, each in the graph that the value is in.

    The value is made what a probe takes: float32 [row, feature]. Weights become constants, since old models and
    functions have no initializers beside their inputs. Names are new, and the operators those of the model's opset.

        Before:  x -> Conv -> c -> Relu -> y
        After:   x -> Conv -> c -> Relu -> y
                 c -> Flatten -> MatMul -> Add -> Softmax -> probe::parity::scores

    Args:
        scions: what to graft where.

    Attributes:
        grafted: where each output of a probe is, by the name that it travels under, after the call.
    """

    def __init__(self, scions: Sequence[Scion]) -> None:
        self._scions = tuple(scions)
        self.grafted: dict[str, Place] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the nodes.

        Raises:
            ProbeInvalidError: a probe can't be written in the model's opset.
        """
        names = FreshNames(model)
        for scion in self._scions:
            probe, place = scion.probe, scion.place
            holder, opset = holder_at(model, place.path), opset_of(model, place.path)
            fragment = Fragment(holder, names, opset, f"probe::{probe.name}")
            fed = _fed(fragment, values_by_name(holder)[place.name], scion, opset)
            taken = at_versions(scion.data, probe.name, opset, imports_of(model, place.path))
            for domain, version in taken.opset_imports.items():
                if domain not in OWN_DOMAINS:
                    import_domain(model, place.path, domain, version)
            outputs = _moved(taken.graph, holder, fragment, fed)
            for output in probe.outputs:
                self.grafted[output.value] = Place(place.path, outputs[output.name].name or "")
        return ir.passes.PassResult(model, modified=bool(self._scions))

    def ensures(self, model: ir.Model) -> None:
        """Every output of a probe is there."""
        for place in self.grafted.values():
            if place.name not in values_by_name(holder_at(model, place.path)):
                raise ir.passes.PostconditionError("an output of a probe is missing")


def _fed(fragment: Fragment, value: ir.Value, scion: Scion, opset: int) -> ir.Value:
    """Returns what the probe takes of a value: of its type, its rows in front, and flattened behind them."""
    declared, wanted = scion.type, scion.probe.input
    have = declared.data_type if isinstance(declared, TensorType) else None
    if have is not None and opset < opset_needed(have):
        raise ProbeInvalidError(
            f"The probe {scion.probe.name!r} reads {have.name.lower()}, which needs opset {opset_needed(have)}, and "
            f"the model has {opset}. Convert the model with onnx.version_converter.",
            probe=scion.probe.name,
            detail=f"opset {opset}",
        )
    if have is not wanted.data_type:
        value = fragment.cast(value, wanted.data_type)
    rank = len(declared.shape) if isinstance(declared, TensorType) and declared.shape is not None else None
    axis = scion.probe.row_axis
    if axis and rank is not None:
        value = fragment.add("Transpose", value, perm=[axis, *(other for other in range(rank) if other != axis)])
    takes_rows = wanted.shape is None or len(wanted.shape) == _MATRIX
    return fragment.add("Flatten", value, axis=1) if takes_rows and rank != _MATRIX else value


def _moved(taken: ir.Graph, holder: Holder, fragment: Fragment, fed: ir.Value) -> dict[str, ir.Value]:
    """Moves the nodes of a probe behind the value that it is fed with; returns its outputs by their names."""
    outputs = {value.name or "": value for value in taken.outputs}
    taken.outputs.clear()
    instead: dict[ir.Value, ir.Value] = {}
    for name, value in taken.initializers.items():
        if value.const_value is not None:
            instead[value] = fragment.add("Constant", role=name, value=value.const_value)
    instead |= {value: fed for value in taken.inputs if value not in instead}
    for value, other in instead.items():
        value.replace_all_uses_with(other)
    nodes = list(taken)
    taken.remove(nodes)
    _name(nodes, fragment)
    holder.extend(nodes)
    # what the probe only hands on has no node of its own
    return {
        name: fragment.add("Identity", instead[value], role=name) if value in instead else value
        for name, value in outputs.items()
    }


def _name(nodes: Sequence[ir.Node], fragment: Fragment) -> None:
    """Gives nodes and values new names; shapes go, whose symbols could be some of the model's that mean others."""
    for node in (inner for one in nodes for inner in (one, *inner_nodes(one))):
        node.name = fragment.name(node.name or node.op_type)
    bodies = [body for node in nodes for body in inner_graphs(node)]
    inside = [value for body in bodies for value in (*body.inputs, *body.initializers.values())]
    computed = [value for holder in (nodes, *bodies) for node in holder for value in node.outputs if value.name]
    for value in (*inside, *computed):
        value.name = fragment.name(value.name or "")
        if value.shape is not None and not value.is_initializer():
            value.shape = None
