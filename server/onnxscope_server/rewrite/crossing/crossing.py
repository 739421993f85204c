"""What all crossings have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxscope_server.catalog.scopes import Step
from onnxscope_server.domain import Each, Output, Reading, TensorType, ValueType
from onnxscope_server.errors import NotImplementedYetError
from onnxscope_server.rewrite.crossing.types import in_bytes
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.scopes import Holder, inside, node_at


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value on its way out, and what is known of its type where it is.

    Attributes:
        value: the value.
        type: its type.
        flat: it has one axis, of another length each time.
    """

    value: ir.Value
    type: ValueType | None
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where values cross.

    Attributes:
        model: the model.
        names: where new names come from.
        holder: the graph or function that holds the node.
        step: which node, and into what of it.
        opset: version of ONNX's own operators there.
        varying: whether shapes may differ between iterations even where types say otherwise.
        type_of: tells what is known of the type of a value that the node sees, by its name.
        note: keeps a value that has come out, and tells how readings call it.
    """

    model: ir.Model
    names: FreshNames
    holder: Holder
    step: Step
    opset: int
    varying: bool
    type_of: Callable[[str], ValueType | None]
    note: Callable[[Leaf], Output]


class Crossing(ABC):
    """How values come out of one kind of node.

    Attributes:
        iterations: number of iterations' axes that they get on the way.

    Args:
        site: where.
        node: which values come out of. Default: the site's.
    """

    iterations = 0

    def __init__(self, site: Site, node: ir.Node | None = None) -> None:
        self.site = site
        self.node = node or node_at(site.holder, site.step.anchor)
        self.inner = inside(site.model, self.node, site.step)

    @abstractmethod
    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Brings values out, and returns how to read each."""

    def told(self, reading: Reading) -> Reading:
        """Returns a reading with what the node does to all that comes out of it."""
        for _ in range(self.iterations):
            reading = Each(reading)
        return reading

    def made(
        self, op_type: str, inputs: Sequence[ir.Value | None], holder: Holder | None = None, **kw: object
    ) -> ir.Value:
        """Adds a node to the inner graph, or to another, and returns its output."""
        node = self.new(op_type, inputs, **kw)
        # a graph without nodes counts as false
        (self.inner if holder is None else holder).append(node)
        return node.outputs[0]

    def before(self, op_type: str, inputs: Sequence[ir.Value | None], **kw: object) -> ir.Value:
        """Adds a node in front of the one that values come out of, and returns its output."""
        node = self.new(op_type, inputs, **kw)
        self.site.holder.insert_before(self.node, node)
        return node.outputs[0]

    def new(self, op_type: str, inputs: Sequence[ir.Value | None], **kw: object) -> ir.Node:
        """Makes a node with one output."""
        value = ir.Value(name=self.site.names.like(f"{self.site.step.anchor}::{op_type}"))
        return ir.node(op_type, inputs, kw, outputs=[value], name=value.name)  # type: ignore[arg-type]

    def found_or_added(self, leaf: Leaf) -> ir.Value:
        """Returns the node's output for an inner value, where outputs of the node are those of the inner graph."""
        if leaf.value not in self.inner.outputs:
            return self.add_output(leaf.value, leaf.type)
        output = self.node.outputs[self.inner.outputs.index(leaf.value)]
        output.name = output.name or self.site.names.like(f"{leaf.value.name}::out")
        return output

    def add_output(self, value: ir.Value, type_: ValueType | None = None) -> ir.Value:
        """Makes an inner value the last output of the inner graph, and returns the node's output for it."""
        self.inner.outputs.append(self.own(value, type_))
        return self.last_output(value)

    def own(self, value: ir.Value, type_: ValueType | None) -> ir.Value:
        """Returns the value as one that may be an output: made by a node of the inner graph, and not an output yet."""
        producer = value.producer()
        if producer is not None and value not in self.inner.outputs:
            return value
        wide = in_bytes(type_)
        if not isinstance(type_, TensorType) or wide is None:
            return self.made("Identity", [value])
        return self.made("Cast", [self.made("Cast", [value], to=int(wide))], to=int(type_.data_type))

    def last_output(self, like: ir.Value) -> ir.Value:
        """Adds an output to the node."""
        self.node.resize_outputs(len(self.node.outputs) + 1)
        output = self.node.outputs[-1]
        output.name = self.site.names.like(f"{like.name}::out")
        return output


def stuck(value: ir.Value, why: str) -> NotImplementedYetError:
    """Returns the error for a value that can't come out."""
    return NotImplementedYetError(f"{value.name!r} can't be captured: {why}.", feature="such values in bodies")
