"""Activations that are in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Rows


@dataclass(frozen=True, slots=True, eq=False)
class ArrayRows(Rows):
    """Rows that are in memory: float32 [example, feature]."""

    array: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples and of features."""
        return self.array.shape[0], self.array.shape[1]

    def take(self, examples: Array) -> Array:
        """Returns some examples [example, feature], in the order of their numbers."""
        return np.asarray(self.array[examples])


def in_memory(activations: Array) -> Rows:
    """Returns an array [example, ...] of numbers as rows: float32, and flattened behind the examples."""
    if activations.ndim == 0:
        raise DataInvalidError("activations are one number: give an array [row, feature]")
    return ArrayRows(np.ascontiguousarray(activations.reshape(len(activations), -1), dtype=np.float32))
