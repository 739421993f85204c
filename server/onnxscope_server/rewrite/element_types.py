"""In which element types onnxruntime's CPU kernels can reduce, and what it takes to come there and back."""

from __future__ import annotations

from onnxscope_server.domain import DataType

_T = DataType
FLOATS = frozenset(
    {
        _T.FLOAT32, _T.FLOAT64, _T.FLOAT16, _T.BFLOAT16, _T.FLOAT8E4M3FN, _T.FLOAT8E4M3FNUZ,
        _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ, _T.FLOAT8E8M0, _T.FLOAT4E2M1,
    }
)  # fmt: skip
_EXACT = {
    _T.FLOAT32: _T.FLOAT32,
    _T.FLOAT64: _T.FLOAT64,
    _T.INT64: _T.INT64,
    _T.UINT32: _T.INT64,
    _T.INT32: _T.INT32,
    _T.INT16: _T.INT32,
    _T.INT8: _T.INT32,
    _T.INT4: _T.INT32,
    _T.INT2: _T.INT32,
    _T.UINT16: _T.INT32,
    _T.UINT8: _T.INT32,
    _T.UINT4: _T.INT32,
    _T.UINT2: _T.INT32,
    _T.BOOL: _T.INT32,
} | dict.fromkeys(FLOATS - {_T.FLOAT32, _T.FLOAT64}, _T.FLOAT32)
_MOVED_AS_THEY_ARE = frozenset(
    {
        _T.FLOAT32, _T.FLOAT64, _T.FLOAT16, _T.BFLOAT16, _T.INT8, _T.INT16, _T.INT32, _T.INT64,
        _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64, _T.BOOL, _T.STRING, _T.COMPLEX64, _T.COMPLEX128,
    }
)  # fmt: skip
_SINCE = {
    _T.BFLOAT16: 13,
    _T.FLOAT8E4M3FN: 19,
    _T.FLOAT8E4M3FNUZ: 19,
    _T.FLOAT8E5M2: 19,
    _T.FLOAT8E5M2FNUZ: 19,
    _T.INT4: 21,
    _T.UINT4: 21,
    _T.FLOAT4E2M1: 23,
    _T.FLOAT8E8M0: 24,
    _T.INT2: 25,
    _T.UINT2: 25,
}


def averaging_type(data_type: DataType) -> DataType | None:
    """Returns the type to average in: float64 stays, all other numbers go to float32; None for text and complex."""
    if data_type is DataType.UINT64:
        return DataType.FLOAT32
    exact = _EXACT.get(data_type)
    return exact if exact is DataType.FLOAT64 else exact and DataType.FLOAT32


def comparing_type(data_type: DataType) -> DataType | None:
    """Returns a type with the same numbers in which the kernels compare; None where there is none."""
    return _EXACT.get(data_type)


def moving_type(data_type: DataType) -> DataType:
    """Returns a type with the same values whose entries the kernels can pick and move."""
    return data_type if data_type in _MOVED_AS_THEY_ARE else _EXACT[data_type]


def opset_needed(data_type: DataType) -> int:
    """Returns the first opset whose operators know a type."""
    return _SINCE.get(data_type, 1)
