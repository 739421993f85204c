"""The pass that brings values out of bodies and functions into the main graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
import onnx_ir as ir

from onnxscope_server.catalog.scopes import Path, Place, Step
from onnxscope_server.domain import DataType, OptionalType, Output, Reading, SequenceType, Shaped, TensorType, ValueType
from onnxscope_server.rewrite import readings
from onnxscope_server.rewrite.crossing import CROSSINGS, Leaf, Site
from onnxscope_server.rewrite.names import FreshNames
from onnxscope_server.rewrite.opset import opset_of
from onnxscope_server.rewrite.scopes import Holder, inside, node_at, values_by_name

K = TypeVar("K", bound=Hashable)


class Lift(ir.passes.InPlacePass, Generic[K]):
    """Makes values of bodies and functions values of the main graph, one level after the other.

    A node gets one more output for each value that comes out of it. `Crossing` knows what an If, a Loop or a call makes
    of it, and the reading tells how to undo that: which branch was taken, where an iteration begins.

        Before:  x -> Loop(body: Neg -> n -> Add -> s) -> y
        After:   x -> Loop(body: Neg -> n -> Add -> s) -> y, n::out       n's reading: Each(Output("n::out"))

    Args:
        places: of the values, by any key.
        types: of values, of one iteration; those of values in branches must be known.
        varying: whether shapes may differ between iterations even where types say otherwise.

    Attributes:
        lifted: how to read each from values of the main graph, after the call.
    """

    def __init__(
        self, places: Mapping[K, Place], types: Mapping[Place, ValueType | None], *, varying: bool = False
    ) -> None:
        self._places = dict(places)
        self._types = types
        self._varying = varying
        self.lifted: dict[K, Reading] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds outputs to nodes, bodies and functions.

        Raises:
            NotImplementedYetError: a value of its type cannot leave the body that it is in.
        """
        self._model, self._names = model, FreshNames(model)
        self._leaves: dict[str, Leaf] = {}
        found = self._rise(model.graph, (), self._places)
        self.lifted = {
            key: readings.replaced(reading, lambda key: Output(self._leaves[key].value.name or ""))
            for key, reading in found.items()
        }
        return ir.passes.PassResult(model, modified=bool(found))

    def ensures(self, model: ir.Model) -> None:
        """Everything that a reading reads is a value of the main graph."""
        there = values_by_name(model.graph)
        if any(name not in there for reading in self.lifted.values() for name in readings.names(reading)):
            raise ir.passes.PostconditionError("a value did not come out")

    def _rise(self, holder: Holder, path: Path, places: Mapping[K, Place]) -> dict[K, Reading]:
        """Returns readings, by key, of values of the graph at `path`; `places` are in it or below."""
        below: dict[Step, dict[K, Place]] = {}
        for key, place in places.items():
            if len(place.path) > len(path):
                below.setdefault(place.path[len(path)], {})[key] = place
        found: dict[K, Reading] = {}
        for step, group in below.items():
            node = node_at(holder, step.anchor)
            risen = self._rise(inside(self._model, node, step), (*path, step), group)
            found |= self._cross(holder, path, step, risen)
        values = values_by_name(holder)
        for key, place in places.items():
            if len(place.path) == len(path):
                leaf = Leaf(values[place.name], self._types.get(place))
                varies = self._varying and place.repeats and not isinstance(leaf.type, SequenceType | OptionalType)
                found[key] = self._flat(holder, leaf) if varies else self._leaf(leaf)
        return found

    def _flat(self, holder: Holder, leaf: Leaf) -> Reading:
        """Takes an array apart into its elements and its shape, either of which has one axis in every iteration."""
        names = [self._names.like(f"{leaf.value.name}::{part}") for part in ("all", "elements", "shape")]
        all_of_them, elements, shape = (ir.Value(name=name) for name in names)
        nodes = [
            ir.node("Constant", [], {"value": ir.tensor(np.array([-1], np.int64))}, outputs=[all_of_them]),
            ir.node("Reshape", [leaf.value, all_of_them], outputs=[elements]),
            ir.node("Shape", [leaf.value], outputs=[shape]),
        ]
        holder.extend(nodes)
        type_ = replace(leaf.type, shape=(None,)) if isinstance(leaf.type, TensorType) else leaf.type
        sizes = TensorType(DataType.INT64, (None,))
        return Shaped(self._leaf(Leaf(elements, type_, flat=True)), self._leaf(Leaf(shape, sizes, flat=True)), 0)

    def _cross(self, holder: Holder, path: Path, step: Step, risen: Mapping[K, Reading]) -> dict[K, Reading]:
        keys = tuple(dict.fromkeys(name for reading in risen.values() for name in readings.names(reading)))
        site = Site(self._model, self._names, holder, step, opset_of(self._model, path), self._varying, self._leaf)
        crossing = CROSSINGS[step.op_type](site)
        outside = dict(zip(keys, crossing.bring_out([self._leaves[key] for key in keys]), strict=True))
        return {
            key: crossing.told(readings.replaced(reading, outside.__getitem__, iterations=crossing.iterations))
            for key, reading in risen.items()
        }

    def _leaf(self, leaf: Leaf) -> Output:
        key = str(len(self._leaves))
        self._leaves[key] = leaf
        return Output(key)
