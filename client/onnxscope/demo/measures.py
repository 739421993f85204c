"""Numbers that say how a hook point is used, from its activations alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def effective_rank(activations: NDArray[Any]) -> float:
    """Counts the directions that activations really use.

    The exponential of the Shannon entropy of the normalised squared singular values of the centred
    activations: n where n directions carry the same variance, 1 where one carries all. (The paper
    takes the singular values as they are; squared they are shares of the variance.)

    Args:
        activations: `[row, feature]`, at least one of each.

    Returns:
        1 to `min(row - 1, feature)`; 0.0 where nothing varies.

    Source:
        Roy & Vetterli 2007, The effective rank, definition 1.
    """
    array = np.asarray(activations, np.float64)
    centred = array - array.mean(axis=0)
    rows, features = centred.shape
    gram = centred @ centred.T if rows < features else centred.T @ centred
    squared = np.linalg.eigvalsh(gram)
    # what rounding leaves of a zero must not count as a direction
    rounding = np.finfo(np.float64).eps * max(rows, features)
    squared = squared[squared > max(squared[-1] * rounding, (np.abs(array).max() * rounding) ** 2)]
    if not len(squared):
        return 0.0
    shares = squared / squared.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def dead_share(activations: NDArray[Any]) -> float:
    """Returns the share of units that hold the same value on every row, 0 to 1.

    For the output of a ReLU that is (but for a unit stuck at one positive value) a unit that
    never fires.

    Args:
        activations: `[row, ...]`; every element behind the rows is a unit.
    """
    units = np.asarray(activations).reshape(len(activations), -1)
    return float((units == units[:1]).all(axis=0).mean())
