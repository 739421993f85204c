"""A caller's inputs, checked against what the model declares before anything is sent.

Python numbers and lists become arrays of the declared dtype; arrays are never converted: a wrong
dtype is a mistake that the caller should see.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from onnxscope import decode
from onnxscope.errors import InputMismatchError
from onnxscope.results import Shape
from onnxscope.show.tables import shape_text
from onnxscope.v1 import codec
from onnxscope.v1 import model_service_pb2 as pb
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope.v1.codec import Array, Value

_PYTHON = (list, tuple, bool, int, float, complex, str, bytes)


def named(x: Any, model: pb.Model) -> Mapping[str, Any]:
    """Returns inputs by name: a dict as it is, anything else as the model's only input.

    Raises:
        InputMismatchError: the model has several inputs and `x` is no dict.
    """
    if isinstance(x, Mapping):
        return x
    alone = model.inputs or model.optional_inputs
    if len(alone) != 1:
        raise _mismatch(model, f"the model takes {len(alone)} inputs: give a dict from name to array")
    return {alone[0].name: x}


def check(x: Any, model: pb.Model, *, may_lack: Collection[str] = ()) -> dict[str, Value]:
    """Returns the inputs as they are sent, each in the dtype that the model declares.

    Args:
        x: a dict from name to value, or the value of the model's only input.
        model: whose inputs they are.
        may_lack: names of required inputs that come from elsewhere.

    Raises:
        InputMismatchError: a name, a dtype, a rank or a fixed size is not what the model declares;
            the message lists what it expects.
    """
    given = named(x, model)
    required = {spec.name: spec for spec in model.inputs}
    known = required | {spec.name: spec for spec in model.optional_inputs}
    extra = [str(name) for name in given if name not in known]
    if extra:
        raise _mismatch(model, f"the model has no input {', '.join(map(repr, extra))}", extra[0])
    missing = [
        name
        for name, spec in required.items()
        if name not in given and name not in may_lack and not spec.type.HasField("optional")
    ]
    if missing:
        raise _mismatch(model, f"input {', '.join(map(repr, missing))} is missing", missing[0])
    checked = {}
    for name, value in given.items():
        if value is None and (name not in required or name in may_lack):
            continue
        try:
            checked[name] = _convert(value, known[name].type)
        except _Unfit as problem:
            got = problem.got or _look(value)
            raise _mismatch(model, f"input {name!r} {problem}", name, got) from problem
    return checked


class _Unfit(Exception):  # noqa: N818  # never leaves this module
    """A value is not what its type asks for; the text continues "input 'x' ..."."""

    def __init__(self, text: str, got: str = "") -> None:
        super().__init__(text)
        self.got = got


def _convert(value: Any, declared: tensor_pb.ValueType) -> Value:
    match declared.WhichOneof("type"):
        case "tensor" | "sparse_tensor" as which:
            return _array(value, getattr(declared, which))
        case "sequence":
            if not isinstance(value, list | tuple):
                raise _Unfit(f"is {_look(value)}; the model takes a list of values")
            return [_convert(item, declared.sequence.element) for item in value]
        case "map":
            return _map(value, declared.map)
        case "optional":
            return None if value is None else _convert(value, declared.optional.element)
    if value is None or isinstance(value, dict):
        return value
    return _dense(np.asarray(value))


def _map(value: Any, declared: tensor_pb.MapType) -> Value:
    if not isinstance(value, Mapping):
        raise _Unfit(f"is {_look(value)}; the model takes a dict")
    key_type = tensor_pb.TensorType(data_type=declared.key)
    keys = _array(list(value), key_type).tolist()
    if declared.value.WhichOneof("type") != "tensor":
        return dict(zip(keys, value.values(), strict=True))
    column = _array(list(value.values()), tensor_pb.TensorType(data_type=declared.value.tensor.data_type))
    return dict(zip(keys, column, strict=True))


def _array(value: Any, declared: tensor_pb.TensorType) -> Array:
    if value is None:
        raise _Unfit("is None; the model takes an array")
    wanted = codec.DTYPES.get(declared.data_type)
    if wanted is None:
        array = np.asarray(value)
    elif declared.data_type == tensor_pb.DATA_TYPE_STRING:
        array = _strings(value)
    elif _is_python(value):
        array = _from_python(value, wanted)
    else:
        array = _same_dtype(_as_array(value), wanted)
    _check_shape(array, _declared_shape(declared.SerializeToString()))
    return _dense(array)


@functools.lru_cache(256)
def _declared_shape(declared: bytes) -> Shape | None:
    return decode.shape(tensor_pb.TensorType.FromString(declared))


def _dense(array: Array) -> Array:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    return np.asarray(array, order="C")


def _as_array(value: Any) -> Array:
    try:
        return np.asarray(value)
    except Exception as error:
        raise _Unfit(f"cannot be read as an array: {error}") from error


def _is_python(value: Any) -> bool:
    """Says whether a value is made of Python's own numbers, with no array in it."""
    if isinstance(value, np.generic) or not isinstance(value, _PYTHON):
        return False
    return all(_is_python(item) for item in value) if isinstance(value, list | tuple) else True


def _same_dtype(array: Array, wanted: np.dtype[Any]) -> Array:
    got = array.dtype.newbyteorder("=") if array.dtype.byteorder == ">" else array.dtype
    if got == wanted:
        return array
    raise _Unfit(
        f"is {got.name}; the model takes {wanted.name}: convert it with .astype({wanted.name!r})"
        if got.kind in "biufcV"
        else f"holds {got.name}; the model takes {wanted.name}"
    )


def _from_python(value: Any, wanted: np.dtype[Any]) -> Array:
    raw = _as_array(value)
    if raw.size == 0:
        return raw.astype(wanted)
    is_integer = wanted.name.startswith(("int", "uint"))
    is_real = not is_integer and wanted.kind not in "bc"
    allowed = "b" if wanted.kind == "b" else "iu" if is_integer else "iuf" if is_real else "iufc"
    if raw.dtype.kind not in allowed:
        raise _Unfit(f"holds {_kind_text(raw)}; the model takes {wanted.name}")
    with np.errstate(over="ignore"):
        array = raw.astype(wanted)
    if is_integer and not np.array_equal(array.astype(raw.dtype), raw):
        raise _Unfit(f"holds numbers beyond the range of {wanted.name}")
    if is_real and np.any(np.isfinite(raw) & ~np.isfinite(array.astype(np.float64))):
        raise _Unfit(f"holds numbers beyond the range of {wanted.name}")
    return array


def _kind_text(raw: Array) -> str:
    kinds = {"b": "bools", "i": "integers", "u": "integers", "f": "floats", "c": "complex numbers"}
    return kinds.get(raw.dtype.kind, "text" if raw.dtype.kind in "US" else "objects")


def _strings(value: Any) -> Array:
    raw = _as_array(value)
    if raw.dtype.kind not in "OUST" and raw.size:
        raise _Unfit(f"holds {_kind_text(raw)}; the model takes strings")
    texts = np.empty(raw.shape, object)
    for index, item in enumerate(raw.reshape(-1).tolist()):
        if isinstance(item, bytes):
            item = _decoded(item)  # noqa: PLW2901  # bytes are text here
        if not isinstance(item, str):
            raise _Unfit(f"holds {type(item).__name__}; the model takes strings")
        texts.reshape(-1)[index] = item
    return texts


def _decoded(item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise _Unfit("holds bytes that are no UTF-8; the model takes strings") from error


def _check_shape(array: Array, declared: tuple[int | str | None, ...] | None) -> None:
    if declared is None:
        return
    fits = array.ndim == len(declared) and all(
        not isinstance(extent, int) or extent < 0 or extent == size
        for extent, size in zip(declared, array.shape, strict=True)
    )
    if not fits:
        raise _Unfit(
            f"has the shape {shape_text(array.shape)}; the model takes {shape_text(declared)}"
            + (f", {len(declared)} axes" if array.ndim != len(declared) else "")
        )


def _look(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype}{shape_text(value.shape)}"
    return type(value).__name__


def _mismatch(model: pb.Model, problem: str, name: str = "", got: str = "") -> InputMismatchError:
    required, optional = decode.specs(model.inputs), decode.specs(model.optional_inputs)
    lines = [f"  {spec}" for spec in required] + [f"  {spec} (has a default)" for spec in optional]
    expected = next((str(spec) for spec in (*required, *optional) if spec.name == name), "")
    return InputMismatchError(
        "\n".join([problem, "the inputs of the model:", *(lines or ["  none"])]),
        {"input": name, "expected": expected, "got": got},
    )
