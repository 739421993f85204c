"""The proof for a segment, with inputs of one shape."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnxscope_server.catalog import graph
from onnxscope_server.domain import Output, RowAxis, Segment
from onnxscope_server.rewrite.rows.facts import Count, Facts, MixedRowsError
from onnxscope_server.rewrite.rows.walk import Walk


def row_axes(segment: Segment, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, RowAxis | None]:
    """Says where rows are in what a segment gives, if its inputs have rows along their first axis.

    Args:
        segment: what runs.
        inputs: the sizes behind the first axis, of each input of the graph that callers give.

    Returns:
        The place of the rows of each graph output that is read; None for what is the same whatever the rows are.

    Raises:
        MixedRowsError: some value is not proved to be made of rows that are computed each on its own.
    """
    proto = _in_order(segment.graph)
    declared = {info.name: info for info in proto.graph.input}
    facts = Walk(proto).facts({name: _given(declared[name], sizes) for name, sizes in inputs.items()})
    axes = {}
    for name in _read(segment):
        found = facts.get(name)
        if found is None or not (found.has_rows or found.is_fixed):
            raise MixedRowsError(f"{name!r} holds the number of rows")
        axes[name] = found.rows
    return axes


def _in_order(data: bytes) -> onnx.ModelProto:
    proto = graph.parse(data)
    return proto if graph.in_order(proto.graph) else graph.parse(graph.write(graph.read(data)))


def _given(declared: onnx.ValueInfoProto, sizes: tuple[int, ...]) -> Facts:
    tensor = declared.type.tensor_type
    if tensor.HasField("shape") and tensor.shape.dim and tensor.shape.dim[0].HasField("dim_value"):
        raise MixedRowsError(f"the input {declared.name!r} has a fixed size along its first axis")
    return Facts(tensor.elem_type or None, (Count(1), *sizes), 0)


def _read(segment: Segment) -> list[str]:
    names = list(segment.outputs)
    for address, reading in [*segment.captures.items(), *segment.scalings.items(), *segment.probes.items()]:
        if not isinstance(reading, Output):
            raise MixedRowsError(f"{address!r} is read out of a body")
        names.append(reading.name)
    return names
