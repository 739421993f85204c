"""Cuts a rewritten graph into segments, which run one after the other while the results of the earlier ones travel.

    whole:       x -> Conv -> c -> Relu -> r -> Conv -> d -> Relu -> y      outputs: c, r, d, y
    segments:    x -> Conv -> c -> Relu -> r                                outputs: c, r
                 r -> Conv -> d -> Relu -> y                                outputs: d, y

A cut lies where every value that crosses it is an output anyway. The optimiser has to leave such a value as it is, cut
or not, so that cutting takes nothing away from what it can do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from onnxscope_server.catalog import graph
from onnxscope_server.catalog.value_types import type_proto
from onnxscope_server.catalog.walk import every_node
from onnxscope_server.domain import DataType, Dimension, Reading, Segment, TensorType, ValueType
from onnxscope_server.rewrite import readings
from onnxscope_server.rewrite.order import Order

_LEAST_BYTES = 8 << 20
_LEAST_PIECE_BYTES = 1 << 20
# few pieces where that makes small ones, as each costs a run some time; many where the memory of large ones counts, of
# which several are there at a time: half as large ones of what is large altogether
_PIECES = 5
_MOST_PIECE_BYTES = 32 << 20
_LARGE_BYTES = 256 << 20
_MOST_PIECES = 128
_FIRST_SHARE = 0.25
# what an axis of unknown size is taken for
_OPEN_EXTENT = 64
# what a value is taken for of which nothing is known: little where that decides whether to cut at all, much after that
_LEAST_UNKNOWN_BYTES = 16 << 10
_UNKNOWN_BYTES = 4 << 20
_ITEM_BYTES: Mapping[DataType, int] = {
    data_type: max(1, ir.DataType(data_type).bitwidth // 8)
    for data_type in DataType
    if data_type is not DataType.STRING
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a graph.

    Attributes:
        model: the piece, a model of its own.
        outputs: names of the whole graph's outputs that it makes.
        carried: names of values that it takes from earlier pieces.
        handed: names of values that later pieces take.
    """

    model: onnx.ModelProto
    outputs: tuple[str, ...]
    carried: tuple[str, ...]
    handed: tuple[str, ...]


def cut(
    model: onnx.ModelProto,
    types: Mapping[str, ValueType | None],
    sizes: Mapping[str, int],
    original: Collection[str],
) -> tuple[Piece, ...]:
    """Cuts a graph into pieces of about as many bytes of outputs.

    A graph with little to send stays whole, and so does one that takes text, sequences or maps: onnxruntime runs those
    in another way, which does not take over what an earlier piece made.

    Args:
        model: a rewritten model with all its outputs; its parts are shared, not copied, where it stays whole.
        types: of values of the main graph, as far as they are known.
        sizes: about how many bytes the outputs have, as far as that is known.
        original: names of the values of the main graph before it was rewritten.

    Returns:
        The pieces in the order in which they run.
    """
    main = model.graph
    exposed = tuple(item.name for item in main.output)
    defaults = {tensor.name for tensor in main.initializer}
    total = sum(sizes.get(name, _LEAST_UNKNOWN_BYTES) for name in exposed)
    given = (item for item in main.input if item.name not in defaults)
    if total < _LEAST_BYTES or not all(_is_plain(item.type) for item in given):
        return (Piece(model, exposed, (), ()),)
    order = Order(main, original)
    movable = {name for name in exposed if _can_cross(types.get(name))}
    is_large = sum(sizes.get(name, _UNKNOWN_BYTES) for name in exposed) > _LARGE_BYTES
    most = _MOST_PIECE_BYTES // 2 if is_large else _MOST_PIECE_BYTES
    piece = max(min(total / _PIECES, most), total / _MOST_PIECES, _LEAST_PIECE_BYTES)
    cuts = list(_cuts(order, movable, sizes, piece, set(exposed)))
    if not cuts:
        return (Piece(model, exposed, (), ()),)
    return tuple(_Pieces(model, order, types, exposed).made(cuts))


def segments(whole: Segment, pieces: Sequence[Piece]) -> tuple[Segment, ...]:
    """Returns the segments of pieces; each reads what is complete when it has run.

    Args:
        whole: what all of them are together; its graph counts for nothing.
        pieces: in the order in which they run.
    """
    made: set[str] = set()
    captures, scalings, probes = dict(whole.captures), dict(whole.scalings), dict(whole.probes)
    held = {name: at for at, piece in enumerate(pieces) for name in piece.outputs}
    found = []
    for at, piece in enumerate(pieces):
        made.update(piece.outputs)
        read, scaled, probed = (_complete(waiting, made) for waiting in (captures, scalings, probes))
        inputs = {item.name for item in piece.model.graph.input}
        # parts of a reading that is complete only later wait with what later pieces take
        incomplete = (*captures.values(), *scalings.values(), *probes.values())
        waiting = {name for reading in incomplete for name in readings.names(reading)}
        found.append(
            Segment(
                graph=graph.serialised(piece.model),
                data_folder=whole.data_folder,
                captures=read,
                outputs=tuple(name for name in whole.outputs if held.get(name) == at),
                inputs=tuple(name for name in whole.inputs if name in inputs),
                masks={mask: name for mask, name in whole.masks.items() if name in inputs},
                node_count=len(piece.model.graph.node),
                scalings=scaled,
                probes=probed,
                carried=piece.carried,
                handed=tuple(name for name in piece.outputs if name in piece.handed or name in waiting),
            )
        )
    return tuple(found)


def sizes_of(captures: Mapping[str, Reading], types: Mapping[str, ValueType | None]) -> dict[str, int]:
    """Returns about how many bytes graph outputs have, of a row and as far as that is known: it says where to cut."""
    sizes: dict[str, int] = {}
    for address, reading in captures.items():
        type_ = types.get(address)
        if isinstance(type_, TensorType) and type_.shape is not None:
            first, *others = [*type_.shape, 1]
            extents = [first if isinstance(first, int) else 1, *(_extent(size) for size in others)]
            name = next(readings.names(reading))
            size = math.prod(extents) * _ITEM_BYTES.get(type_.data_type, 4)
            sizes[name] = max(sizes.get(name, 0), size)
    return sizes


def _extent(size: Dimension) -> int:
    return size if isinstance(size, int) else _OPEN_EXTENT


def _complete(waiting: dict[str, Reading], made: set[str]) -> dict[str, Reading]:
    """Takes those readings out whose outputs are all made."""
    ready = {address: reading for address, reading in waiting.items() if made.issuperset(readings.names(reading))}
    for address in ready:
        del waiting[address]
    return ready


def _cuts(
    order: Order, movable: Collection[str], sizes: Mapping[str, int], piece: float, exposed: Collection[str]
) -> Iterator[int]:
    """Yields the numbers of nodes before which to cut; the first pieces are smaller, so that values leave early."""
    last = _last_reads(order)
    crossing: set[str] = set()
    stuck = 0
    gathered, wanted = 0.0, piece * _FIRST_SHARE
    ends: dict[int, list[str]] = {}
    for name, at in last.items():
        ends.setdefault(at, []).append(name)
    for at, node in enumerate(order.nodes):
        if gathered >= wanted and not stuck and crossing:
            yield at
            gathered, wanted = 0.0, min(piece, 2 * wanted)
        if order.varies[at]:
            for name in node.output:
                gathered += sizes.get(name, _UNKNOWN_BYTES) if name in exposed else 0
                if last.get(name, -1) > at:
                    crossing.add(name)
                    stuck += name not in movable
        for name in ends.get(at, ()):
            if name in crossing:
                crossing.discard(name)
                stuck -= name not in movable


def _last_reads(order: Order) -> dict[str, int]:
    """Returns the last node that reads each value that varies."""
    return {
        name: at
        for at, reads in enumerate(order.reads)
        for name in reads
        if name in order.producers and order.varies[order.producers[name]]
    }


class _Pieces:
    """Makes pieces of a model."""

    def __init__(
        self, model: onnx.ModelProto, order: Order, types: Mapping[str, ValueType | None], exposed: tuple[str, ...]
    ) -> None:
        self._model = model
        self._order = order
        self._types = types
        self._exposed = exposed
        main = model.graph
        self._inputs = {item.name: item for item in main.input}
        self._weights = {tensor.name: tensor for tensor in main.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in main.sparse_initializer}
        self._infos = {item.name: item for item in (*main.value_info, *main.output)}
        self._quantized = {item.tensor_name: item for item in main.quantization_annotation}
        self._functions = {(item.domain, item.name, item.overload): item for item in model.functions}

    def made(self, cuts: Iterable[int]) -> Iterator[Piece]:
        order = self._order
        bounds = [0, *cuts, len(order.nodes)]
        last = _last_reads(order)
        for first, end in itertools.pairwise(bounds):
            own = {at for at in range(first, end) if order.varies[at]}
            if not first:
                own |= {at for at in range(len(order.nodes)) if not order.varies[at] and self._is_exposed(at)}
            nodes = sorted(own | order.constants(own))
            made = {name for at in nodes for name in order.nodes[at].output if name}
            outputs = tuple(
                name
                for name in self._exposed
                if (name in made and order.producers[name] in own) or (name not in order.producers and not first)
            )
            read = dict.fromkeys(name for at in nodes for name in order.reads[at] if name not in made)
            carried = tuple(name for name in read if name in order.producers)
            handed = tuple(name for name in outputs if last.get(name, -1) >= end)
            passed = dict.fromkeys(name for name in outputs if name not in order.producers)
            yield Piece(self._model_of(nodes, {**read, **passed}, outputs), outputs, carried, handed)

    def _is_exposed(self, at: int) -> bool:
        return not set(self._exposed).isdisjoint(self._order.nodes[at].output)

    def _model_of(self, nodes: Iterable[int], read: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
        whole, listed = self._model, [self._order.nodes[at] for at in nodes]
        model = onnx.ModelProto(ir_version=whole.ir_version, producer_name=whole.producer_name)
        model.opset_import.extend(whole.opset_import)
        model.metadata_props.extend(whole.metadata_props)
        model.functions.extend(self._called(listed))
        main = model.graph
        main.name = whole.graph.name
        main.node.extend(listed)
        for name in read:
            if name in self._weights:
                main.initializer.append(self._weights[name])
            if name in self._sparse:
                main.sparse_initializer.append(self._sparse[name])
            if name in self._inputs:
                main.input.append(self._inputs[name])
            elif name in self._order.producers:
                main.input.add(name=name, type=type_proto(self._types[name]))
        main.output.extend(self._infos[name] for name in outputs)
        named = {name for node in listed for name in (*node.input, *node.output)}
        shown = named - {item.name for item in (*main.input, *main.output)}
        main.value_info.extend(item for item in whole.graph.value_info if item.name in shown)
        main.quantization_annotation.extend(item for name, item in self._quantized.items() if name in named)
        return model

    def _called(self, nodes: Iterable[onnx.NodeProto]) -> list[onnx.FunctionProto]:
        found: dict[tuple[str, str, str], onnx.FunctionProto] = {}
        waiting = list(every_node(nodes))
        while waiting:
            node = waiting.pop()
            key = (node.domain, node.op_type, node.overload)
            if key in self._functions and key not in found:
                found[key] = self._functions[key]
                waiting.extend(every_node(found[key].node))
        return [function for key, function in self._functions.items() if key in found]


def _is_plain(declared: onnx.TypeProto) -> bool:
    return declared.HasField("tensor_type") and declared.tensor_type.elem_type != DataType.STRING


def _can_cross(type_: ValueType | None) -> bool:
    return isinstance(type_, TensorType) and not type_.sparse
