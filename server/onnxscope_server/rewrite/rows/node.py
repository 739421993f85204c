"""A node as the rules see it: its attributes, and what is known of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx

from onnxscope_server.domain import RowAxis
from onnxscope_server.rewrite.rows.facts import Count, Facts, MixedRowsError, Size

_LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS)


class Node:
    """A node and what is known of its inputs.

    Args:
        proto: the node, what it takes from a function's caller in place.
        version: of its operator set.
        inputs: facts in order; None for one that is left out.

    Attributes:
        proto: the node.
        op_type: its operator.
        version: of its operator set.
        inputs: facts in order; None for one that is left out.
    """

    def __init__(self, proto: onnx.NodeProto, version: int, inputs: Sequence[Facts | None]) -> None:
        self.proto = proto
        self.op_type = proto.op_type
        self.version = version
        self.inputs = tuple(inputs)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Returns an attribute's value."""
        for item in self.proto.attribute:
            if item.name == name:
                value = onnx.helper.get_attribute_value(item)
                if isinstance(value, bytes):
                    return value.decode(errors="replace")
                return list(value) if item.type in _LISTS else value
        return default

    def at(self, index: int) -> Facts | None:
        """Returns an input; None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def given(self, index: int) -> Facts:
        """Returns an input that has to be there."""
        found = self.at(index)
        if found is None:
            raise self.mixes("lacks an input")
        return found

    def ranked(self, index: int) -> Facts:
        """Returns an input of known rank."""
        found = self.given(index)
        if found.shape is None:
            raise self.mixes("has an input whose rank is not known before it runs")
        return found

    def fixed(self, index: int) -> Facts | None:
        """Returns an input that must be the same whatever the rows are; None where it is left out."""
        found = self.at(index)
        if found is not None and not found.is_fixed:
            raise self.mixes(f"computes its input {index} from the rows")
        return found

    def all_fixed(self, start: int) -> None:
        """Insists that inputs from a place on are the same whatever the rows are."""
        for index in range(start, len(self.inputs)):
            self.fixed(index)

    def numbers(self, index: int, attribute: str = "") -> list[Size] | None:
        """Returns the numbers that an input holds, or an attribute of older operator sets.

        Returns:
            The numbers; None where both are left out.

        Raises:
            MixedRowsError: they are not known before it runs.
        """
        found = self.at(index)
        if found is None:
            given = self.attribute(attribute) if attribute else None
            return None if given is None else list(given) if isinstance(given, list | tuple) else [given]
        if found.content is None:
            raise self.mixes(f"has numbers in input {index} that are not known before it runs")
        return list(found.content.reshape(-1).tolist())

    def whole_numbers(self, index: int, attribute: str = "") -> list[int] | None:
        """Does what `numbers` does for numbers that don't depend on the rows."""
        numbers = self.numbers(index, attribute)
        if numbers is None:
            return None
        known = [int(number) for number in numbers if isinstance(number, int | float)]
        if len(known) != len(numbers):
            raise self.mixes(f"depends on the number of rows in input {index}")
        return known

    def on(self, facts: Facts, axis: int | None = None) -> RowAxis:
        """Returns the place of a value's rows, on another axis where one is given."""
        rows = facts.rows
        if rows is None:
            raise self.mixes("takes rows where it wants the same for all")
        return rows if axis is None else RowAxis(axis, rows.per_row)

    def mixes(self, why: str) -> MixedRowsError:
        """Returns the error that says what this node does to the rows."""
        name = f" {self.proto.name!r}" if self.proto.name else ""
        return MixedRowsError(f"{self.op_type}{name} {why}")


Placed: TypeAlias = RowAxis | Facts | None
Rule: TypeAlias = Callable[[Node], Sequence[Placed]]


def rowed(facts: Facts, shape: Sequence[Size], axis: int) -> Facts:
    """Returns a value of the same type with rows and this shape."""
    assert isinstance(shape[axis], Count)  # noqa: S101  # what an axis of rows is
    return Facts(facts.data_type, tuple(shape), axis)
