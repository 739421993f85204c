"""LSTM, GRU and RNN, step by step: gates and states as arrays [position, direction, row, unit].

One direction of an operator is a Loop over the positions. What the weights make of the input is computed before it,
for all positions at once; the last direction runs from the end to the beginning.

    x ─ MatMul(W), Add(biases) ─> [position, row, gate x unit] ─┐
    initial states ────────────────────────────────────────────> Loop ─> gates and states [position, row, unit]
                                                                  └ position by position: gates -> states

A row that is shorter than the others keeps its state beyond its end, and has zeros there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxscope_server.catalog.definitions import cells
from onnxscope_server.catalog.definitions.activations import activations
from onnxscope_server.catalog.definitions.definition import Definition
from onnxscope_server.catalog.definitions.writer import Writer
from onnxscope_server.domain import DataType, TensorType, ValueType

_Cell: TypeAlias = type[cells.LSTM | cells.GRU | cells.RNN]
OPERATORS: dict[str, _Cell] = {"LSTM": cells.LSTM, "GRU": cells.GRU, "RNN": cells.RNN}
_SINCE = 7
_SELECTS = 9
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_BATCH_FIRST = 1
_RANK = 3


@dataclass(frozen=True, slots=True)
class _Direction:
    """What one direction of an operator reads.

    Attributes:
        index: its place in the weights.
        backward: whether it begins at the end.
        x: [position, row, gate x unit], or before the weights [position, row, feature].
        lengths: number of positions of each row, float32 [row, 1]; empty where all are full.
    """

    index: int
    backward: bool
    x: str
    lengths: str


def definition(node: onnx.NodeProto, opset: int, types: Mapping[str, ValueType]) -> Definition | None:
    """Returns the definition of a recurrent node.

    Args:
        node: LSTM, GRU or RNN.
        opset: version of ONNX's own operators.
        types: what is known of the types of the node's inputs, by name.

    Returns:
        The definition; None for nodes older than opset 7, and for those that don't say their number of units.
    """
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if opset < _SINCE or not attributes.get("hidden_size"):
        return None
    make = OPERATORS[node.op_type]
    x_type = types.get(node.input[0])
    known = x_type if isinstance(x_type, TensorType) else None
    given = {formal for formal, name in zip(_INPUTS, node.input, strict=False) if name}
    writer = Writer(opset, known.data_type if known else None, "X")
    batch_first = attributes.get("layout", 0) == _BATCH_FIRST
    x = writer.add("Transpose", "X", perm=[1, 0, 2]) if batch_first else "X"
    lengths = ""
    if "sequence_lens" in given:
        lengths = writer.reshape(writer.cast("sequence_lens", DataType.FLOAT32), -1, 1)
    direction = attributes.get("direction", b"forward").decode()
    backwards = {"forward": [False], "reverse": [True]}.get(direction, [False, True])
    functions = activations(attributes, make.activations, len(backwards))
    found: dict[str, list[str]] = {name: [] for name in make.parts}
    for index, backward in enumerate(backwards):
        one = _Direction(index, backward, x, lengths)
        cell = make(writer, attributes, given, functions[index], index)
        for name, value in _run(writer, cell, one, batch_first=batch_first, given=given).items():
            found[name].append(value)
    for name, values in found.items():
        _joined(writer, values, name)
    parts = {name: name for name in make.parts}
    part_type = partial(_part_type, len(backwards), attributes["hidden_size"], batch_first)
    return Definition(_INPUTS, tuple(writer.nodes), parts, part_type, is_one_operator=True)


def _part_type(directions: int, units: int, batch_first: bool, x: ValueType | None) -> TensorType | None:
    if not isinstance(x, TensorType):
        return None
    positions, rows = x.shape[:2] if x.shape is not None and len(x.shape) == _RANK else (None, None)
    if batch_first:
        positions, rows = rows, positions
    return TensorType(x.data_type, (positions, directions, rows, units))


def _run(writer: Writer, cell: cells.Cell, one: _Direction, *, batch_first: bool, given: set[str]) -> dict[str, str]:
    """Writes the Loop of one direction; returns each part [position, row, unit]."""
    projected = cell.project(one.x)
    shape = writer.add("Shape", one.x)
    count = writer.take(shape, 0, 0)
    last = writer.add("Sub", count, writer.index(1))
    initial = {
        name: _initial(writer, f"initial_{name}", shape, cell.units, one.index, batch_first=batch_first, given=given)
        for name in cell.states
    }
    body = writer.body()
    step, condition = body.new("step"), body.new("condition")
    states = {name: body.new(name) for name in cell.states}
    position = body.add("Sub", last, step) if one.backward else body.add("Identity", step)
    found = cell.step(body, body.add("Gather", projected, position, axis=0), states)
    live = ""
    if one.lengths:
        live = body.add("Less", body.cast(position, DataType.FLOAT32), one.lengths)
    kept = [_where(body, live, found[cell.states[name]], old) for name, old in states.items()]
    zero = body.number(0.0) if live else ""
    scanned = [_where(body, live, found[name], zero) for name in cell.parts]
    results = [body.add("Identity", condition), *kept, *(body.add("Identity", name) for name in (*scanned, position))]
    graph = helper.make_graph(
        body.nodes,
        "steps",
        [
            helper.make_tensor_value_info(step, TensorProto.INT64, []),
            helper.make_tensor_value_info(condition, TensorProto.BOOL, []),
            *(onnx.ValueInfoProto(name=name) for name in states.values()),
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
    )
    outputs = [writer.new("final") for _ in states] + [writer.new(name) for name in (*cell.parts, "position")]
    going = writer.constant(np.array(True))
    writer.add("Loop", count, going, *initial.values(), outputs=outputs, body=graph)
    parts = dict(zip(cell.parts, outputs[len(states) :], strict=False))
    if one.backward:
        # the first step wrote the last position: the list of positions is its own inverse
        parts = {name: writer.add("Gather", value, outputs[-1], axis=0) for name, value in parts.items()}
    return parts


def _initial(
    writer: Writer, name: str, shape: str, units: int, direction: int, *, batch_first: bool, given: set[str]
) -> str:
    """Writes the state before the first step, [row, unit]."""
    if name in given:
        return writer.take(name, direction, 1 if batch_first else 0)
    rows = writer.add("Gather", shape, writer.integers(1), axis=0)
    zero = writer.reshape(writer.number(0.0), 1, 1)
    return writer.add("Tile", zero, writer.add("Concat", rows, writer.integers(units), axis=0))


def _where(writer: Writer, live: str, value: str, other: str) -> str:
    """Writes a choice between two values, by row."""
    if not live:
        return value
    if writer.opset >= _SELECTS:
        return writer.add("Where", live, value, other)
    weight = writer.cast(live, None)
    left = writer.add("Sub", writer.number(1.0), weight)
    return writer.add("Add", writer.add("Mul", weight, value), writer.add("Mul", left, other))


def _joined(writer: Writer, values: list[str], name: str) -> None:
    """Puts the directions side by side: [position, direction, row, unit]."""
    if len(values) == 1:
        writer.with_axes("Unsqueeze", values[0], 1, to=name)
        return
    writer.add("Concat", *(writer.with_axes("Unsqueeze", value, 1) for value in values), to=name, axis=1)
