"""What a table says of a value."""

import ml_dtypes
import numpy as np
import pytest

from onnxscope.cli import summary


def test_statistics_are_over_finite_elements_and_count_the_rest():
    """One NaN must not hide everything else."""
    look = summary.of("x", "activation", np.array([1, np.nan, 3, np.inf], np.float32))
    assert (look.minimum, look.mean, look.maximum, look.non_finite) == (1, 2, 3, 2)


def test_means_do_not_overflow():
    """The mean of float16 is taken in float64."""
    assert summary.of("x", "output", np.full(10, 60000, np.float16)).mean == 60000


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.int4, ml_dtypes.float8_e4m3fn, np.bool_, np.int8])
def test_every_number_has_statistics(dtype):
    """Those of ml_dtypes too."""
    look = summary.of("x", "output", np.array([0, 1]).astype(dtype))
    assert (look.minimum, look.mean, look.maximum) == (0, 0.5, 1)


def test_what_has_no_order_has_none():
    """Text, complex numbers, empty arrays, absent values, and arrays of nothing but NaN."""
    arrays = [np.array(["é"], object), np.zeros(1, np.complex64), np.zeros((0, 3), np.float32), np.full(2, np.nan)]
    for look in [summary.of("x", "output", array) for array in arrays] + [summary.absent("x", "output")]:
        assert look.minimum is look.mean is look.maximum is None
    assert summary.of("x", "output", arrays[0]).byte_count == 2
