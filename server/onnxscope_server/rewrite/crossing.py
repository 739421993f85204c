"""How values come out of a node: out of a function that it calls, a branch, or a body that iterates."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxscope_server.catalog.scopes import Step
from onnxscope_server.domain import (
    DataType,
    Each,
    OptionalType,
    Output,
    Ragged,
    Reading,
    SequenceType,
    Shape,
    Taken,
    TensorType,
    ValueType,
)
from onnxscope_server.errors import NotImplementedYetError
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.scopes import Holder, inside, node_at

# elements; a stand-in is stored in the graph
_LARGEST_STAND_IN = 4096
# a Loop carries sequences since then
_LOOP_CARRIES_SEQUENCES = 13
_IN_SEQUENCES = frozenset(DataType) - {
    DataType.COMPLEX64,
    DataType.COMPLEX128,
    DataType.FLOAT8E4M3FN,
    DataType.FLOAT8E4M3FNUZ,
    DataType.FLOAT8E5M2,
    DataType.FLOAT8E5M2FNUZ,
    DataType.UINT4,
    DataType.INT4,
    DataType.FLOAT4E2M1,
    DataType.FLOAT8E8M0,
    DataType.UINT2,
    DataType.INT2,
    DataType.BFLOAT16,
}
# onnxruntime joins iterations by whole bytes: of types of less, it writes past the end. Nor has it an Identity of those
_IN_BYTES = {
    DataType.INT4: DataType.INT8,
    DataType.UINT4: DataType.UINT8,
    DataType.INT2: DataType.INT8,
    DataType.UINT2: DataType.UINT8,
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value on its way out, and what is known of its type where it is."""

    value: ir.Value
    type: ValueType | None


@dataclass(frozen=True, slots=True)
class Site:
    """Where values cross.

    Attributes:
        model: the model.
        names: where new names come from.
        holder: the graph or function that holds the node.
        step: which node, and into what of it.
        opset: version of ONNX's own operators there.
        note: keeps a value that has come out, and tells how readings call it.
    """

    model: ir.Model
    names: FreshNames
    holder: Holder
    step: Step
    opset: int
    note: Callable[[Leaf], Output]


class Crossing(ABC):
    """How values come out of one kind of node.

    Attributes:
        iterations: number of iterations' axes that they get on the way, 0 or 1.
    """

    iterations = 0

    def __init__(self, site: Site) -> None:
        self.site = site
        self.node = node_at(site.holder, site.step.anchor)
        self.inner = inside(site.model, self.node, site.step)

    @abstractmethod
    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Brings values out, and returns how to read each."""

    def told(self, reading: Reading) -> Reading:
        """Returns a reading with what the node does to all that comes out of it."""
        return reading

    def made(
        self, op_type: str, inputs: Sequence[ir.Value | None], holder: Holder | None = None, **kw: object
    ) -> ir.Value:
        """Adds a node to the inner graph, or to another, and returns its output."""
        value = ir.Value(name=self.site.names.like(f"{self.site.step.anchor}::{op_type}"))
        node = ir.node(op_type, inputs, kw, outputs=[value], name=value.name)  # type: ignore[arg-type]
        (self.inner if holder is None else holder).append(node)  # a graph without nodes is false
        return value

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
        wide = _in_bytes(type_)
        if not isinstance(type_, TensorType) or wide is None:
            return self.made("Identity", [value])
        return self.made("Cast", [self.made("Cast", [value], to=int(wide))], to=int(type_.data_type))

    def last_output(self, like: ir.Value) -> ir.Value:
        """Adds an output to the node."""
        self.node.resize_outputs(len(self.node.outputs) + 1)
        output = self.node.outputs[-1]
        output.name = self.site.names.like(f"{like.name}::out")
        return output


class CallCrossing(Crossing):
    """Out of a function: one more output of the function and of its call.

    Before:  F(x) => y { n = Neg(x)  y = Exp(n) }            a = F(b)
    After:   F(x) => y, n { n = Neg(x)  y = Exp(n) }         a, n::out = F(b)
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds the outputs."""
        for _ in range(len(self.inner.outputs) - len(self.node.outputs)):
            self.last_output(self.inner.outputs[len(self.node.outputs)])
        return [self.site.note(Leaf(self.found_or_added(leaf), leaf.type)) for leaf in leaves]


class BranchCrossing(Crossing):
    """Out of a branch: the other one gives something of the same type, and a flag tells which was taken.

    Before:  If(c, then: {n = Neg(x)  y = Exp(n)}, else: {y = Exp(x)})       outputs: y
    After:   If(c, then: {n = Neg(x)  y = Exp(n)  t = true},
                   else: {y = Exp(x)  d = []  f = false})                    outputs: y, n::out, taken::out
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds outputs to both branches."""
        others = [name for name in ("then_branch", "else_branch") if name != self.site.step.where]
        self._other = inside(self.site.model, self.node, replace(self.site.step, where=others[0]))
        brought = []
        for leaf in leaves:
            if leaf.value in self.inner.outputs:
                type_ = replace(leaf.type, shape=None) if isinstance(leaf.type, TensorType) else leaf.type
            else:
                self._other.outputs.append(self._stand_in(leaf))
                type_ = _beside_stand_in(leaf.type)
            brought.append(self.site.note(Leaf(self.found_or_added(leaf), type_)))
        self._other.outputs.append(self.made("Constant", [], self._other, value=ir.tensor(np.array(False))))
        flag = self.add_output(self.made("Constant", [], value=ir.tensor(np.array(True))))
        self._flag = self.site.note(Leaf(flag, TensorType(DataType.BOOL, ())))
        return list(brought)

    def told(self, reading: Reading) -> Reading:
        """Says that there is nothing where the branch was not taken."""
        return Taken(self._flag, reading, 0)

    def _stand_in(self, leaf: Leaf) -> ir.Value:
        match leaf.type:
            case TensorType(data_type=data_type, sparse=False):
                known = _beside_stand_in(leaf.type)
                sizes = fixed(known.shape) if isinstance(known, TensorType) else None
                return self.made("Constant", [], self._other, value=_zeros(data_type, (0,) if sizes is None else sizes))
            case SequenceType(element=TensorType(data_type=data_type)):
                return self.made("SequenceEmpty", [], self._other, dtype=int(data_type))
            case OptionalType(element=element) if (held := _ir_type(element)) is not None:
                declared = ir.Attr("type", ir.AttributeType.TYPE_PROTO, ir.TypeAndShape(held, None))
                return self.made("Optional", [], self._other, type=declared)
        raise _stuck(leaf.value, "its type is not known, and the branch that is not taken has to give the same")


class _Iterating(Crossing):
    iterations = 1

    def told(self, reading: Reading) -> Reading:
        """Says that there is one for each iteration."""
        return Each(reading)

    def stacked(self, leaf: Leaf) -> Reading:
        """Brings a value out as one array, the iterations along its first axis."""
        type_ = _array_type(leaf.type)
        if type_ is not None and type_.shape is not None:
            type_ = replace(type_, shape=(None, *type_.shape))
        wide = _in_bytes(type_)
        if type_ is None or wide is None:
            return self.site.note(Leaf(self.add_output(leaf.value), type_))
        output = self.add_output(self.made("Cast", [leaf.value], to=int(wide)))
        return self.site.note(Leaf(self.made("Cast", [output], self.site.holder, to=int(type_.data_type)), type_))


class LoopCrossing(_Iterating):
    """Out of a Loop: values of one shape as a scan output, others in a sequence that the iterations carry along.

    Before:  Loop(n, c, x) {i, c, x -> x = Exp(x)  z = Slice(x, i)}         outputs: x
    After:   Loop(n, c, x, []) {i, c, x, s -> x = Exp(x)  z = Slice(x, i)  s = SequenceInsert(s, z)}
                                                                           outputs: x, s::out

    Sequences lose their limits in the one that is carried along: their lengths come out beside it.
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds scan outputs and what is carried."""
        carried = [leaf for leaf in leaves if self._is_carried(leaf)]
        out = dict(zip(map(id, carried), self._carry(carried), strict=True)) if carried else {}
        brought: list[Reading] = []
        for leaf in leaves:
            if id(leaf) not in out:
                brought.append(self.stacked(leaf))
                continue
            kept = self.site.note(Leaf(out[id(leaf)], SequenceType(_element(leaf.type))))
            if isinstance(leaf.type, SequenceType):
                count = Leaf(self.made("SequenceLength", [leaf.value]), TensorType(DataType.INT64, ()))
                brought.append(Ragged(kept, self.stacked(count), 0))
            else:
                brought.append(kept)
        return brought

    def _is_carried(self, leaf: Leaf) -> bool:
        if isinstance(leaf.type, OptionalType):
            raise _stuck(leaf.value, "a Loop lets no optional out")
        if isinstance(leaf.type, SequenceType):
            if self.site.opset < _LOOP_CARRIES_SEQUENCES or _element(leaf.type) is None:
                raise _stuck(leaf.value, "it is a list, and this Loop can't carry it out: its type or opset is too old")
            return True
        type_ = _array_type(leaf.type)
        if type_ is None or self.site.opset < _LOOP_CARRIES_SEQUENCES:
            return False
        # onnxruntime moves texts out of a body, and leaves nothing where another output shares their memory
        is_text = type_.data_type is DataType.STRING
        return type_.data_type in _IN_SEQUENCES and (is_text or fixed(type_.shape) is None)

    def _carry(self, leaves: Sequence[Leaf]) -> list[ir.Value]:
        """Lets the iterations carry a sequence for each of some values; returns the node's outputs for them."""
        self.node.resize_inputs(max(len(self.node.inputs), 2))
        place = len(self.node.inputs) - 2
        for offset, leaf in enumerate(leaves):
            element = _element(leaf.type)
            start = ir.Value(name=self.site.names.like(f"{leaf.value.name}::none"))
            made = ir.node("SequenceEmpty", [], {"dtype": int(element.data_type)} if element else {}, outputs=[start])
            self.site.holder.insert_before(self.node, made)
            self.node.resize_inputs(len(self.node.inputs) + 1)
            self.node.replace_input_with(len(self.node.inputs) - 1, start)
            before = ir.Value(name=self.site.names.like(f"{leaf.value.name}::before"))
            self.inner.inputs.append(before)
            op = self._extended if isinstance(leaf.type, SequenceType) else self._inserted
            self.inner.outputs.insert(1 + place + offset, op(before, leaf.value))
        self.node = _widened(self.site.holder, self.node, place, len(leaves))
        added = self.node.outputs[place : place + len(leaves)]
        for output, leaf in zip(added, leaves, strict=True):
            output.name = self.site.names.like(f"{leaf.value.name}::out")
        return list(added)

    def _inserted(self, before: ir.Value, value: ir.Value) -> ir.Value:
        return self.made("SequenceInsert", [before, value])

    def _extended(self, before: ir.Value, values: ir.Value) -> ir.Value:
        """Puts each item of one sequence behind another; there is no operator for it."""
        names = self.site.names
        index, condition, sofar = (ir.Value(name=names.like(f"{values.name}::{part}")) for part in ("i", "on", "sofar"))
        item = ir.node("SequenceAt", [values, index], outputs=[ir.Value(name=names.like(f"{values.name}::item"))])
        more = ir.node(
            "SequenceInsert", [sofar, item.outputs[0]], outputs=[ir.Value(name=names.like(f"{values.name}::more"))]
        )
        on = ir.node("Identity", [condition], outputs=[ir.Value(name=names.like(f"{values.name}::still"))])
        body = ir.Graph(
            [index, condition, sofar], [on.outputs[0], more.outputs[0]], nodes=[item, more, on], name="extend"
        )
        for value, type_ in ((index, ir.DataType.INT64), (condition, ir.DataType.BOOL)):
            value.type, value.shape = ir.TensorType(type_), ir.Shape([])
        return self.made("Loop", [self.made("SequenceLength", [values]), None, before], body=body)


class ScanCrossing(_Iterating):
    """Out of a Scan: one more scan output; all iterations' values must have one shape.

    Before:  Scan(s, xs) {s, x -> s = Add(s, x)  n = Neg(x)}      outputs: s
    After:   Scan(s, xs) {s, x -> s = Add(s, x)  n = Neg(x)}      outputs: s, n::out
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds scan outputs, stacked forwards along a first axis."""
        for leaf in leaves:
            if isinstance(leaf.type, SequenceType | OptionalType):
                raise _stuck(leaf.value, "it is no array, and only arrays come out of a Scan")
        for name in ("scan_output_axes", "scan_output_directions"):
            attribute = self.node.attributes.get(name)
            if attribute is not None:
                self.node.attributes[name] = ir.AttrInt64s(name, [*attribute.as_ints(), *[0] * len(leaves)])
        return [self.stacked(leaf) for leaf in leaves]


class MapCrossing(_Iterating):
    """Out of a SequenceMap: one more sequence.

    Before:  SequenceMap(s) {x -> n = Neg(x)  y = Exp(n)}      outputs: y
    After:   SequenceMap(s) {x -> n = Neg(x)  y = Exp(n)}      outputs: y, n::out
    """

    def bring_out(self, leaves: Sequence[Leaf]) -> list[Reading]:
        """Adds outputs; onnxruntime must be told their types."""
        brought: list[Reading] = []
        for leaf in leaves:
            if _array_type(leaf.type) is None:
                raise _stuck(leaf.value, "only arrays of a known type come out of a SequenceMap")
            output = self.add_output(leaf.value)
            self.inner.outputs[-1].type = _ir_type(leaf.type)
            brought.append(self.site.note(Leaf(output, SequenceType(leaf.type))))
        return brought


CROSSINGS: dict[str, type[Crossing]] = {
    "": CallCrossing,
    "If": BranchCrossing,
    "Loop": LoopCrossing,
    "Scan": ScanCrossing,
    "SequenceMap": MapCrossing,
}


def _widened(holder: Holder, node: ir.Node, place: int, count: int) -> ir.Node:
    """Replaces a node by one with more outputs in the midst of the others."""
    outputs = [*node.outputs[:place], *[None] * count, *node.outputs[place:]]
    wide = ir.Node(
        node.domain,
        node.op_type,
        node.inputs,
        tuple(node.attributes.values()),
        overload=node.overload,
        num_outputs=len(outputs),
        name=node.name,
    )
    holder.insert_before(node, wide)
    for old, new in zip(outputs, wide.outputs, strict=True):
        if old is not None:
            new.name, new.type, new.shape = old.name, old.type, old.shape
            old.replace_all_uses_with(new, replace_graph_outputs=True)
    holder.remove(node)
    return wide


def _array_type(type_: ValueType | None) -> TensorType | None:
    return type_ if isinstance(type_, TensorType) and not type_.sparse else None


def _in_bytes(type_: ValueType | None) -> DataType | None:
    """Returns a type of whole bytes that holds the elements of one that has less; None for all others."""
    return _IN_BYTES.get(type_.data_type) if isinstance(type_, TensorType) else None


def fixed(shape: Shape | None) -> tuple[int, ...] | None:
    """Returns a shape of which every size is known; None for others."""
    if shape is None:
        return None
    sizes = tuple(size for size in shape if isinstance(size, int))
    return sizes if len(sizes) == len(shape) else None


def _element(type_: ValueType | None) -> TensorType | None:
    element = type_.element if isinstance(type_, SequenceType) else type_
    return element if isinstance(element, TensorType) else None


def _beside_stand_in(type_: ValueType | None) -> ValueType | None:
    """Returns the type of what comes out of a branch: a stand-in has the same size only where that is known, and small.

    What has one size comes out of a Loop around the branch in one array.
    """
    if isinstance(type_, TensorType) and (sizes := fixed(type_.shape)) and math.prod(sizes) > _LARGEST_STAND_IN:
        return replace(type_, shape=None)
    return type_


def _zeros(data_type: DataType, shape: tuple[int, ...]) -> ir.TensorProtocol:
    if data_type is DataType.STRING:
        return ir.StringTensor(np.full(shape, b"", object))
    return ir.tensor(np.zeros(shape, ir.DataType(int(data_type)).numpy()), dtype=ir.DataType(int(data_type)))


def _ir_type(type_: ValueType | None) -> ir.TypeProtocol | None:
    if isinstance(type_, TensorType):
        return ir.TensorType(ir.DataType(int(type_.data_type)))
    if isinstance(type_, SequenceType) and (element := _ir_type(type_.element)) is not None:
        return ir.SequenceType(element)
    return None


def _stuck(value: ir.Value, why: str) -> NotImplementedYetError:
    return NotImplementedYetError(f"{value.name!r} can't be captured: {why}.", feature="such values in bodies")
