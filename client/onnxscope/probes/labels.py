"""Labels and what else belongs to rows, as a caller gives them: checked, and in the types that travel."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxscope.errors import DataInvalidError, ValueInvalidError
from onnxscope.v1.codec import Array


def of(y: Any, *, per_position: bool) -> Array:
    """Returns labels in a type that travels: int64, text, bool or float64.

    Args:
        y: `[row]`; `[row, position]` where `per_position`, -100 for positions to leave out; else `[row, label]` of
            bools or of zeros and ones for several labels a row, or floats `[row, target]`.
        per_position: whether each position is an example.

    Raises:
        DataInvalidError: they are nothing that can be learned.
    """
    array = _array(y, "the labels")
    if array.ndim not in (1, 2):
        raise DataInvalidError(
            f"the labels have the shape {list(array.shape)}: give [row], [row, position] or [row, label]", {"what": "y"}
        )
    kind = array.dtype.kind
    if kind in "OUST":
        return _texts(array)
    if kind == "b":
        return array.astype(np.int64) if per_position and array.ndim > 1 else array
    if kind in "iu":
        if array.ndim > 1 and not per_position:
            return _several(array)
        return array.astype(np.int64)
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise DataInvalidError("the labels hold NaN or infinity: leave such rows out", {"what": "y"})
    return numbers


def groups_of(groups: Any) -> Array:
    """Returns int64 `[row]`: a number for each group, whatever names it.

    Raises:
        DataInvalidError: they are not one a row.
    """
    array = _array(groups, "groups")
    if array.ndim != 1:
        raise DataInvalidError(f"groups have the shape {list(array.shape)}: give one a row", {"what": "groups"})
    try:
        numbers: Array = np.unique(array, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise DataInvalidError(f"groups must be all numbers or all text: {error}", {"what": "groups"}) from error
    return numbers


def weights_of(weights: Any) -> Array:
    """Returns float64 `[row]`.

    Raises:
        DataInvalidError: they are not one number a row, or one is negative or none at all.
    """
    array = _array(weights, "sample_weight")
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DataInvalidError(
            f"sample_weight is {array.dtype} of shape {list(array.shape)}: give a number a row",
            {"what": "sample_weight"},
        )
    numbers = array.astype(np.float64)
    if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
        raise DataInvalidError(
            "sample_weight holds a negative number, NaN or infinity: give numbers from 0 up", {"what": "sample_weight"}
        )
    return numbers


def test_of(test: Any, total: int | None) -> Array:
    """Returns bool `[row]`: the rows to hold out.

    Args:
        test: such a mask, or the numbers of the rows.
        total: number of rows; None where that is not known yet.

    Raises:
        ValueInvalidError: it is neither.
        DataInvalidError: a number is of no row.
    """
    array = _array(test, "test")
    if array.ndim != 1 or array.dtype.kind not in "biu":
        raise ValueInvalidError(
            f"test is {array.dtype} of shape {list(array.shape)}: give a bool a row, numbers of rows, or "
            "(X_test, y_test)"
        )
    if array.dtype.kind == "b":
        return array
    last = int(array.max(initial=-1))
    if array.min(initial=0) < 0 or (total is not None and last >= total):
        rows = f"{total} rows" if total is not None else "rows that are counted from 0"
        raise DataInvalidError(f"test names row {last if last >= 0 else int(array.min())}, of {rows}", {"what": "test"})
    mask = np.zeros(last + 1 if total is None else total, np.bool_)
    mask[array] = True
    return mask


def _several(array: Array) -> Array:
    if not np.isin(array, (0, 1)).all():
        raise DataInvalidError(
            f"the labels are integers {list(array.shape)}: labels [row, position] need reduce='positions', several "
            "labels a row are bools or zeros and ones [row, label]",
            {"what": "y"},
        )
    return array.astype(np.bool_)


def _texts(array: Array) -> Array:
    found = np.empty(array.shape, object)
    for index, item in enumerate(array.reshape(-1).tolist()):
        if not isinstance(item, str):
            raise DataInvalidError(
                f"the labels hold {item!r} ({type(item).__name__}) beside text: give all numbers or all text",
                {"what": "y"},
            )
        found.reshape(-1)[index] = item
    return found


def _array(value: Any, name: str) -> Array:
    try:
        array = np.asarray(value)
    except Exception as error:
        raise DataInvalidError(f"{name} cannot be read as an array: {error}", {"what": name}) from error
    if array.dtype.kind == "O" and array.size and not any(isinstance(item, str) for item in array.reshape(-1)):
        try:  # of a data frame, say
            array = np.array(array.tolist())
        except ValueError as error:
            raise DataInvalidError(f"{name} cannot be read as an array: {error}", {"what": name}) from error
    if array.dtype.kind not in "biufOUST":
        raise DataInvalidError(f"{name} are {array.dtype}: give numbers, bools or text", {"what": name})
    return array
