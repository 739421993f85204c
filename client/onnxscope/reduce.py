"""Reductions: operators that make an activation smaller in the graph, before it travels.

The first axis of an activation is rows. Of the others, in a rank of four or more the second is
channels and the rest are spatial positions; in a rank of three the second is positions, the last
features.

    model.capture(x, at="op:Add", reduce="mean")
    model.capture(x, at=["h1", "logits"], reduce={"h1": onnxscope.reduce.mean(mask="attention_mask")})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from onnxscope.errors import ReductionInvalidError
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.codec import Array

Mask: TypeAlias = "str | Array | Sequence[Any] | None"
KINDS = (
    "mean",
    "max",
    "first",
    "last",
    "flatten",
    "positions",
    "spatial_mean",
    "norm",
    "index",
    "topk",
)
_NEEDS_MORE = {"index": "onnxscope.reduce.index(axis, i)", "topk": "onnxscope.reduce.topk(k)"}


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """One reduction; made by the functions of this module.

    Attributes:
        kind: one of `KINDS`.
        axis: axis to reduce over, negative from the end; None for the kind's own.
        index: along the axis, for `index`.
        k: for `topk`.
        mask: name of a model input `[row, position]`, or such an array; non-zero keeps.
    """

    kind: str
    axis: int | None = None
    index: int | None = None
    k: int | None = None
    mask: str | Array | None = None

    def __str__(self) -> str:
        details = {"axis": self.axis, "index": self.index, "k": self.k}
        given = [f"{name}={value}" for name, value in details.items() if value is not None]
        if self.mask is not None:
            given.append(f"mask={self.mask!r}" if isinstance(self.mask, str) else "mask=an array")
        return f"{self.kind}({', '.join(given)})" if given else self.kind


def mean(axis: int | None = None, mask: Mask = None) -> Reduction:
    """Averages over positions: `[row, position, feature]` gives `[row, feature]`."""
    return Reduction("mean", axis=axis, mask=_mask(mask))


def max(axis: int | None = None, mask: Mask = None) -> Reduction:  # noqa: A001  # the contract's name
    """Takes the maximum over positions: `[row, position, feature]` gives `[row, feature]`."""
    return Reduction("max", axis=axis, mask=_mask(mask))


def first(axis: int | None = None, mask: Mask = None) -> Reduction:
    """Takes the first position, with a mask the first that it keeps."""
    return Reduction("first", axis=axis, mask=_mask(mask))


def last(axis: int | None = None, mask: Mask = None) -> Reduction:
    """Takes the last position, with a mask the last that it keeps."""
    return Reduction("last", axis=axis, mask=_mask(mask))


def flatten() -> Reduction:
    """Gives `[row, everything else]`."""
    return Reduction("flatten")


def positions(mask: Mask = None) -> Reduction:
    """Makes each position a row, with a mask each one that it keeps."""
    return Reduction("positions", mask=_mask(mask))


def spatial_mean() -> Reduction:
    """Averages over all axes behind the channels: `[row, channel, ...]` gives `[row, channel]`."""
    return Reduction("spatial_mean")


def norm(axis: int | None = None) -> Reduction:
    """Takes the Euclidean norm: `[row, position, feature]` gives `[row, position]`."""
    return Reduction("norm", axis=axis)


def index(axis: int, i: int) -> Reduction:
    """Takes one index of one axis, which goes."""
    return Reduction("index", axis=axis, index=i)


def topk(k: int) -> Reduction:
    """Takes the k largest entries along the last axis, largest first."""
    if k < 1:
        raise ReductionInvalidError(f"topk takes k of at least 1, not {k}", {"reduction": "topk"})
    return Reduction("topk", k=k)


def of(value: Any) -> Reduction:
    """Returns the reduction that a name or a reduction stands for.

    Raises:
        ReductionInvalidError: it is neither, or the kind needs parameters.
    """
    if isinstance(value, Reduction):
        return value
    if isinstance(value, str) and value in _NEEDS_MORE:
        raise ReductionInvalidError(f"{value!r} needs parameters: use {_NEEDS_MORE[value]}", {"reduction": value})
    if isinstance(value, str) and value in KINDS:
        return Reduction(value)
    raise ReductionInvalidError(
        f"{value!r} is no reduction; use one of {', '.join(map(repr, KINDS))} or what onnxscope.reduce makes",
        {"reduction": str(value)},
    )


def rules(reduce: Any, selectors: Sequence[str]) -> list[tuple[str, Reduction]]:
    """Returns selector and reduction of every rule, in order; of several that fit the last wins.

    Args:
        reduce: None, a reduction or its name, or `{selector: reduction}`.
        selectors: what is captured; a reduction alone is meant for all of it.
    """
    if reduce is None:
        return []
    if isinstance(reduce, Mapping):
        return [(str(selector), of(value)) for selector, value in reduce.items()]
    return [("*", of(reduce))] if selectors else []


def to_message(reduction: Reduction, mask_name: str) -> pb.Reduction:
    """Returns the message; a mask that is an array travels beside it under `mask_name`."""
    message = pb.Reduction(
        kind=f"REDUCTION_KIND_{reduction.kind.upper()}",
        axis=reduction.axis,
        index=reduction.index,
        top_count=reduction.k,
    )
    if isinstance(reduction.mask, str):
        message.mask_input = reduction.mask
    elif reduction.mask is not None:
        message.mask_value = mask_name
    return message


def from_message(message: pb.Reduction) -> Reduction:
    """Returns the reduction of a message; a mask that was an array is named, and not there."""
    name = pb.ReductionKind.Name(message.kind).removeprefix("REDUCTION_KIND_").lower()
    which = message.WhichOneof("mask")
    return Reduction(
        name,
        axis=message.axis if message.HasField("axis") else None,
        index=message.index if message.HasField("index") else None,
        k=message.top_count if message.HasField("top_count") else None,
        mask=getattr(message, which) if which else None,
    )


def _mask(mask: Mask) -> str | Array | None:
    if mask is None or isinstance(mask, str):
        return mask
    array = np.asarray(mask)
    if array.ndim != 2 or array.dtype.kind not in "biuf":  # noqa: PLR2004  # [row, position]
        raise ReductionInvalidError(
            f"a mask is a matrix [row, position] of numbers or bools, not {array.dtype} of shape {array.shape}"
        )
    return array
