"""Named arrays in files: .npy, .npz, .safetensors and .json, never pickled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from onnxscope.cli.console import CommandError
from onnxscope.show.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnxscope.v1.codec import Array, Value

WRITABLE = (".npz", ".safetensors", ".npy")
READABLE = (".npy", ".npz", ".safetensors", ".json")
_DTYPES_KEY = "onnxscope.dtypes"

_SAFETENSORS: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
# what safetensors has no type for, and a wider one that holds every value of it
_WIDER: dict[str, Any] = {
    "int4": np.int8,
    "int2": np.int8,
    "uint4": np.uint8,
    "uint2": np.uint8,
    "float4_e2m1fn": np.float32,
}


def named_arrays(name: str, value: Value) -> Iterator[tuple[str, Array]]:
    """Takes a value apart into arrays that a file can hold.

    A list gives `NAME/0`, `NAME/1` ..., a dict `NAME/keys` and `NAME/values`, an absent value nothing.
    """
    if value is None:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from named_arrays(f"{name}/{index}", item)
    elif isinstance(value, dict):
        for part, items in (("keys", list(value)), ("values", list(value.values()))):
            text = bool(items) and isinstance(items[0], str)
            yield f"{name}/{part}", np.array(items, object if text else None)
    else:
        yield name, np.asarray(value)


def check_suffix(path: Path) -> None:
    """Refuses a file that `save` cannot write, before anything is computed.

    Raises:
        CommandError: the suffix is not in `WRITABLE`, or the folder is missing.
    """
    if path.suffix.lower() not in WRITABLE:
        raise CommandError(f"{path} must end in {' or '.join(WRITABLE)}: that says how to write it")
    if not path.resolve().parent.is_dir():
        raise CommandError(f"the folder {path.resolve().parent} does not exist; create it first")


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays into one file; a failure leaves what was there before.

    Args:
        path: ends in .npz, .safetensors, or .npy for a single array.
        arrays: by name. Strings go into .npz; bfloat16, float8, int4 and their like into .safetensors (types
            that it lacks are widened, and the metadata has the true one, which `load` restores).

    Raises:
        CommandError: the format cannot hold an array as it is.
    """
    check_suffix(path)
    write = {".npz": _save_npz, ".safetensors": _save_safetensors, ".npy": _save_npy}
    with replacing(path) as part:
        write[path.suffix.lower()](part, arrays)


def load(path: Path) -> dict[str, Any]:
    """Reads a file of arrays.

    Returns:
        Arrays by name; what .npy and .json hold has the name "", the latter as Python's numbers,
        strings and lists.

    Raises:
        CommandError: the file is none of `READABLE`, is damaged, or could only be read by unpickling.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    try:
        match suffix:
            case ".npy":
                return {"": np.load(path, allow_pickle=False)}
            case ".npz":
                with np.load(path, allow_pickle=False) as archive:
                    return dict(archive)
            case ".safetensors":
                return _load_safetensors(path)
            case ".json":
                return {"": json.loads(path.read_text(encoding="utf-8"))}
            case _:
                known = ", ".join(READABLE)
                raise CommandError(f"{path}: files of arrays end in {known}; images in .png or .jpg")
    except (ValueError, zipfile.BadZipFile, EOFError, safetensors.SafetensorError) as error:
        raise CommandError(f"{path} cannot be read as {suffix}: {error}") from error


def _save_npz(part: Path, arrays: Mapping[str, Array]) -> None:
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _storable(name, array), allow_pickle=False)


def _save_npy(part: Path, arrays: Mapping[str, Array]) -> None:
    if len(arrays) != 1:
        listed = ", ".join(arrays) or "none"
        raise CommandError(
            f".npy holds one array, and there are {len(arrays)} ({listed}); "
            "name one with --at and add --no-outputs, or write to .npz"
        )
    with part.open("wb") as file:
        for name, array in arrays.items():
            np.lib.format.write_array(file, _storable(name, array), allow_pickle=False)


def _storable(name: str, array: Array) -> Array:
    """Returns what numpy's own format can hold without loss."""
    if array.dtype.kind == "O":
        text = array.astype(np.str_)
        if not np.array_equal(text.astype(object), array):
            raise CommandError(f"{name} has strings that end in a zero character, which numpy cuts off")
        return text
    if array.dtype.isbuiltin != 1:
        raise CommandError(f"{name} is {array.dtype.name}, which numpy's formats cannot hold; write to .safetensors")
    return array


def _save_safetensors(part: Path, arrays: Mapping[str, Array]) -> None:
    storable: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    for name, array in arrays.items():
        held = array
        if array.dtype.kind in "OUST" or array.dtype == np.complex128:
            kind = "complex128" if array.dtype == np.complex128 else "text"
            raise CommandError(f"{name} is {kind}, which .safetensors cannot hold; write it to .npz")
        if array.dtype.name in _WIDER:
            dtypes[name] = array.dtype.name
            held = array.astype(_WIDER[array.dtype.name])
        storable[name] = np.ascontiguousarray(held).reshape(held.shape)
    save_file(storable, part, metadata={_DTYPES_KEY: json.dumps(dtypes)} if dtypes else None)


def _load_safetensors(path: Path) -> dict[str, Array]:
    with safetensors.safe_open(path, framework="np") as file:
        dtypes = json.loads((file.metadata() or {}).get(_DTYPES_KEY, "{}"))
    arrays: dict[str, Array] = {}
    deserialize: Any = safetensors.deserialize
    for name, held in deserialize(path.read_bytes()):
        if held["dtype"] not in _SAFETENSORS:
            raise CommandError(f"{path}: {name} is {held['dtype']}, which has no ONNX type")
        array = np.frombuffer(held["data"], _SAFETENSORS[held["dtype"]]).reshape(held["shape"])
        true = dtypes.get(name)
        arrays[name] = array.astype(getattr(ml_dtypes, true)) if true in _WIDER else array
    return arrays
