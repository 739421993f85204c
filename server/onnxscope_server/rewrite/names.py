"""Names for new values that no other value of a model has."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from onnxscope_server.catalog.inside import inner_graphs


def value_names(model: ir.Model) -> set[str]:
    """Returns the names of all values of the main graph, of functions, and of every body in them."""
    holders: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    holders += [body for holder in tuple(holders) for node in holder for body in inner_graphs(node)]
    names: set[str] = set()
    for holder in holders:
        names.update(value.name for value in (*holder.inputs, *holder.outputs) if value.name)
        names.update(holder.initializers if isinstance(holder, ir.Graph) else ())
        names.update(value.name for node in holder for value in node.outputs if value.name)
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
