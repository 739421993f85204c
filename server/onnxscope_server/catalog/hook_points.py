"""The hook points of a model: every value of its main graph, bodies and functions, what it is, and how deep it lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from onnxscope_server.catalog.description import Kind
from onnxscope_server.catalog.inside import bodies, inner_nodes, values_read
from onnxscope_server.catalog.scopes import OWN_DOMAINS, Path, Place, Step

_RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)


@dataclass(frozen=True, slots=True)
class Found:
    """A value of a model.

    Attributes:
        place: where it is.
        op_type: operator that computes it, `domain:Type` outside of ONNX's own; empty for inputs and weights.
        depth: longest path from an input, as a share of the model's longest.
        kind: what it is.
        depends: whether it depends on an input.
    """

    place: Place
    op_type: str
    depth: float
    kind: Kind
    depends: bool


def listed(model: ir.Model, paths: Iterable[Path], *, overridable: bool = True) -> tuple[Found, ...]:
    """Lists the values of a model.

    Args:
        model: its nodes in order of computation, each call with a function of its own.
        paths: to the bodies and functions whose values are hook points.
        overridable: whether initializers that are also inputs count as inputs.

    Returns:
        For each graph: inputs, then initializers, then node outputs in the order of computation; what is inside of a
        node comes before its outputs.
    """
    listing = _Listing(model, frozenset(paths))
    main = model.graph
    inputs = [value for value in main.inputs if overridable or value.name not in main.initializers]
    for value in inputs:
        listing.add((), value, "", Kind.INPUT, 0)
    given = set(inputs)
    outputs = set(main.outputs)
    for value in main.initializers.values():
        if value not in given:
            listing.add((), value, "", Kind.OUTPUT if value in outputs else Kind.WEIGHT, None)
    listing.nodes(main, (), outputs)
    longest = listing.longest or 1
    return tuple(
        Found(place, op_type, (distance or 0) / longest, kind, distance is not None)
        for place, op_type, kind, distance in listing.points
    )


class _Listing:
    """Walks a model in the order of computation.

    Distances are counted in nodes from the nearest source, an input or a random node; values that depend on none have
    no distance.
    """

    def __init__(self, model: ir.Model, paths: frozenset[Path]) -> None:
        self._model = model
        self._paths = paths
        self._distance: dict[ir.Value, int] = {}
        self.points: list[tuple[Place, str, Kind, int | None]] = []

    @property
    def longest(self) -> int:
        return max(self._distance.values(), default=0)

    def add(self, path: Path, value: ir.Value, op_type: str, kind: Kind, distance: int | None) -> None:
        if distance is not None:
            self._distance[value] = distance
        if value.name:
            self.points.append((Place(path, value.name), op_type, kind, distance))

    def nodes(self, holder: Iterable[ir.Node], path: Path, outputs: set[ir.Value]) -> None:
        for node in holder:
            lengths = [self._distance[value] for value in values_read(node) if value in self._distance]
            if not lengths and _draws(node, self._model):
                lengths = [0]
            start = max(lengths) if lengths else None
            inside = self._inside(node, path, start)
            for index, value in enumerate(node.outputs):
                before = max((start or 0) + 1, inside.get(index, 0), inside.get(None, 0))
                distance = None if start is None else before
                self.add(path, value, _op_type(node), _kind(value in outputs, start is not None), distance)

    def _inside(self, node: ir.Node, path: Path, start: int | None) -> dict[int | None, int]:
        """Lists what is in a node; returns the distances of its outputs by place, where they are known."""
        anchor = next((value.name for value in node.outputs if value.name), "") or ""
        function = self._model.functions.get(node.op_identifier())
        if function is not None:
            below = (*path, Step(anchor, node.op_type, ""))
            if below in self._paths:
                return self._function(function, node, below)
            return {}
        ends: list[int] = []
        for where, body in bodies(node):
            below = (*path, Step(anchor, where, node.op_type))
            if below in self._paths:
                self._body(body, below, start)
                ends += [self._distance[value] + 1 for value in body.outputs if value in self._distance]
        return {None: max(ends)} if ends else {}

    def _body(self, body: ir.Graph, path: Path, start: int | None) -> None:
        for value in body.inputs:
            # the state of an iteration, and the slice that it works on: never one constant
            self.add(path, value, "", _formal(start), start)
        for value in body.initializers.values():
            self.add(path, value, "", Kind.WEIGHT, None)
        self.nodes(body, path, set())

    def _function(self, function: ir.Function, node: ir.Node, path: Path) -> dict[int | None, int]:
        for formal, actual in zip(function.inputs, node.inputs, strict=False):
            if actual is not None:
                distance = self._distance.get(actual)
                self.add(path, formal, "", _formal(distance), distance)
        self.nodes(function, path, set())
        return {index: self._distance[value] for index, value in enumerate(function.outputs) if value in self._distance}


def _formal(distance: int | None) -> Kind:
    return Kind.CONSTANT if distance is None else Kind.INPUT


def _kind(is_output: bool, depends_on_input: bool) -> Kind:
    if is_output:
        return Kind.OUTPUT
    return Kind.ACTIVATION if depends_on_input else Kind.CONSTANT


def _op_type(node: ir.Node) -> str:
    return node.op_type if node.domain in OWN_DOMAINS else f"{node.domain}:{node.op_type}"


def _draws(node: ir.Node, model: ir.Model) -> bool:
    """Tells whether a node draws random numbers, itself, in its bodies or in the functions that it calls."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if current.op_type in _RANDOM:
            return True
        waiting.extend(inner_nodes(current))
        function = model.functions.get(current.op_identifier())
        if function is not None and current.op_identifier() not in seen:
            seen.add(current.op_identifier())
            waiting.extend(function)
    return False
