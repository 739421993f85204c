"""Types of values on their way out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxscope_server.domain import DataType, SequenceType, Shape, TensorType, ValueType

# onnxruntime joins iterations by whole bytes: of types of less, it writes past the end. Nor has it an Identity of those
_IN_BYTES = {
    DataType.INT4: DataType.INT8,
    DataType.UINT4: DataType.UINT8,
    DataType.INT2: DataType.INT8,
    DataType.UINT2: DataType.UINT8,
}


def in_bytes(type_: ValueType | None) -> DataType | None:
    """Returns a type of whole bytes that holds the elements of one that has less; None for all others."""
    return _IN_BYTES.get(type_.data_type) if isinstance(type_, TensorType) else None


def array_type(type_: ValueType | None) -> TensorType | None:
    """Returns the type where it is that of a dense array."""
    return type_ if isinstance(type_, TensorType) and not type_.sparse else None


def element_type(type_: ValueType | None) -> TensorType | None:
    """Returns the type of a sequence's arrays, or of the array itself."""
    element = type_.element if isinstance(type_, SequenceType) else type_
    return element if isinstance(element, TensorType) else None


def fixed(shape: Shape | None) -> tuple[int, ...] | None:
    """Returns a shape of which every size is known; None for others."""
    if shape is None:
        return None
    sizes = tuple(size for size in shape if isinstance(size, int))
    return sizes if len(sizes) == len(shape) else None


def zeros(data_type: DataType, shape: tuple[int, ...]) -> ir.TensorProtocol:
    """Makes an array of zeros or of empty texts."""
    if data_type is DataType.STRING:
        return ir.StringTensor(np.full(shape, b"", object))
    return ir.tensor(np.zeros(shape, ir.DataType(int(data_type)).numpy()), dtype=ir.DataType(int(data_type)))


def ir_type(type_: ValueType | None) -> ir.TypeProtocol | None:
    """Returns onnx-ir's type for an array or a sequence of arrays."""
    if isinstance(type_, TensorType):
        return ir.TensorType(ir.DataType(int(type_.data_type)))
    if isinstance(type_, SequenceType) and (element := ir_type(type_.element)) is not None:
        return ir.SequenceType(element)
    return None
