"""Moves large inline weights out of a model file, so that a graph is small and rewriting it is cheap.

The file is walked on the level of protobuf's wire format: the bytes of the weights go from the mapped file straight
into the data file and are never in memory, let alone twice, and a file may be larger than protobuf's 2 GiB.

    model file                           graph                          weights.bin
    ├ field 7: graph                     initializer w, external:       [64 or 4096 aligned]
    │ ├ field 5: initializer w           offset, length, location       bytes of w
    │ │ └ field 9: raw_data ───────────────────────────────────────────>
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from onnxscope_server.catalog import external_data, graph
from onnxscope_server.errors import ModelInvalidError

WEIGHTS_FILE = "weights.bin"
EXTERNAL_TOTAL_BYTES = 8 << 20
_INLINE_TENSOR_BYTES = 1 << 10
_INLINE_INTEGERS_BYTES = 64 << 10
_PAGE_TENSOR_BYTES = 1 << 20
_PAGE = 4096
_LINE = 64
_PIECE_BYTES = 16 << 20

_GRAPH_FIELD = 7
_INITIALIZER_FIELD = 5
_RAW_DATA_FIELD = 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


@dataclass(frozen=True, slots=True)
class Ingested:
    """A model file, ready for the catalog.

    Attributes:
        graph_bytes: a serialised ModelProto; the file itself, or what is left when its weights moved out.
        needed: files of external data of the model's own, as `external_data.needed_bytes` lists them.
        moved: whether the weights lie in `WEIGHTS_FILE` now.
    """

    graph_bytes: bytes
    needed: dict[str, int]
    moved: bool


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    start: int
    value: int
    end: int


def ingest(model_file: Path, data_folder: Path) -> Ingested:
    """Reads a model file and moves its weights out where they are large.

    Weights stay inline where they are small altogether, where the model has external data of its own, and each that is
    small, text, or looks like a shape (type inference needs those).

    Args:
        model_file: the model.
        data_folder: where `WEIGHTS_FILE` goes; made when it is needed.

    Returns:
        The graph and what belongs to it.

    Raises:
        ModelInvalidError: the file is no ONNX model.
        ExternalDataMissingError: a path of external data leads out of the model's folder.
    """
    with model_file.open("rb") as file:
        if not file.seek(0, 2):
            graph.parse(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
            try:
                skeleton, raw = _split(source)
            except (ValueError, IndexError):
                # not even protobuf; parsing says what it is
                skeleton, raw = source[: 64 << 20], {}
            proto = graph.parse(skeleton)
            needed = external_data.needed_bytes(proto)
            chosen = _chosen(proto, raw)
            if needed or sum(chosen.values()) < EXTERNAL_TOTAL_BYTES:
                return Ingested(_whole(source), needed, moved=False)
            data_folder.mkdir(parents=True, exist_ok=True)
            with (data_folder / WEIGHTS_FILE).open("xb") as target:
                _move(proto, chosen, raw, source, target)
    return Ingested(proto.SerializeToString(), {}, moved=True)


def _whole(source: mmap.mmap) -> bytes:
    data = source[:]
    graph.parse(data)
    return data


def _split(source: mmap.mmap) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """Copies a model without the raw data of its larger initializers.

    Returns:
        The serialised rest; start and end of the raw data in the file, by the initializer's index.

    Raises:
        ValueError: the bytes are no protobuf message.
        IndexError: they end in the middle of one.
    """
    raw: dict[int, tuple[int, int]] = {}
    pieces: list[bytes] = []
    index = 0
    for field in _fields(source, 0, len(source)):
        if field.number != _GRAPH_FIELD:
            pieces.append(source[field.start : field.end])
            continue
        inner: list[bytes] = []
        for part in _fields(source, field.value, field.end):
            if part.number == _INITIALIZER_FIELD:
                header, found = _header(source, part)
                inner.append(header)
                if found:
                    raw[index] = found
                index += 1
            else:
                inner.append(source[part.start : part.end])
        pieces.append(_tagged(_GRAPH_FIELD, b"".join(inner)))
    return b"".join(pieces), raw


def _header(source: mmap.mmap, part: _Field) -> tuple[bytes, tuple[int, int] | None]:
    if part.end - part.value <= _INLINE_TENSOR_BYTES:
        return source[part.start : part.end], None
    kept: list[bytes] = []
    found = None
    for field in _fields(source, part.value, part.end):
        if field.number == _RAW_DATA_FIELD:
            found = (field.value, field.end)
        else:
            kept.append(source[field.start : field.end])
    return _tagged(_INITIALIZER_FIELD, b"".join(kept)), found


def _forget(source: mmap.mmap, at: int) -> None:
    """Gives the memory of a piece that was read back, where the system has a way to say so."""
    if hasattr(mmap, "MADV_DONTNEED"):
        source.madvise(mmap.MADV_DONTNEED, at // mmap.PAGESIZE * mmap.PAGESIZE, _PIECE_BYTES)


def _fields(source: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    at = start
    while at < end:
        tag, value = _varint(source, at)
        kind = tag & 7
        if kind == _VARINT:
            _, stop = _varint(source, value)
        elif kind == _FIXED64:
            stop = value + 8
        elif kind == _FIXED32:
            stop = value + 4
        elif kind == _BYTES:
            length, value = _varint(source, value)
            stop = value + length
        else:
            raise ValueError(kind)
        if stop > end or tag >> 3 == 0:
            raise ValueError(tag)
        yield _Field(tag >> 3, at, value, stop)
        at = stop


def _varint(source: mmap.mmap, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = source[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:  # noqa: PLR2004 -- the continuation bit
            return number, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 -- protobuf's longest
            raise ValueError(at)


def _tagged(number: int, payload: bytes) -> bytes:
    head = bytearray([number << 3 | _BYTES])
    length = len(payload)
    while length >= 0x80:  # noqa: PLR2004 -- the continuation bit
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + payload


def _chosen(proto: onnx.ModelProto, raw: dict[int, tuple[int, int]]) -> dict[int, int]:
    """Returns the sizes of the initializers that may move out, by index."""
    chosen = {}
    for index, tensor in enumerate(proto.graph.initializer):
        start, end = raw.get(index, (0, 0))
        size = end - start
        if not size and any(len(getattr(tensor, name)) for name in _TYPED_FIELDS):
            size = tensor.ByteSize()
        small = (
            _INLINE_INTEGERS_BYTES if tensor.data_type in _INTEGERS and len(tensor.dims) <= 1 else _INLINE_TENSOR_BYTES
        )
        if size >= small and tensor.data_type != onnx.TensorProto.STRING:
            chosen[index] = size
    return chosen


def _move(
    proto: onnx.ModelProto,
    chosen: dict[int, int],
    raw: dict[int, tuple[int, int]],
    source: mmap.mmap,
    target: BinaryIO,
) -> None:
    for index, tensor in enumerate(proto.graph.initializer):
        if index in raw and index not in chosen:
            start, end = raw[index]
            tensor.raw_data = source[start:end]
        if index not in chosen:
            continue
        align = _PAGE if chosen[index] >= _PAGE_TENSOR_BYTES else _LINE
        offset = -(-target.tell() // align) * align
        target.seek(offset)
        if index in raw:
            start, end = raw[index]
            for at in range(start, end, _PIECE_BYTES):
                target.write(source[at : min(at + _PIECE_BYTES, end)])
                _forget(source, at)
        else:
            try:
                target.write(ir.serde.TensorProtoTensor(tensor).tobytes())
            except (ValueError, TypeError) as error:
                detail = f"initializer {tensor.name!r} cannot be read: {error}"
                raise ModelInvalidError(f"The model contradicts itself: {detail}", detail=detail) from error
            for name in _TYPED_FIELDS:
                tensor.ClearField(name)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", offset), ("length", target.tell() - offset)):
            tensor.external_data.add(key=key, value=str(value))
