"""Tests of what fits set in the process that they compute in."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info

from onnxscope_server.probes.surroundings import of_fits


def counts() -> list[int]:
    """Returns how many threads each library computes with."""
    return [library["num_threads"] for library in threadpool_info()]


def test_libraries_have_one_thread_as_long_as_anybody_wants_it():
    """Nested uses end together, and the libraries have what they had before."""
    before = counts()
    with of_fits():
        with of_fits():
            assert set(counts()) == {1}
        assert set(counts()) == {1}
    assert counts() == before


def test_scikit_learn_does_not_warn_as_long_as_anybody_wants_it():
    """Not even where warnings are errors; others' warnings are heard, and afterwards scikit-learn's too."""
    unfinished, features = MLPClassifier(max_iter=1), np.eye(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with of_fits():
            with of_fits():
                pass
            unfinished.fit(features, [0, 1, 0, 1])
            with pytest.raises(UserWarning, match="another's"):
                warnings.warn("another's", stacklevel=1)
        with pytest.raises(ConvergenceWarning):
            unfinished.fit(features, [0, 1, 0, 1])
