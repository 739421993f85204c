"""External data: which files a graph names, whether they may be opened, and whether they are long enough."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import onnx

from onnxscope_server.catalog.walk import graphs, nodes
from onnxscope_server.errors import ExternalDataMissingError, ModelInvalidError

_DRIVE = re.compile(r"[A-Za-z]:")
# onnxruntime reads a location with this in it as an address in its own memory
_MEMORY_ADDRESS = "_ORT_MEM_ADDR_"


def needed_bytes(proto: onnx.ModelProto) -> dict[str, int]:
    """Lists the files of external data that a model names, wherever a tensor may stand.

    Args:
        proto: the model.

    Returns:
        Number of bytes that each file must have at least, by its path relative to the model file's folder, with forward
        slashes.

    Raises:
        ExternalDataMissingError: a path leads out of the model's folder.
        ModelInvalidError: an offset or a length is no number.
    """
    needed: dict[str, int] = {}
    for tensor in _external(proto):
        fields = {entry.key: entry.value for entry in tensor.external_data}
        path = _checked(fields.get("location", ""), tensor.name)
        offset = _number(fields.get("offset", "0"), tensor.name)
        length = _number(fields["length"], tensor.name) if fields.get("length") else 0
        needed[path] = max(needed.get(path, 0), offset + length)
    for path in needed:
        for parent in PurePosixPath(path).parents:
            if str(parent) in needed:
                detail = f"external data lies in {str(parent)!r} and in {path!r}: a file and a folder of one name"
                raise ModelInvalidError(f"The model contradicts itself: {detail}.", detail=detail)
    return needed


def relocate(proto: onnx.ModelProto, place: Callable[[str], str]) -> None:
    """Changes where every external tensor of a model points to.

    Args:
        proto: the model; it is changed.
        place: gives the new location of a path as `needed_bytes` lists it.
    """
    for tensor in _external(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place(_checked(entry.value, tensor.name))


def check_size(path: str, byte_count: int, needed: Mapping[str, int]) -> None:
    """Checks that a file is as long as the tensors in it need.

    Raises:
        ExternalDataMissingError: it is shorter.
    """
    if byte_count < needed[path]:
        raise ExternalDataMissingError(
            f"The external data file {path!r} has {byte_count} bytes, but the model needs {needed[path]}: "
            "it is cut short or belongs to another model. Copy it again.",
            path=path,
        )


def locate(model_file: Path, needed: Mapping[str, int]) -> dict[str, Path]:
    """Finds a model's external data on disk.

    A file must lie in the model file's folder after following links; where the model file is itself a link, as in
    Hugging Face's cache, in the folder of the file that it leads to.

    Args:
        model_file: the model.
        needed: what `needed_bytes` gave.

    Returns:
        The file behind each path, links followed.

    Raises:
        ExternalDataMissingError: a file is missing, too short or lies elsewhere.
    """
    folders = {model_file.parent.resolve(), model_file.resolve().parent}
    found = {}
    for path in needed:
        file = (model_file.parent / path).resolve()
        if not file.is_file():
            raise ExternalDataMissingError(
                f"The model's external data file {path!r} is not beside {model_file.name!r}. Copy it along with it.",
                path=path,
            )
        if not any(file.is_relative_to(folder) for folder in folders):
            raise ExternalDataMissingError(
                f"The model's external data file {path!r} is a link out of the model's folder, which is not followed. "
                "Put the file itself beside the model.",
                path=path,
            )
        check_size(path, file.stat().st_size, needed)
        found[path] = file
    return found


def common_folder(files: Iterable[Path]) -> Path:
    """Returns the innermost folder that holds all of the files."""
    return Path(os.path.commonpath([file.parent for file in files]))


def _external(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for main in graphs(proto):
        yield from main.initializer
        for sparse in main.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes(proto):
        yield from _attribute_tensors(node.attribute)
    for function in proto.functions:
        yield from _attribute_tensors(function.attribute_proto)


def _attribute_tensors(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        listed = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for sparse in (*listed, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _checked(location: str, tensor: str) -> str:
    parts = location.split("/")
    hostile = (
        location.startswith("/")
        or "\\" in location
        or ".." in parts
        or _DRIVE.match(location)
        or _MEMORY_ADDRESS in location
        or not location.isprintable()
    )
    path = str(PurePosixPath(location))
    if hostile or path == ".":
        raise ExternalDataMissingError(
            f"The external data of tensor {tensor!r} is said to lie in {location!r}, which is not a relative path "
            "inside the model's folder (forward slashes, no '..'). Save the model again with its data beside it.",
            path=location,
        )
    return path


def _number(text: str, tensor: str) -> int:
    if not (text.isascii() and text.isdigit()):
        detail = f"tensor {tensor!r} has external data at {text!r}, which is no number of bytes"
        raise ModelInvalidError(f"The model contradicts itself: {detail}.", detail=detail)
    return int(text)
