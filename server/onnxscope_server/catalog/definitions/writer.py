"""Writes the nodes of a definition, in the spelling of the model's version of ONNX's operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxscope_server.domain import Array, DataType

_AXES_ARE_AN_INPUT = {"Unsqueeze": 13, "Squeeze": 13, "ReduceSum": 13, "ReduceMean": 18}
_BOUNDS_ARE_INPUTS = 11
_CASTS_LIKE = 15


class Writer:
    """A list of nodes that grows. Names are the definition's own; who grafts it renames them.

    Args:
        opset: version of ONNX's own operators.
        data_type: what numbers that `number` writes are; None where it is unknown.
        like: a value of that type, for where it is unknown.
    """

    def __init__(
        self, opset: int, data_type: DataType | None, like: str = "", numbers: Iterator[int] | None = None
    ) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.parts: dict[str, str] = {}
        self._data_type = data_type
        self._like = like
        self._numbers = itertools.count() if numbers is None else numbers

    def body(self) -> Writer:
        """Returns a writer for a body of a node; names in it are not used outside."""
        return Writer(self.opset, self._data_type, self._like, self._numbers)

    def add(self, op_type: str, *inputs: str, to: str = "", outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Adds a node and returns the name of its first output: `to`, or a new one."""
        names = list(outputs) or [to or self.new(op_type)]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=names[0], **attributes))
        return names[0]

    def part(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node whose output is a part of that name."""
        return self.add(op_type, *inputs, to=self.named(name), **attributes)

    def named(self, part: str) -> str:
        """Notes a part, and returns the name that its value must have."""
        # an input of the operator may have the part's name
        self.parts[part] = f"part:{part}"
        return self.parts[part]

    def new(self, stem: str) -> str:
        """Returns a new name."""
        return f"{stem}_{next(self._numbers)}"

    def constant(self, array: Array) -> str:
        """Adds a constant."""
        return self.add("Constant", value=numpy_helper.from_array(array))

    def integers(self, *numbers: int) -> str:
        """Adds int64 [len(numbers)]."""
        return self.constant(np.array(numbers, np.int64))

    def index(self, number: int) -> str:
        """Adds an int64 scalar."""
        return self.constant(np.array(number, np.int64))

    def number(self, value: float) -> str:
        """Adds a scalar of the element type."""
        if self._data_type is None and self.opset >= _CASTS_LIKE:
            return self.add("CastLike", self.constant(np.array(value, np.float32)), self._like)
        wanted = int(self._data_type or DataType.FLOAT32)
        return self.add("Constant", value=helper.make_tensor("", wanted, [], [value]))

    def cast(self, value: str, data_type: DataType | None) -> str:
        """Changes the element type; None is that of the numbers."""
        wanted = data_type or self._data_type
        if wanted is None and self.opset >= _CASTS_LIKE:
            return self.add("CastLike", value, self._like)
        name = self.new("Cast")
        self.nodes.append(helper.make_node("Cast", [value], [name], name=name, to=int(wanted or DataType.FLOAT32)))
        return name

    def take(self, value: str, index: int, axis: int) -> str:
        """Takes one entry along an axis, which goes."""
        return self.add("Gather", value, self.index(index), axis=axis)

    def reshape(self, value: str, *shape: int, to: str = "") -> str:
        """Gives a value another shape; 0 copies a size, -1 is what is left."""
        return self.add("Reshape", value, self.integers(*shape), to=to)

    def with_axes(self, op_type: str, value: str, *axes: int, to: str = "", **attributes: Any) -> str:
        """Adds Unsqueeze, Squeeze, ReduceSum or ReduceMean."""
        if self.opset >= _AXES_ARE_AN_INPUT[op_type]:
            return self.add(op_type, value, self.integers(*axes), to=to, **attributes)
        return self.add(op_type, value, to=to, axes=axes, **attributes)

    def clip(self, value: str, bound: float) -> str:
        """Bounds a value on both sides of zero."""
        if self.opset >= _BOUNDS_ARE_INPUTS:
            return self.add("Clip", value, self.number(-bound), self.number(bound))
        return self.add("Clip", value, min=-bound, max=bound)
