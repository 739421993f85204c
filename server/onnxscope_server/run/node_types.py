"""The types that a session declares, as domain types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxscope_server.domain import (
    DataType,
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    TensorType,
    ValueType,
)

_SPECIAL_NAMES = {"float": DataType.FLOAT32, "double": DataType.FLOAT64}


def declared_type(text: str, shape: Sequence[Any] = ()) -> ValueType | None:
    """Reads the type of a session's input or output.

    Args:
        text: onnxruntime's notation, such as `tensor(float)` or `seq(map(int64,tensor(float)))`.
        shape: sizes, symbols and None; onnxruntime says `[]` for a scalar and for an unknown rank alike.

    Returns:
        The type; None where the notation is unknown.
    """
    kind, _, rest = text.partition("(")
    inner = rest[:-1]
    sizes: Shape | None = tuple(shape) or None
    match kind:
        case "tensor" | "sparse_tensor":
            data_type = data_type_named(inner)
            return TensorType(data_type, sizes, kind == "sparse_tensor") if data_type else None
        case "seq":
            return SequenceType(declared_type(inner))
        case "optional":
            return OptionalType(declared_type(inner, shape))
        case "map":
            key, _, value = inner.partition(",")
            key_type = data_type_named(key)
            return MapType(key_type, declared_type(value)) if key_type else None
        case _:
            return None


def data_type_named(name: str) -> DataType | None:
    """Returns the data type that onnxruntime calls `name`, None for one that ONNX lacks."""
    return _SPECIAL_NAMES.get(name) or DataType.__members__.get(name.upper())


def described(value_type: ValueType | None) -> str:
    """Returns a type for a reader: `float32`, `sequence of float32`, `map from int64 to float32`."""
    match value_type:
        case TensorType(data_type=data_type):
            return data_type.name.lower()
        case SequenceType(element=element):
            return f"sequence of {described(element)}"
        case OptionalType(element=element):
            return f"optional {described(element)}"
        case MapType(key=key, value=value):
            return f"map from {key.name.lower()} to {described(value)}"
        case _:
            return "unknown"
