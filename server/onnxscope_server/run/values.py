"""Values -> what onnxruntime takes, and what it gives -> values, in every data type.

Arrays are passed on by reference wherever that is safe, in and out: an array that comes out keeps the memory of its
OrtValue alive and is the caller's own. `session.run` returns neither bfloat16, float8 nor the packed types; an
OrtValue holds them all, so their bytes are read there.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from onnxscope_server.domain import (
    Array,
    DataType,
    MapType,
    OptionalType,
    SequenceType,
    TensorType,
    Value,
    ValueType,
)
from onnxscope_server.errors import InputMismatchError, RunFailedError, ValueInvalidError
from onnxscope_server.run.environment import native
from onnxscope_server.run.node_types import described

DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.FLOAT32: np.dtype(np.float32),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.INT8: np.dtype(np.int8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.STRING: np.dtype(object),
    DataType.BOOL: np.dtype(np.bool_),
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.FLOAT64: np.dtype(np.float64),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.COMPLEX64: np.dtype(np.complex64),
    DataType.COMPLEX128: np.dtype(np.complex128),
    DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DataType.FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DataType.FLOAT8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DataType.FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DataType.FLOAT8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DataType.UINT4: np.dtype(ml_dtypes.uint4),
    DataType.INT4: np.dtype(ml_dtypes.int4),
    DataType.FLOAT4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    DataType.FLOAT8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DataType.UINT2: np.dtype(ml_dtypes.uint2),
    DataType.INT2: np.dtype(ml_dtypes.int2),
}
# one element a byte in numpy, several in onnxruntime, the first in the lowest bits
_BITS = {
    DataType.UINT4: 4,
    DataType.INT4: 4,
    DataType.FLOAT4E2M1: 4,
    DataType.UINT2: 2,
    DataType.INT2: 2,
}
# numpy itself has none of these: they travel as unsigned integers of the same size
_CARRIERS: dict[DataType, type[np.generic]] = {
    DataType.BFLOAT16: np.uint16,
    DataType.FLOAT8E4M3FN: np.uint8,
    DataType.FLOAT8E4M3FNUZ: np.uint8,
    DataType.FLOAT8E5M2: np.uint8,
    DataType.FLOAT8E5M2FNUZ: np.uint8,
    DataType.FLOAT8E8M0: np.uint8,
}
CPU = native.OrtDevice(native.OrtDevice.cpu(), native.OrtDevice.default_memory(), 0)


@dataclass(frozen=True, slots=True)
class Feed:
    """An input on its way into a run.

    Attributes:
        value: an OrtValue for numbers; text, sequences and maps in the form that `session.run` takes.
        memory: the array whose memory the OrtValue borrows; it must live as long.
    """

    value: Any
    memory: Array | None

    @property
    def is_ort_value(self) -> bool:
        """Whether the run may take OrtValues only."""
        return isinstance(self.value, native.OrtValue)


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """A value that one run made and another takes as it is, without a look at it.

    Attributes:
        ort_value: onnxruntime's own.
        memory: the array that it lies in, where that is not onnxruntime's.
    """

    ort_value: Any
    memory: Array | None = None


def is_packed(data_type: DataType) -> bool:
    """Returns whether onnxruntime holds several elements of this type in a byte."""
    return data_type in _BITS


def is_carried(value_type: ValueType | None) -> bool:
    """Returns whether only an OrtValue holds values of this type, and `session.run` cannot return them."""
    element = value_type.element if isinstance(value_type, OptionalType) else value_type
    if not isinstance(element, TensorType):
        return False
    known_to_run = element.data_type is DataType.FLOAT8E4M3FN
    return element.data_type in _BITS or (element.data_type in _CARRIERS and not known_to_run)


def to_feed(name: str, value: Value | Handle, value_type: ValueType | None) -> Feed:
    """Makes a value ready for a run.

    Args:
        name: of the input, for messages.
        value: what the caller gives; not None.
        value_type: what the session declares.

    Returns:
        The feed; it shares memory with an array that is contiguous and in this machine's byte order.

    Raises:
        InputMismatchError: the value is of another kind or data type.
        ValueInvalidError: text that is no text.
    """
    if isinstance(value, Handle):
        return Feed(value.ort_value, None)
    wanted = value_type.element if isinstance(value_type, OptionalType) else value_type
    match wanted, value:
        case TensorType(sparse=True), np.ndarray():
            return Feed(_to_sparse(_checked(name, value, wanted)), None)
        case TensorType(data_type=DataType.STRING), np.ndarray():
            return Feed(_text(name, value), None)
        case TensorType(), np.ndarray():
            return as_ort_value(_checked(name, value, wanted), wanted.data_type)
        case SequenceType(element=element), list() | tuple():
            return Feed([_item(f"{name}[{index}]", item, element) for index, item in enumerate(value)], None)
        case MapType(), dict():
            if not value:
                raise InputMismatchError(
                    f"input {name!r} is an empty map, which onnxruntime cannot take; give at least one entry",
                    input=name,
                    expected=described(wanted),
                    got="an empty map",
                )
            return Feed({_scalar(key): _scalar(item) for key, item in value.items()}, None)
    raise _mismatch(name, described(value_type), value)


def to_value(name: str, ort_value: Any, session: Any, *, feeds: Iterable[Feed] = ()) -> Value:
    """Reads an OrtValue that a run returned.

    Args:
        name: of the output.
        ort_value: what the run returned.
        session: the native session that returned it.
        feeds: what went into the run; an output that is an input passed through is copied.

    Returns:
        The value; arrays of one or more whole bytes an element share the OrtValue's memory and keep it alive.

    Raises:
        RunFailedError: text that is not UTF-8.
    """
    # of an optional that is not there everything but this crashes the process
    if not ort_value.has_value():
        return None
    if ort_value.is_sparse_tensor():
        return _from_sparse(name, ort_value)
    if ort_value.is_tensor():
        return _unshared(_to_array(name, ort_value), feeds)
    # a sequence or a map: a binding converts what it holds, without a run
    binding = native.SessionIOBinding(session)
    binding.bind_ortvalue_output(name, ort_value)
    return own(_returned(name, binding.copy_outputs_to_cpu)[0])


def to_value_of_run(value: Any, value_type: ValueType | None, *, feeds: Iterable[Feed] = ()) -> Value:
    """Takes over a value that `session.run` returned.

    Args:
        value: the value.
        value_type: what the session declares; float8 comes back as bytes and is given its type again.
        feeds: what went into the run; an output that is an input passed through is copied.
    """
    if not isinstance(value, np.ndarray):
        return own(value)
    element = value_type.element if isinstance(value_type, OptionalType) else value_type
    if isinstance(element, TensorType) and element.data_type in _CARRIERS and value.dtype == np.uint8:
        value = value.view(DTYPES[element.data_type])
    return _unshared(value, feeds)


def own(value: Any) -> Value:
    """Returns a sequence with arrays of its own: onnxruntime's sequences share items with each other."""
    if isinstance(value, list):
        return [own(item) for item in value]
    if isinstance(value, np.ndarray) and not value.flags.owndata:
        return value.copy()
    kept: Value = value
    return kept


def _unshared(array: Array, feeds: Iterable[Feed]) -> Array:
    shared = any(feed.memory is not None and np.may_share_memory(array, feed.memory) for feed in feeds)
    return array.copy() if shared else array


class _Memory:
    """An OrtValue's memory as numpy's array interface; arrays made from it keep the OrtValue alive."""

    def __init__(self, ort_value: Any, carrier: type[np.generic], shape: tuple[int, ...]) -> None:
        self._ort_value = ort_value
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": np.dtype(carrier).str,
            "data": (ort_value.data_ptr(), False),
        }


def _to_array(name: str, ort_value: Any) -> Array:
    data_type, shape = DataType(ort_value.element_type()), tuple(ort_value.shape())
    array: Array
    if data_type is DataType.STRING:
        array = _returned(name, ort_value.numpy)
    elif not math.prod(shape):
        array = np.empty(shape, DTYPES[data_type])
    elif data_type in _BITS:
        array = _unpacked(ort_value, data_type, shape)
    elif data_type in _CARRIERS:
        memory = _Memory(ort_value, _CARRIERS[data_type], shape)
        array = np.asarray(memory).view(DTYPES[data_type])
    else:
        array = ort_value.numpy()
    return array


def as_ort_value(array: Array, data_type: DataType) -> Feed:
    """Returns an array of numbers as an OrtValue, which shares its memory where it is contiguous."""
    # not ascontiguousarray, which makes a scalar a vector
    array = array if array.flags.c_contiguous else array.copy(order="C")
    if data_type in _BITS:
        packed = _packed(array, _BITS[data_type])
        held = native.OrtValue.ortvalue_from_shape_and_onnx_type(list(array.shape), int(data_type), CPU)
        if packed.nbytes:
            ctypes.memmove(held.data_ptr(), packed.ctypes.data, packed.nbytes)
        return Feed(held, None)
    if data_type in _CARRIERS:
        raw = array.view(_CARRIERS[data_type])
        return Feed(native.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, int(data_type)), raw)
    return Feed(native.OrtValue.ortvalue_from_numpy(array, CPU), array)


def _packed(array: Array, bits: int) -> Array:
    raw = array.reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    per_byte = 8 // bits
    packed = np.zeros(-(-len(raw) // per_byte), np.uint8)
    for lane in range(per_byte):
        elements = raw[lane::per_byte]
        packed[: len(elements)] |= elements << np.uint8(lane * bits)
    return packed


def _unpacked(ort_value: Any, data_type: DataType, shape: tuple[int, ...]) -> Array:
    bits, count = _BITS[data_type], math.prod(shape)
    per_byte = 8 // bits
    packed = np.asarray(_Memory(ort_value, np.uint8, (-(-count // per_byte),)))
    raw = np.empty(count, np.uint8)
    for lane in range(per_byte):
        elements = raw[lane::per_byte]
        elements[:] = (packed[: len(elements)] >> np.uint8(lane * bits)) & np.uint8((1 << bits) - 1)
    array: Array = raw.view(DTYPES[data_type]).reshape(shape)
    return array


def _checked(name: str, array: Array, wanted: TensorType) -> Array:
    native_order = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if native_order.dtype != DTYPES[wanted.data_type]:
        raise _mismatch(name, described(wanted), array)
    return native_order


def _text(name: str, array: Array) -> Array:
    if array.dtype.kind not in "OUT":
        raise _mismatch(name, "text", array)
    texts = array.astype(object)
    for text in texts.reshape(-1):
        if not isinstance(text, str):
            raise ValueInvalidError(
                f"input {name!r} holds {type(text).__name__} among its texts; give str only", value=name
            )
    return texts


def _item(name: str, value: Any, value_type: ValueType | None) -> Any:
    """Returns an item of a sequence as `session.run` takes it: it knows arrays there, no OrtValues."""
    if isinstance(value_type, TensorType) and isinstance(value, np.ndarray):
        if value_type.data_type is DataType.STRING:
            return _text(name, value)
        array = _checked(name, value, value_type)
        return array if array.flags.c_contiguous else array.copy(order="C")
    if isinstance(value_type, MapType) and isinstance(value, dict) and value:
        return {_scalar(key): _scalar(item) for key, item in value.items()}
    raise _mismatch(name, described(value_type), value)


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def _to_sparse(array: Array) -> Any:
    flat = array.reshape(-1)
    places = np.flatnonzero(flat).astype(np.int64)
    tensor = native.SparseTensor.sparse_coo_from_numpy(list(array.shape), flat[places], places, CPU)
    return native.OrtValue.ort_value_from_sparse_tensor(tensor)


def _from_sparse(name: str, ort_value: Any) -> Array:
    tensor = ort_value.as_sparse_tensor()
    if tensor.format != native.OrtSparseFormat.ORT_SPARSE_COO:
        raise RunFailedError(f"{name!r} is stored as {tensor.format}; only COO can be read", detail=name)
    values, shape = tensor.values(), tuple(tensor.dense_shape())
    dense: Array = np.zeros(math.prod(shape), values.dtype)
    places = tensor.get_coo_data().indices()
    flat = places if places.ndim == 1 else np.ravel_multi_index(tuple(places.T), shape)
    dense[flat] = values
    shaped: Array = dense.reshape(shape)
    return shaped


def _returned(name: str, read: Any) -> Any:
    try:
        return read()
    except UnicodeDecodeError as error:
        raise RunFailedError(f"{name!r} holds text that is not UTF-8: {error}", detail=str(error)) from error


def _mismatch(name: str, expected: str, value: Any) -> InputMismatchError:
    got = str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
    return InputMismatchError(
        f"input {name!r} is {expected}, not {got}; convert it first",
        input=name,
        expected=expected,
        got=got,
    )
