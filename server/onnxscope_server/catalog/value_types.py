"""ONNX's types as values of the domain."""

from __future__ import annotations

import onnx

from onnxscope_server.domain import (
    DataType,
    Dimension,
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    TensorType,
    ValueType,
)

_NUMBERS = frozenset(item.value for item in DataType)
_GENERATED = "unk__"


def value_type(declared: onnx.TypeProto) -> ValueType | None:
    """Turns a declared or inferred type into the domain's.

    Args:
        declared: the type; it may leave out anything.

    Returns:
        What is known; None where nothing is.
    """
    which = declared.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(declared, which)
        if tensor.elem_type not in _NUMBERS:
            return None
        shape = _shape(tensor.shape) if tensor.HasField("shape") else None
        return TensorType(DataType(tensor.elem_type), shape, sparse=which == "sparse_tensor_type")
    if which == "sequence_type":
        return SequenceType(value_type(declared.sequence_type.elem_type))
    if which == "optional_type":
        return OptionalType(value_type(declared.optional_type.elem_type))
    if which == "map_type" and declared.map_type.key_type in _NUMBERS:
        return MapType(DataType(declared.map_type.key_type), value_type(declared.map_type.value_type))
    return None


def tensor_type(tensor: onnx.TensorProto) -> TensorType | None:
    """Returns the type of an initializer; None for a type of element that has no name here."""
    if tensor.data_type not in _NUMBERS:
        return None
    return TensorType(DataType(tensor.data_type), tuple(tensor.dims))


def _shape(shape: onnx.TensorShapeProto) -> Shape:
    return tuple(_dimension(item) for item in shape.dim)


def _dimension(item: onnx.TensorShapeProto.Dimension) -> Dimension:
    which = item.WhichOneof("value")
    if which == "dim_value":
        # exporters write -1 for "any"; zero is a size
        return item.dim_value if item.dim_value >= 0 else None
    if which == "dim_param" and item.dim_param and not item.dim_param.startswith(_GENERATED):
        return item.dim_param
    return None


def type_proto(known: ValueType | None) -> onnx.TypeProto:
    """Turns a type of the domain into ONNX's; an empty one where nothing is known."""
    proto = onnx.TypeProto()
    if isinstance(known, TensorType):
        tensor = proto.sparse_tensor_type if known.sparse else proto.tensor_type
        tensor.elem_type = int(known.data_type)
        if known.shape is not None:
            tensor.shape.SetInParent()
            for size in known.shape:
                tensor.shape.dim.add(
                    dim_value=size if isinstance(size, int) else None,
                    dim_param=size if isinstance(size, str) else None,
                )
    elif isinstance(known, SequenceType):
        proto.sequence_type.elem_type.CopyFrom(type_proto(known.element))
    elif isinstance(known, OptionalType):
        proto.optional_type.elem_type.CopyFrom(type_proto(known.element))
    elif isinstance(known, MapType):
        proto.map_type.key_type = int(known.key)
        proto.map_type.value_type.CopyFrom(type_proto(known.value))
    return proto


def over_iterations(type_: ValueType | None, repeats: int) -> ValueType | None:
    """Returns the type of what a value holds over all iterations of the bodies around it, their axes first."""
    if not repeats or type_ is None:
        return type_
    if isinstance(type_, TensorType) and not type_.sparse:
        shape = None if type_.shape is None else ((None,) * repeats + type_.shape)
        return TensorType(type_.data_type, shape)
    for _ in range(repeats):
        type_ = SequenceType(type_)
    return type_


def of_one_iteration(type_: ValueType | None, repeats: int) -> ValueType | None:
    """Returns the type that `over_iterations` was given."""
    for _ in range(repeats):
        if isinstance(type_, TensorType):
            type_ = TensorType(type_.data_type, None if type_.shape is None else type_.shape[1:])
        elif isinstance(type_, SequenceType):
            type_ = type_.element
    return type_
