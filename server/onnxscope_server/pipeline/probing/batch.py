"""A batch of rows to learn from, as callers give it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from onnxscope_server.domain import Array, Value
from onnxscope_server.errors import DataInvalidError

_NOTHING: Mapping[str, Any] = MappingProxyType({})
# kinds of numpy's types that something beside the rows can't have: labels and groups may be text
_NO_NUMBERS: Mapping[str, str] = MappingProxyType({"labels": "c", "groups": "c", "weights": "OUSc", "test": "OUSc"})


class ProbeBatch(NamedTuple):
    """Inputs of a model with what belongs to their rows.

    Attributes:
        inputs: of the model, by name; without a model `activations` [row, feature].
        masks: by the names that reductions give them.
        labels: [row], [row, position] or [row, label]; None for unsupervised kinds. Rows behind the last label only
            fill a fixed batch, and are left out.
        groups: [row]: rows of one group are never parted.
        weights: [row].
        test: bool [row]: rows to hold out.
    """

    inputs: Mapping[str, Value]
    masks: Mapping[str, Array] = _NOTHING
    labels: Array | None = None
    groups: Array | None = None
    weights: Array | None = None
    test: Array | None = None

    @property
    def beside(self) -> dict[str, Array]:
        """What comes with rows, by its name on the wire."""
        found = {"labels": self.labels, "groups": self.groups, "weights": self.weights, "test": self.test}
        return {name: array for name, array in found.items() if array is not None}

    def row_count(self, extent: int) -> int:
        """Returns the number of rows that count.

        Args:
            extent: of the batch axis.

        Raises:
            DataInvalidError: what comes with the rows is not of one length, of more rows than there are, or no number
                where a number is due.
        """
        for name, array in self.beside.items():
            if array.dtype.kind in _NO_NUMBERS[name]:
                raise DataInvalidError(f"{name} must be numbers or flags, not {array.dtype}.", what=name)
        counts = {name: len(array) if array.ndim else -1 for name, array in self.beside.items()}
        if len(set(counts.values())) > 1 or any(not 0 <= count <= extent for count in counts.values()):
            told = ", ".join(f"{name} {list(self.beside[name].shape)}" for name in counts)
            raise DataInvalidError(
                f"The batch has {extent} rows, and what comes with them is {told}. Send as many labels, groups, "
                "weights and test flags as there are rows; only rows that fill a fixed batch may lack them.",
                what=", ".join(counts),
            )
        return next(iter(counts.values()), extent)

    def digest(self) -> str:
        """Returns a digest of all that the batch holds, hexadecimal."""
        found = hashlib.blake2b(digest_size=16)
        for what, values in (("input", self.inputs), ("mask", self.masks), ("", self.beside)):
            for name in sorted(values):
                found.update(f"{what}/{name}:".encode())
                _add(found, values[name])
        return found.hexdigest()


def _add(found: Any, value: Value) -> None:
    if isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode())
        if value.dtype == object:
            for text in value.ravel().tolist():
                encoded = str(text).encode()
                found.update(f"{len(encoded)}:".encode() + encoded)
        else:
            found.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, list):
        found.update(f"list{len(value)}".encode())
        for item in value:
            _add(found, item)
    else:
        found.update(repr(value).encode())
