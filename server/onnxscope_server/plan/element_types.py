"""Types of elements: the names that users say, and their sizes."""

from __future__ import annotations

from onnxscope_server.domain import DataType

_LONG_NAMES = {
    DataType.FLOAT8E4M3FN: "float8_e4m3fn",
    DataType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    DataType.FLOAT8E5M2: "float8_e5m2",
    DataType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    DataType.FLOAT8E8M0: "float8_e8m0fnu",
    DataType.FLOAT4E2M1: "float4_e2m1fn",
}
_BITS = {
    DataType.UINT2: 2,
    DataType.INT2: 2,
    DataType.UINT4: 4,
    DataType.INT4: 4,
    DataType.FLOAT4E2M1: 4,
    DataType.UINT8: 8,
    DataType.INT8: 8,
    DataType.BOOL: 8,
    DataType.FLOAT8E4M3FN: 8,
    DataType.FLOAT8E4M3FNUZ: 8,
    DataType.FLOAT8E5M2: 8,
    DataType.FLOAT8E5M2FNUZ: 8,
    DataType.FLOAT8E8M0: 8,
    DataType.UINT16: 16,
    DataType.INT16: 16,
    DataType.FLOAT16: 16,
    DataType.BFLOAT16: 16,
    DataType.UINT32: 32,
    DataType.INT32: 32,
    DataType.FLOAT32: 32,
    DataType.UINT64: 64,
    DataType.INT64: 64,
    DataType.FLOAT64: 64,
    DataType.COMPLEX64: 64,
    DataType.COMPLEX128: 128,
}
FLOATS = frozenset(
    {
        DataType.FLOAT16,
        DataType.BFLOAT16,
        DataType.FLOAT32,
        DataType.FLOAT64,
        DataType.FLOAT8E4M3FN,
        DataType.FLOAT8E4M3FNUZ,
        DataType.FLOAT8E5M2,
        DataType.FLOAT8E5M2FNUZ,
        DataType.FLOAT8E8M0,
        DataType.FLOAT4E2M1,
    }
)
WITHOUT_MEAN = frozenset({DataType.STRING, DataType.COMPLEX64, DataType.COMPLEX128})
WITHOUT_ORDER = WITHOUT_MEAN | {DataType.UINT64}


def name_of(data_type: DataType) -> str:
    """Returns the name that users see: numpy's or ml_dtypes' own, and `string`."""
    return _LONG_NAMES.get(data_type, data_type.name.lower())


BY_NAME = {name_of(item): item for item in DataType}


def byte_count(data_type: DataType, count: int) -> int | None:
    """Returns the bytes of so many elements on the wire; None for text, whose length is not known."""
    bits = _BITS.get(data_type)
    return None if bits is None else -(-count * bits // 8)
