"""What a value looks like in numbers: dtype, shape, size, smallest, mean, largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnxscope.v1.codec import Array


@dataclass(frozen=True, slots=True)
class Summary:
    """What a table says of one array; statistics are over finite elements, None where there are none.

    Attributes:
        name: address or output.
        role: `activation` or `output`.
        dtype: of the elements; `string` for text.
        shape: of the array; None where the value is absent.
        byte_count: of the array in memory; for text that of its UTF-8.
        minimum: smallest element.
        mean: in float64.
        maximum: largest element.
        non_finite: number of NaNs and infinities.
    """

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...] | None
    byte_count: int
    minimum: float | None = None
    mean: float | None = None
    maximum: float | None = None
    non_finite: int = 0

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {
            "name": self.name,
            "role": self.role,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "bytes": self.byte_count,
            "min": self.minimum,
            "mean": self.mean,
            "max": self.maximum,
            "non_finite": self.non_finite,
        }


def absent(name: str, role: str) -> Summary:
    """Returns the summary of a value that is not there."""
    return Summary(name, role, "absent", None, 0)


def of(name: str, role: str, array: Array) -> Summary:
    """Returns the summary of an array.

    Args:
        name: address or output.
        role: `activation` or `output`.
        array: of any dtype and shape.
    """
    if array.dtype.kind in "OUST":
        size = sum(len(str(item).encode()) for item in array.reshape(-1))
        return Summary(name, role, "string", array.shape, size)
    look = Summary(name, role, array.dtype.name, array.shape, array.nbytes)
    if array.dtype.kind == "c" or array.size == 0:
        return look
    # types of ml_dtypes lack some of numpy's functions; each fits into float32
    numbers = array if array.dtype.isbuiltin == 1 else array.astype(np.float32)
    non_finite = 0
    if numbers.dtype.kind == "f":
        finite = np.isfinite(numbers)
        non_finite = int(numbers.size - finite.sum())
        numbers = numbers[finite] if non_finite else numbers
    if numbers.size == 0:
        return Summary(name, role, look.dtype, look.shape, look.byte_count, non_finite=non_finite)
    return Summary(
        name,
        role,
        look.dtype,
        look.shape,
        look.byte_count,
        float(numbers.min()),
        float(numbers.mean(dtype=np.float64)),
        float(numbers.max()),
        non_finite,
    )
