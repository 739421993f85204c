"""Names for new values that no other value of a model has."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from onnxscope_server.rewrite.bodies import inner_graphs


def value_names(model: ir.Model) -> set[str]:
    """Returns the names of all values of the main graph and of every body in it."""
    graphs = [model.graph, *(body for node in model.graph for body in inner_graphs(node))]
    names: set[str] = set()
    for graph in graphs:
        names.update(value.name for value in (*graph.inputs, *graph.outputs) if value.name)
        names.update(graph.initializers)
        names.update(value.name for node in graph for value in node.outputs if value.name)
    return names


class FreshNames:
    """Gives out names that are new in a model, in bodies too, where a clash would hide the outer value."""

    def __init__(self, model: ir.Model) -> None:
        self._taken = value_names(model)

    def like(self, wanted: str) -> str:
        """Returns `wanted`, or `wanted_1`, `wanted_2` ... where it is taken, and takes it."""
        candidates = itertools.chain([wanted], (f"{wanted}_{count}" for count in itertools.count(1)))
        name = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(name)
        return name
