"""In which form a node uses its operator: attributes, and which inputs it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxscope_server.domain import TensorType, ValueType


@dataclass(frozen=True, slots=True)
class Form:
    """What a node says beside its wiring.

    Attributes:
        attributes: values by name.
        inputs: types of the inputs that it has, by the operator's names for them.
    """

    attributes: Mapping[str, Any]
    inputs: Mapping[str, ValueType | None]

    def has(self, name: str) -> bool:
        """Tells whether the node has an input."""
        return name in self.inputs

    def number(self, name: str, default: float) -> float:
        """Returns an attribute that is a number."""
        return float(self.attributes.get(name, default))

    def rank(self, name: str) -> int | None:
        """Returns the number of an input's axes; None where it is unknown."""
        known = self.inputs.get(name)
        return len(known.shape) if isinstance(known, TensorType) and known.shape is not None else None
