"""Frozen values that the stages exchange about what a run brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from onnxscope_server.domain import Array, DataType, Value

# what a value of a result is, as `Result` names it
ValueKind: TypeAlias = Literal["activations", "scalings", "probes", "outputs"]
VALUE_KINDS: tuple[ValueKind, ...] = ("activations", "scalings", "probes", "outputs")


@dataclass(frozen=True, slots=True, eq=False)
class Destination:
    """Where an output is written run after run: who has memory for it had best give it the same each time.

    Attributes:
        data_type: type of its elements.
        shape: its shape.
    """

    data_type: DataType
    shape: tuple[int, ...]


# an array of the caller's for an output to be written into; None where it has none for it
Memory: TypeAlias = Callable[[Destination], "Array | None"]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What watching did to a run; see capture_service.proto."""

    fusion_blocked: bool = False
    changed_operators: tuple[str, ...] = ()
    max_output_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a run, or a part of one, brought: values by address and by output name, seconds per stage, fidelity.

    `scalings` are the scales and zero points of quantised activations, by address; `probes` outputs of probes, by the
    names that they travel under. Only the last part of a run has timings and a fidelity.
    """

    activations: Mapping[str, Value]
    outputs: Mapping[str, Value]
    scalings: Mapping[str, Value] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    fidelity: Fidelity = field(default_factory=Fidelity)
    probes: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        values: Mapping[ValueKind, Mapping[str, Value]],
        timings: Mapping[str, float] | None = None,
        fidelity: Fidelity | None = None,
    ) -> Result:
        """Returns a result of values by their kind and their name."""
        return cls(
            activations=values.get("activations", {}),
            outputs=values.get("outputs", {}),
            scalings=values.get("scalings", {}),
            timings=timings or {},
            fidelity=fidelity or Fidelity(),
            probes=values.get("probes", {}),
        )

    @property
    def values(self) -> Mapping[ValueKind, Mapping[str, Value]]:
        """All values, by their kind and their name."""
        return {kind: getattr(self, kind) for kind in VALUE_KINDS}

    @property
    def byte_count(self) -> int:
        """Bytes of all arrays."""
        return sum(bytes_held(value) for values in self.values.values() for value in values.values())


def bytes_held(value: Value) -> int:
    """Returns the bytes of an array, or of those in a list."""
    if isinstance(value, list):
        return sum(map(bytes_held, value))
    return value.nbytes if isinstance(value, np.ndarray) else 0
