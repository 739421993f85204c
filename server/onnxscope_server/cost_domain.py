"""Frozen values that the stages exchange about what a plan costs."""

from __future__ import annotations

from dataclasses import dataclass

from onnxscope_server.domain import PlannedProbe, Quantization, ValueType


@dataclass(frozen=True, slots=True)
class PlannedValue:
    """A value that a plan brings; `byte_count` is None where a size is unknown."""

    name: str
    is_output: bool
    type: ValueType | None
    byte_count: int | None
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True)
class PlanCost:
    """What a plan brings, how much of the model it runs, and the probes that run with it."""

    values: tuple[PlannedValue, ...]
    node_count: int
    model_node_count: int
    probes: tuple[PlannedProbe, ...] = ()

    @property
    def known_byte_count(self) -> int:
        """Sum of the sizes that are known."""
        return sum(value.byte_count or 0 for value in self.values)

    @property
    def unknown_count(self) -> int:
        """Number of values whose size is unknown."""
        return sum(value.byte_count is None for value in self.values)
