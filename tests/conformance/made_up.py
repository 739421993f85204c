"""Inputs for models that come without any."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxscope_server.domain import DataType, Dimension, TensorType, ValueType
from onnxscope_server.run.values import DTYPES

_SIZES = (1, 2, 8, 16, 32, 64, 128, 224, 256, 320, 512, 576, 640)
_INTEGERS = (1, 0, 3, 16000)


def attempts(inputs: Mapping[str, ValueType | None]) -> Iterator[dict[str, Any]]:
    """Yields inputs to try, small ones first; open sizes take the same number, but for the batch's."""
    for integer, size, last_only in itertools.product(_INTEGERS, _SIZES, (False, True)):
        feeds = _feeds(inputs, size, integer, last_only=last_only)
        if feeds is None:
            return
        yield feeds


def _feeds(
    inputs: Mapping[str, ValueType | None], size: int, integer: int, *, last_only: bool
) -> dict[str, Any] | None:
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for name, type_ in inputs.items():
        if not isinstance(type_, TensorType):
            return None
        shape = _shape(type_.shape or (), size, last_only=last_only)
        dtype = DTYPES[type_.data_type]
        if type_.data_type is DataType.STRING:
            feeds[name] = np.full(shape, "a", object)
        elif dtype.kind in "iub":
            feeds[name] = np.full(shape, integer).astype(dtype)
        else:
            feeds[name] = rng.uniform(0, 1, shape).astype(dtype)
    return feeds


def _shape(declared: Sequence[Dimension], size: int, *, last_only: bool) -> list[int]:
    """Returns a shape: open axes are `size` long, the first and, with `last_only`, all but the last are 1."""
    shape = []
    for axis, extent in enumerate(declared):
        if isinstance(extent, int) and extent > 0:
            shape.append(extent)
        else:
            shape.append(1 if not axis or (last_only and axis + 1 < len(declared)) else size)
    return shape
