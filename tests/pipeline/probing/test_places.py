"""Where rows lie behind a reduction, and what has none."""

from __future__ import annotations

import numpy as np
import pytest

from onnxscope_server.catalog.description import HookPoint, Kind
from onnxscope_server.domain import DataType, Reduction, ReductionKind, TensorType
from onnxscope_server.errors import DataInvalidError, ReductionInvalidError
from onnxscope_server.pipeline.probing.places import Place, places_of


def point(rank: int, axis: int | None) -> HookPoint:
    """A hook point of so many axes."""
    return HookPoint("h", "Relu", TensorType(DataType.FLOAT32, (None,) * rank), 0.5, Kind.ACTIVATION, axis)


@pytest.mark.parametrize(
    ("rank", "axis", "reduction", "repeats", "wanted"),
    [
        (2, 0, None, 0, 0),
        (3, 1, None, 0, 1),
        (3, 0, Reduction(ReductionKind.MEAN), 0, 0),
        (3, 1, Reduction(ReductionKind.MEAN, axis=0), 0, 0),
        (3, 1, Reduction(ReductionKind.INDEX, axis=-3, index=0), 0, 0),
        (3, 1, Reduction(ReductionKind.NORM), 0, 1),
        (3, 1, Reduction(ReductionKind.TOPK, k=2), 0, 1),
        (4, 1, Reduction(ReductionKind.MEAN), 1, 1),
    ],
)
def test_the_axis_of_the_rows_moves_with_the_reduction(
    rank: int, axis: int, reduction: Reduction | None, repeats: int, wanted: int
) -> None:
    """What is taken away before it moves it forward; iterations stay in front."""
    (place,) = places_of([point(rank, axis)], {"h": reduction}, {"h": repeats})
    assert place.axis == wanted


@pytest.mark.parametrize(
    ("axis", "reduction"),
    [
        (1, Reduction(ReductionKind.MEAN)),
        (1, Reduction(ReductionKind.POSITIONS)),
        (2, Reduction(ReductionKind.TOPK, k=1)),
        (1, Reduction(ReductionKind.FLATTEN)),
    ],
)
def test_a_reduction_over_the_rows_is_refused(axis: int, reduction: Reduction) -> None:
    """It would mix what belongs to different rows."""
    with pytest.raises(ReductionInvalidError, match=f"would mix the rows of 'h', which lie along axis {axis}"):
        places_of([point(3, axis)], {"h": reduction}, {"h": 0})


def test_a_hook_point_without_rows_is_an_error_that_says_so() -> None:
    """It names the hook point and how to leave it out."""
    with pytest.raises(DataInvalidError, match=r"h has none: no axis of it grows with the batch.*'!h'"):
        places_of([point(2, None)], {"h": None}, {"h": 0})


def test_activations_become_float32_with_rows_in_front() -> None:
    """Whatever lies behind the rows is flattened."""
    place = Place("h", None, 1)
    found = place.examples(np.arange(12, dtype=np.float16).reshape(2, 3, 2))
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert Place("h", None, 0).examples(np.array([1, 2])).tolist() == [[1], [2]]
    for value in ([np.zeros(2)], None, np.array(["a"], object), np.float32(1) * np.ones(())):
        with pytest.raises(DataInvalidError, match="no array of numbers with rows"):
            place.examples(value)


def test_no_rows_have_as_many_features_as_others() -> None:
    """An empty batch fits the others; a hook point without features is an error."""
    place = Place("h", None, 0)
    assert place.examples(np.zeros((0, 2, 3), np.float32)).shape == (0, 6)
    with pytest.raises(DataInvalidError, match="'h' holds has no features"):
        place.examples(np.zeros((4, 0), np.float32))
