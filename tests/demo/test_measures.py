"""Measures, against values that are known without computing them."""

import numpy as np
import pytest

from onnxscope.demo.measures import dead_share, effective_rank


@pytest.mark.parametrize("directions", [1, 3, 16])
def test_effective_rank_counts_directions_of_equal_variance(directions):
    """Plus and minus each unit vector is centred and spreads evenly over all directions."""
    identity = np.eye(directions)
    assert effective_rank(np.concatenate([identity, -identity])) == pytest.approx(directions)


def test_effective_rank_of_the_identity_is_one_less():
    """Centring the identity takes one of its directions away."""
    assert effective_rank(np.eye(8)) == pytest.approx(7)


def test_effective_rank_weighs_directions_by_their_variance():
    """Variances 0.8 and 0.2 give the exponential of their entropy."""
    points = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    assert effective_rank(points) == pytest.approx(np.exp(-(0.8 * np.log(0.8) + 0.2 * np.log(0.2))))


def test_effective_rank_ignores_rotation_shift_and_scale():
    """It is a property of the cloud, not of its coordinates; more features than rows are fine."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 30))
    rotation = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    assert effective_rank(points @ rotation * 7 + 3) == pytest.approx(effective_rank(points))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_effective_rank_of_what_never_varies_is_zero(value):
    """Rounding errors of the mean are no directions."""
    assert effective_rank(np.full((33, 5), value, np.float32)) == 0.0


def test_dead_units_hold_the_same_value_on_every_row():
    """Of four units one is zero and one is stuck; axes behind the rows all count."""
    values = np.array([[[0, 1], [5, 2]], [[0, 1], [5, 3]], [[0, 2], [5, 2]]], np.float32)
    assert dead_share(values) == 0.5
