"""Where the rows of a hook point's activations lie, behind its reduction."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxscope_server.catalog.description import HookPoint
from onnxscope_server.domain import Array, Reduction, ReductionKind, TensorType, Value
from onnxscope_server.errors import DataInvalidError, ReductionInvalidError

_SEQUENCE, _IMAGE = 3, 4
_SHOWN = 5
_FRONT_ONLY = (ReductionKind.FLATTEN, ReductionKind.POSITIONS, ReductionKind.SPATIAL_MEAN)


@dataclass(frozen=True, slots=True)
class Place:
    """A hook point that a probe reads.

    Attributes:
        address: which.
        reduction: applied in the graph; None for none.
        axis: along which the rows of what then comes lie.
    """

    address: str
    reduction: Reduction | None
    axis: int

    def examples(self, value: Value) -> Array:
        """Returns activations as examples, in memory of their own where the model's array isn't like that.

        Args:
            value: what the hook point held.

        Returns:
            float32 [example, feature].

        Raises:
            DataInvalidError: they are no numbers with rows.
        """
        if not isinstance(value, np.ndarray) or value.ndim <= self.axis or value.dtype.kind in "OUSc":
            raise DataInvalidError(
                f"What {self.address!r} holds is no array of numbers with rows (a list of arrays, text, or a branch "
                f"that was not taken). Leave it out of the selectors, with {'!' + self.address!r}.",
                address=self.address,
            )
        rows = np.moveaxis(value, self.axis, 0) if self.axis else value
        flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        if not flat.shape[1]:
            raise DataInvalidError(
                f"What {self.address!r} holds has no features: its shape is {list(value.shape)}. Leave it out of the "
                f"selectors, with {'!' + self.address!r}.",
                address=self.address,
            )
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(flat, dtype=np.float32)


def places_of(
    points: Sequence[HookPoint], reductions: Mapping[str, Reduction | None], repeats: Mapping[str, int]
) -> tuple[Place, ...]:
    """Returns where probes read.

    Args:
        points: hook points with their batch axis.
        reductions: of each address.
        repeats: number of iterating bodies around each address: as many axes come before its own.

    Raises:
        DataInvalidError: some have no rows; the text names them.
        ReductionInvalidError: a reduction takes the rows of one away.
    """
    without = [point.address for point in points if point.batch_axis is None]
    if without:
        raise no_rows(without)
    return tuple(
        Place(
            point.address,
            reductions[point.address],
            _axis(point, reductions[point.address], repeats[point.address]),
        )
        for point in points
    )


def no_rows(addresses: Sequence[str]) -> DataInvalidError:
    """Returns the error that hook points without rows get."""
    named = ", ".join(addresses[:_SHOWN]) + (", ..." if len(addresses) > _SHOWN else "")
    return DataInvalidError(
        f"A probe learns from rows, and {named} {'has' if len(addresses) == 1 else 'have'} none: no axis of it grows "
        f"with the batch. Choose other hook points, or leave these out with {'!' + addresses[0]!r} and the like.",
        address=addresses[0],
    )


def _axis(point: HookPoint, reduction: Reduction | None, repeats: int) -> int:
    axis = point.batch_axis or 0
    if reduction is None:
        return axis
    own = axis - repeats
    if reduction.kind in _FRONT_ONLY:
        if axis:
            raise _takes_away(point, reduction, axis)
        return 0
    touched = _touched(point, reduction, repeats)
    if own < 0 or own in touched:
        raise _takes_away(point, reduction, axis)
    return axis if reduction.kind is ReductionKind.TOPK else axis - sum(other < own for other in touched)


def _touched(point: HookPoint, reduction: Reduction, repeats: int) -> Collection[int]:
    """Returns the axes of one iteration's value that a reduction works along, as far as its rank is known."""
    shape = point.type.shape if isinstance(point.type, TensorType) else None
    rank = None if shape is None else len(shape) - repeats
    asked = reduction.axis
    if asked is None and reduction.kind is ReductionKind.TOPK:
        asked = -1
    if asked is not None:
        return (asked if asked >= 0 or rank is None else asked + rank,)
    if rank is None:
        return ()
    if reduction.kind is ReductionKind.NORM:
        return (1 if rank >= _IMAGE else rank - 1,)
    return (1,) if rank == _SEQUENCE else tuple(range(2, rank))


def _takes_away(point: HookPoint, reduction: Reduction, axis: int) -> ReductionInvalidError:
    return ReductionInvalidError(
        f"{reduction.kind.value!r} would mix the rows of {point.address!r}, which lie along axis {axis}. Say another "
        "axis=, or leave the reduction out there.",
        address=point.address,
        reduction=reduction.kind.value,
    )
