"""Checks inputs against what a model declares, before anything runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxscope_server.catalog.description import ValueSpec
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import (
    Array,
    DataType,
    Dimension,
    MapType,
    OptionalType,
    SequenceType,
    TensorType,
    Value,
    ValueType,
)
from onnxscope_server.errors import InputMismatchError
from onnxscope_server.plan.element_types import name_of

_TEXT_KINDS = "OUST"


def check(model: CatalogModel, inputs: Mapping[str, Value]) -> None:
    """Checks the names, types, ranks and fixed sizes of inputs.

    Args:
        model: the model that they are for.
        inputs: values by input name.

    Raises:
        InputMismatchError: something is not what the model declares; the text lists what it declares.
    """
    specs = {spec.name: spec for spec in (*model.inputs, *model.optional_inputs)}
    missing = [spec.name for spec in model.inputs if spec.name not in inputs and not _may_lack(spec)]
    unknown = [name for name in inputs if name not in specs]
    if missing or unknown:
        what = f"The input {missing[0]!r} is missing." if missing else f"There is no input {unknown[0]!r}."
        raise InputMismatchError(
            f"{what} {described(model)}",
            input=(missing or unknown)[0],
            expected=", ".join(specs),
            got=", ".join(inputs),
        )
    for name, value in inputs.items():
        spec = specs[name]
        why = _mismatch(spec.type, value)
        if why:
            raise InputMismatchError(
                f"The input {name!r} does not fit: {why}. {described(model)}",
                input=name,
                expected=_shown(spec.type),
                got=_got(value),
            )


def described(model: CatalogModel) -> str:
    """Returns a sentence that lists the inputs of a model."""
    listed = [f"{spec.name}: {_shown(spec.type)}" for spec in model.inputs]
    listed += [f"{spec.name}: {_shown(spec.type)} (has a default)" for spec in model.optional_inputs]
    return f"The model takes {'; '.join(listed)}." if listed else "The model takes no inputs."


def _may_lack(spec: ValueSpec) -> bool:
    return isinstance(spec.type, OptionalType)


def _mismatch(declared: ValueType | None, value: Value) -> str:
    """Says why a value is not of a type; empty where it is, or where nothing is known."""
    why = ""
    if isinstance(declared, OptionalType):
        why = "" if value is None else _mismatch(declared.element, value)
    elif isinstance(declared, SequenceType):
        found = (_mismatch(declared.element, item) for item in value) if isinstance(value, list) else ["it is no list"]
        why = next((item for item in found if item), "")
    elif isinstance(declared, MapType):
        why = "" if isinstance(value, dict) else "it is no dict"
    elif declared is not None:
        why = _array_mismatch(declared, value) if isinstance(value, np.ndarray) else "it is no array"
    return why


def _array_mismatch(declared: TensorType, value: Array) -> str:
    if _name(value.dtype) != name_of(declared.data_type):
        return f"its dtype is {_name(value.dtype)}, not {name_of(declared.data_type)}"
    if declared.shape is None:
        return ""
    if len(declared.shape) != value.ndim:
        return f"it has {value.ndim} axes, not {len(declared.shape)}"
    for axis, (wanted, size) in enumerate(zip(declared.shape, value.shape, strict=True)):
        if isinstance(wanted, int) and wanted != size:
            return f"its axis {axis} has {size} entries, not {wanted}"
    return ""


# numpy puts a name together whenever it is asked
@functools.lru_cache(256)
def _name(dtype: np.dtype[Any]) -> str:
    return name_of(DataType.STRING) if dtype.kind in _TEXT_KINDS else dtype.name


def _shown(type_: ValueType | None) -> str:
    if type_ is None:
        return "anything"
    if isinstance(type_, TensorType):
        shape = "of any shape" if type_.shape is None else f"[{', '.join(map(_extent, type_.shape))}]"
        return f"{name_of(type_.data_type)} {shape}"
    if isinstance(type_, MapType):
        return f"dict from {name_of(type_.key)} to {_shown(type_.value)}"
    kind = "list of" if isinstance(type_, SequenceType) else "optionally"
    return f"{kind} {_shown(type_.element)}"


def _extent(size: Dimension) -> str:
    return "?" if size is None else str(size)


def _got(value: Value) -> str:
    if isinstance(value, np.ndarray):
        return f"{_name(value.dtype)} {list(value.shape)}"
    return type(value).__name__
