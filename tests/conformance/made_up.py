"""Inputs for models that come without any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnxscope_server.domain import DataType, TensorType, ValueType
from onnxscope_server.run.values import DTYPES

_SIZES = (1, 2, 8, 16, 32, 64, 128, 224, 256, 320, 640)
_INTEGERS = (1, 0, 3, 16000)


def attempts(inputs: Mapping[str, ValueType | None]) -> Iterator[dict[str, Any]]:
    """Yields inputs to try, small ones first; open sizes take the same number."""
    for integer in _INTEGERS:
        for size in _SIZES:
            feeds = _feeds(inputs, size, integer)
            if feeds is None:
                return
            yield feeds


def _feeds(inputs: Mapping[str, ValueType | None], size: int, integer: int) -> dict[str, Any] | None:
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for name, type_ in inputs.items():
        if not isinstance(type_, TensorType):
            return None
        shape = [extent if isinstance(extent, int) and extent > 0 else size for extent in type_.shape or ()]
        if shape and not isinstance((type_.shape or ())[0], int):
            shape[0] = 1
        dtype = DTYPES[type_.data_type]
        if type_.data_type is DataType.STRING:
            feeds[name] = np.full(shape, "a", object)
        elif dtype.kind in "iub":
            feeds[name] = np.full(shape, integer).astype(dtype)
        else:
            feeds[name] = rng.uniform(0, 1, shape).astype(dtype)
    return feeds
