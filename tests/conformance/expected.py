"""What a hook point inside of nodes should hold, from what an interpreter recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.conformance.interpreter import MISSING, Record

from onnxscope_server.catalog.scopes import REPEATING, Place


def expected(record: Record, place: Place) -> Any:
    """Returns what a place held: lists for iterations, None for a branch not taken, MISSING where nothing is known."""
    return _below(record, place, 0)


def _below(record: Record, place: Place, depth: int) -> Any:
    if depth == len(place.path):
        return record.values.get(place.name, MISSING)
    step = place.path[depth]
    runs = record.inner.get((step.anchor, step.where))
    if runs is None:
        return MISSING
    found = [_below(run, place, depth + 1) for run in runs]
    if step.op_type in REPEATING:
        return found
    return found[0] if found else None


def is_known(wanted: Any) -> bool:
    """Tells whether all of an expected value is known."""
    return wanted is not MISSING and not (isinstance(wanted, list) and not all(map(is_known, wanted)))


def same(got: Any, wanted: Any, *, rtol: float, atol: float) -> bool:
    """Tells whether a value is the expected one; an array stands for a list of its rows."""
    if wanted is None or got is None:
        return wanted is None and got is None
    if isinstance(wanted, dict):
        equal = isinstance(got, dict) and got.keys() == wanted.keys()
        return equal and all(same(got[key], wanted[key], rtol=rtol, atol=atol) for key in wanted)
    if isinstance(wanted, list):
        items = enumerate(wanted)
        return len(got) == len(wanted) and all(same(got[index], item, rtol=rtol, atol=atol) for index, item in items)
    return _same_array(np.asarray(got), np.asarray(wanted), rtol, atol)


def _same_array(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> bool:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if wanted.dtype.kind in "OUSb" or not wanted.size:
        return bool(np.array_equal(got, wanted))
    if not rtol and not atol:
        return got.tobytes() == wanted.tobytes() or bool(np.array_equal(got, wanted))
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    return bool(np.allclose(got.astype(wide), wanted.astype(wide), rtol=rtol, atol=atol, equal_nan=True))
