"""What reductions make of types, and which don't fit."""

from __future__ import annotations

import pytest

from onnxscope_server.domain import DataType, Reduction, ReductionKind, SequenceType, TensorType
from onnxscope_server.errors import ReductionInvalidError
from onnxscope_server.plan.reductions import reduced

KIND = ReductionKind
FLOAT, INT = DataType.FLOAT32, DataType.INT64


def shape(kind, given, **parameters):
    """The shape of a reduced float32 array."""
    return reduced("h", Reduction(kind, **parameters), TensorType(FLOAT, given)).shape


@pytest.mark.parametrize(
    ("kind", "parameters", "given", "result"),
    [
        (KIND.MEAN, {}, ("n", "t", 8), ("n", 8)),
        (KIND.MEAN, {}, ("n", 16, 7, 7), ("n", 16)),
        (KIND.MEAN, {"axis": -1}, ("n", "t", 8), ("n", "t")),
        (KIND.MEAN, {"axis": 0}, ("n", 8), (8,)),
        (KIND.MAX, {}, (2, 3, 4, 5, 6), (2, 3)),
        (KIND.FIRST, {}, ("n", "t", 8), ("n", 8)),
        (KIND.LAST, {"mask_value": "m"}, ("n", "t", 8), ("n", 8)),
        (KIND.FLATTEN, {}, ("n", 2, 3), ("n", 6)),
        (KIND.FLATTEN, {}, ("n", "t", 3), ("n", None)),
        (KIND.FLATTEN, {}, (5,), (5, 1)),
        (KIND.POSITIONS, {}, (2, 3, 8), (6, 8)),
        (KIND.POSITIONS, {}, ("n", 3, 8), (None, 8)),
        (KIND.POSITIONS, {"mask_value": "m"}, (2, 3, 8), (None, 8)),
        (KIND.POSITIONS, {}, (2, 16, 4, 5), (40, 16)),
        (KIND.POSITIONS, {"axis": 2}, (2, 16, 4, 5), (8, 16, 5)),
        (KIND.POSITIONS, {"axis": 1}, (2, 7), (14,)),
        (KIND.SPATIAL_MEAN, {}, ("n", 16, 4, 5), ("n", 16)),
        (KIND.SPATIAL_MEAN, {}, ("n", 16, 4), ("n", 16)),
        (KIND.NORM, {}, ("n", "t", 8), ("n", "t")),
        (KIND.NORM, {}, ("n", 16, 4, 5), ("n", 4, 5)),
        (KIND.NORM, {}, ("n", 8), ("n",)),
        (KIND.INDEX, {"axis": 1, "index": -1}, ("n", 3, 8), ("n", 8)),
        (KIND.TOPK, {"k": 2}, ("n", 8), ("n", 2)),
        (KIND.TOPK, {"k": 2, "axis": 0}, ("n", 8), (2, 8)),
    ],
)
def test_shapes_after_reduction(kind, parameters, given, result):
    """The axes are those of capture_service.proto."""
    assert shape(kind, given, **parameters) == result


@pytest.mark.parametrize(
    ("kind", "parameters", "given", "words"),
    [
        (KIND.MEAN, {}, ("n", 8), "has no positions"),
        (KIND.SPATIAL_MEAN, {}, ("n", 8), "no spatial"),
        (KIND.NORM, {}, ("n",), "no features"),
        (KIND.MEAN, {"axis": 3}, ("n", "t", 8), "3 axes and none numbered 3"),
        (KIND.INDEX, {"axis": 1, "index": 3}, ("n", 3), "3 entries and none numbered 3"),
        (KIND.INDEX, {"axis": 1}, ("n", 3), "needs an axis and an index"),
        (KIND.TOPK, {}, ("n", 3), "needs k"),
        (KIND.TOPK, {"k": 4}, ("n", 3), "fewer than the 4"),
        (KIND.TOPK, {"k": 1}, (), "scalar"),
        (KIND.FLATTEN, {}, (), "scalar"),
        (KIND.MEAN, {"axis": 0, "mask_value": "m"}, ("n", 3, 4), "axis 0 holds the rows"),
        (KIND.NORM, {"mask_value": "m"}, ("n", 3, 4), "takes no mask"),
        (KIND.MEAN, {"mask_value": "m", "mask_input": "x"}, ("n", 3, 4), "give one mask"),
        (KIND.MEAN, {"k": 3}, ("n", 3, 4), "takes no k"),
        (KIND.MEAN, {"index": 3}, ("n", 3, 4), "takes no index"),
        (KIND.FLATTEN, {"axis": 1}, ("n", 3, 4), "takes no axis"),
    ],
)
def test_what_does_not_fit_says_why(kind, parameters, given, words):
    """The error names the address and the reduction."""
    with pytest.raises(ReductionInvalidError, match=words) as caught:
        shape(kind, given, **parameters)
    assert caught.value.metadata == {"address": "h", "reduction": kind.value}


def test_element_types():
    """Floats stay, integers average to float32, picking keeps everything, text has no mean."""
    given = ("n", "t", 8)
    assert reduced("h", Reduction(KIND.MEAN), TensorType(DataType.BFLOAT16, given)).data_type is DataType.BFLOAT16
    assert reduced("h", Reduction(KIND.MEAN), TensorType(INT, given)).data_type is FLOAT
    assert reduced("h", Reduction(KIND.LAST), TensorType(DataType.STRING, given)).data_type is DataType.STRING
    for kind, data_type in ((KIND.MEAN, DataType.STRING), (KIND.NORM, DataType.COMPLEX64), (KIND.MAX, DataType.STRING)):
        with pytest.raises(ReductionInvalidError):
            reduced("h", Reduction(kind), TensorType(data_type, given))


def test_what_is_unknown_stays_unknown():
    """No rank, no shape; no type, nothing; a list is refused."""
    assert reduced("h", Reduction(KIND.MEAN), TensorType(FLOAT)) == TensorType(FLOAT)
    assert reduced("h", Reduction(KIND.MEAN), None) is None
    with pytest.raises(ReductionInvalidError, match="is not an array"):
        reduced("h", Reduction(KIND.MEAN), SequenceType(None))
