"""Finds the graph or function behind a path in onnx-ir, and what is in it."""

from __future__ import annotations

from typing import TypeAlias

import onnx_ir as ir

from onnxscope_server.catalog.inside import bodies
from onnxscope_server.catalog.scopes import Path, Step

Holder: TypeAlias = ir.Graph | ir.Function


def holder_at(model: ir.Model, path: Path) -> Holder:
    """Returns the graph or function that a path leads to."""
    holder: Holder = model.graph
    for step in path:
        holder = inside(model, node_at(holder, step.anchor), step)
    return holder


def node_at(holder: Holder, anchor: str) -> ir.Node:
    """Returns the node that computes a value of a graph."""
    return next(node for node in holder if any(value.name == anchor for value in node.outputs))


def inside(model: ir.Model, node: ir.Node, step: Step) -> Holder:
    """Returns the body of a node, or the function that it calls, that a step leads to."""
    if not step.op_type:
        return model.functions[node.op_identifier()]
    return next(body for where, body in bodies(node) if where == step.where)


def values_by_name(holder: Holder) -> dict[str, ir.Value]:
    """Returns the values of one graph or function, without those of bodies."""
    values = {value.name: value for value in holder.inputs if value.name}
    if isinstance(holder, ir.Graph):
        values |= holder.initializers
    values |= {value.name: value for node in holder for value in node.outputs if value.name}
    return values
