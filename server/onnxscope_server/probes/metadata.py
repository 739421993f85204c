"""What is known of a probe, as JSON in the metadata of its ONNX file.

    {"format": 1, "probe": {"name": ..., "address": ..., "reduction": {"kind": "mean", ...}, "report": {...}, ...}}

The JSON has the fields of `ProbeInfo` by their names, enums by their values, and numbers that are not finite as text,
for JSON has none. Fields that are not there have their defaults; fields that nobody knows are passed over, so that
files of later versions of the same format can be read.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import enum
import json
import math
import types
import typing
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxscope_server.domain import Array
from onnxscope_server.errors import ProbeInvalidError
from onnxscope_server.probe_domain import ProbeInfo, Task
from onnxscope_server.probes import linear

KEY = "onnxscope.probe"
FORMAT = 1


def read(data: bytes) -> ProbeInfo | None:
    """Returns what an ONNX file says of the probe that it is; None where it says nothing, as any other ONNX file.

    Raises:
        ProbeInvalidError: it is no ONNX file, or what it says is broken or of a later format.
    """
    return _info(parsed(data))


def written(data: bytes, info: ProbeInfo) -> bytes:
    """Returns an ONNX file that says `info` in its metadata, in place of what it said before.

    Raises:
        ProbeInvalidError: it is no ONNX file.
    """
    model = parsed(data)
    write(model, info)
    return bytes(model.SerializeToString())


def write(model: onnx.ModelProto, info: ProbeInfo) -> None:
    """Puts `info` into the metadata of a model, in place of what was there before."""
    others = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    text = json.dumps({"format": FORMAT, "probe": _plain(info)}, allow_nan=False, separators=(",", ":"))
    model.metadata_props.add(key=KEY, value=text)


def outputs(data: bytes) -> tuple[str, ...]:
    """Returns the names of an ONNX file's outputs.

    Raises:
        ProbeInvalidError: it is no ONNX file.
    """
    return tuple(output.name for output in parsed(data).graph.output)


def arrays(data: bytes) -> dict[str, Array]:
    """Returns the arrays of a linear probe, in the space of the activations; nothing for other probes.

    Returns:
        "coef" float64 [class, feature] and "intercept" [class] (or label, target, component); of two classes one row,
        as scikit-learn has it.

    Raises:
        ProbeInvalidError: it is no ONNX file, or its metadata is broken.
    """
    model = parsed(data)
    info = _info(model)
    if info is None or info.kind not in linear.LINEAR:
        return {}
    two_classes = info.task == Task.CLASSES and len(info.classes) == 2  # noqa: PLR2004 - it has the rows [-d, d]
    return linear.arrays(_constants(model), two_classes=two_classes)


def _constants(model: onnx.ModelProto) -> dict[str, Array]:
    """Returns the numbers that a file of any origin holds, by name."""
    constants = {}
    for one in model.graph.initializer:
        if one.data_type in {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE} and not one.external_data:
            with contextlib.suppress(ValueError, TypeError):  # fewer numbers than the shape says
                constants[one.name] = numpy_helper.to_array(one)
    return constants


def parsed(data: bytes) -> onnx.ModelProto:
    """Parses an ONNX file.

    Raises:
        ProbeInvalidError: it is none.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; probes don't import protobuf
        raise _broken("the file is no ONNX file", str(error)) from error
    if not model.graph.output:
        raise _broken("the file is no ONNX file", "it has no graph with an output")
    return model


def _info(model: onnx.ModelProto) -> ProbeInfo | None:
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        return None
    what = f"the file's metadata {KEY!r} is broken: delete that entry to import the file as any other ONNX file"
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise _broken(what, "it has no format")
        if content["format"] > FORMAT:
            raise _broken(
                "the file was written by a later version of onnxscope: update this server",
                f"format {content['format']} is above {FORMAT}",
            )
        info: ProbeInfo = _typed(ProbeInfo, content.get("probe"), "probe")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _broken(what, str(error)) from error
    return info


def _broken(what: str, detail: str) -> ProbeInvalidError:
    return ProbeInvalidError(f"{what} ({detail})", detail=detail)


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, collections.abc.Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Returns JSON as a value of a type that fields of `ProbeInfo` have.

    Raises:
        ValueError: it is of another type; the text says where.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return _one_of(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if dataclasses.is_dataclass(kind):
        return _of_fields(kind, value, where)
    accepted, make = {
        float: ((int, float, str), float),
        int: (int, int),
        collections.abc.Mapping: (dict, _same),  # parameters, of any type
    }.get(origin or kind, (str, kind))  # text, or an enum of text
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind in {float, int}):
        raise ValueError(f"{where} is of the wrong type, {type(value).__name__}")
    return make(value)


def _same(value: Any) -> Any:
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) > 1:  # a class: text or a number
        kinds = (str,) if isinstance(value, str) else (int,)
    return _typed(kinds[0], value, where)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is no list")  # noqa: TRY004 - read catches it as what is wrong with the JSON
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    pairs = zip(kinds, value, strict=True)
    return tuple(_typed(kind, one, f"{where}[{index}]") for index, (kind, one) in enumerate(pairs))


def _of_fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no object")  # noqa: TRY004 - read catches it as what is wrong with the JSON
    hints = typing.get_type_hints(kind)
    return kind(**{name: _typed(hints[name], value[name], f"{where}.{name}") for name in hints if name in value})
