"""The hook points of a model: every value of its main graph, what it is, and how deep it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from onnxscope_server.domain import HookPoint, Kind, ValueType

_OWN_DOMAINS = ("", "ai.onnx")
_RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)


def listed(model: ir.Model, types: Mapping[str, ValueType], *, overridable: bool = True) -> tuple[HookPoint, ...]:
    """Lists the values of the main graph.

    Args:
        model: its nodes in order of computation.
        types: what is known of the values' types, by name.
        overridable: whether initializers that are also inputs count as inputs.

    Returns:
        Inputs, then initializers, then node outputs in the order of computation.
    """
    main = model.graph
    inputs = [value for value in main.inputs if overridable or value.name not in main.initializers]
    outputs = {value.name for value in main.outputs}
    # distance in nodes from the nearest source, an input or a random node; values that depend on none are not in it
    distance: dict[str, int] = {value.name or "": 0 for value in inputs}
    points: list[tuple[str, str, Kind]] = [(name, "", Kind.INPUT) for name in distance]
    points.extend(
        (name, "", Kind.OUTPUT if name in outputs else Kind.WEIGHT)
        for name in main.initializers
        if name not in distance
    )
    for node in main:
        lengths = [distance[name] for name in _read(node) if name in distance]
        if not lengths and _draws(node, model):
            lengths = [0]
        for value in node.outputs:
            if not value.name:
                continue
            if lengths:
                distance[value.name] = max(lengths) + 1
            points.append((value.name, _op_type(node), _kind(value.name in outputs, bool(lengths))))
    longest = max(distance.values(), default=0) or 1
    return tuple(
        HookPoint(name, op_type, types.get(name), distance.get(name, 0) / longest, kind)
        for name, op_type, kind in points
    )


def _kind(is_output: bool, depends_on_input: bool) -> Kind:
    if is_output:
        return Kind.OUTPUT
    return Kind.ACTIVATION if depends_on_input else Kind.CONSTANT


def _op_type(node: ir.Node) -> str:
    return node.op_type if node.domain in _OWN_DOMAINS else f"{node.domain}:{node.op_type}"


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _inner(node: ir.Node) -> Iterator[ir.Node]:
    for body in _bodies(node):
        for inner in body:
            yield inner
            yield from _inner(inner)


def _read(node: ir.Node) -> Iterator[str]:
    """Names of the main graph's values that a node reads, itself or in its bodies."""
    for value in node.inputs:
        if value is not None and value.name:
            yield value.name
    for inner in _inner(node):
        for value in inner.inputs:
            if value is not None and value.name and value.graph is node.graph:
                yield value.name


def _draws(node: ir.Node, model: ir.Model) -> bool:
    """Tells whether a node draws random numbers, itself, in its bodies or in the functions that it calls."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if current.op_type in _RANDOM:
            return True
        waiting.extend(_inner(current))
        function = model.functions.get(current.op_identifier())
        if function is not None and current.op_identifier() not in seen:
            seen.add(current.op_identifier())
            waiting.extend(function)
    return False
