"""Digests of parts of a graph that say all and nothing else: weights by content, attributes without names."""

from __future__ import annotations

import functools
import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx.defs

_SIZE = 16


def digest(*parts: bytes) -> bytes:
    """Returns a digest of a list of parts; where one ends and the next begins counts."""
    whole = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.digest()


def tensor_digest(tensor: onnx.TensorProto, folder: Path | None) -> bytes:
    """Returns a digest of a tensor's type, shape and content, whatever its name.

    Args:
        tensor: may refer to external data.
        folder: external data that lies here is read; of all other, file, place and length stand for the content.
    """
    head = digest(tensor.data_type.to_bytes(4, "little"), *(str(size).encode() for size in tensor.dims))
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return digest(head, b"external", _external(tensor, folder))
    if tensor.HasField("raw_data"):
        return digest(head, b"raw", _content(tensor.raw_data))
    bare = onnx.TensorProto()
    bare.CopyFrom(tensor)
    bare.ClearField("name")
    bare.ClearField("doc_string")
    return digest(head, b"typed", bare.SerializeToString(deterministic=True))


def sparse_digest(tensor: onnx.SparseTensorProto, folder: Path | None) -> bytes:
    """Returns a digest of a sparse tensor's type, shape and content, whatever its name."""
    shape = digest(*(str(size).encode() for size in tensor.dims))
    return digest(
        b"sparse",
        shape,
        tensor_digest(tensor.values, folder),
        tensor_digest(tensor.indices, folder),
    )


def attribute_digest(attribute: onnx.AttributeProto, folder: Path | None) -> bytes:
    """Returns a digest of an attribute that is no graph."""
    if attribute.type == onnx.AttributeProto.TENSOR:
        return digest(attribute.name.encode(), b"tensor", tensor_digest(attribute.t, folder))
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("doc_string")
    return digest(b"attribute", bare.SerializeToString(deterministic=True))


def is_default(attribute: onnx.AttributeProto, op_type: str, domain: str, version: int | None) -> bool:
    """Tells whether a node that leaves this attribute out means the same, as far as ONNX knows the operator."""
    default = _defaults(op_type, domain, version).get(attribute.name)
    if default is None:
        return False
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("doc_string")
    return bare.SerializeToString(deterministic=True) == default


@functools.cache
def _defaults(op_type: str, domain: str, version: int | None) -> Mapping[str, bytes]:
    try:
        schema = onnx.defs.get_schema(op_type, version or 0, domain)
    except onnx.defs.SchemaError:
        return {}
    given = {name: one.default_value for name, one in schema.attributes.items() if not one.required}
    return {name: value.SerializeToString(deterministic=True) for name, value in given.items() if value.type}


def _external(tensor: onnx.TensorProto, folder: Path | None) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = folder / entries["location"] if folder is not None else None
    if path is None or not path.is_file():
        return digest(*(entries.get(key, "").encode() for key in ("location", "offset", "length")))
    start = int(entries.get("offset", 0))
    end = start + int(entries.get("length", path.stat().st_size - start))
    if start == end:
        return digest(b"")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
        memoryview(whole) as view,
        view[start:end] as piece,
    ):
        return _content(piece)


def _content(data: bytes | memoryview) -> bytes:
    # twice as fast as blake2b where the processor computes it, and there may be gigabytes
    return hashlib.sha256(data).digest()
