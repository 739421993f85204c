"""Files on their way into the catalog as probes: ONNX, and sparse autoencoders."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from onnxscope import reduce as reductions
from onnxscope.errors import ProbeInvalidError, ReductionInvalidError, StreamCutError, ValueInvalidError
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1.codec import Array

_CHUNK_BYTES = 1 << 20
_ACTIVATIONS = ("relu", "jumprelu", "topk")
_SAFETENSORS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_HEAD_BYTES = 8


def requests(
    source: Any,
    model: str,
    at: Any,
    *,
    name: str | None,
    reduce: Any,
    overwrite: bool,
    activation: str | None,
    k: int | None,
    subtract_decoder_bias: bool,
) -> list[pb.ImportProbeRequest]:
    """Returns the messages of an import.

    Args:
        source: a path, bytes or an `onnx.ModelProto`; of a sparse autoencoder a .safetensors file or its arrays.
        model: digest of the model.
        at: address of the hook point, or a `HookPoint`; None for the one in the file's metadata.
        name: to keep it under; None for the one in the metadata.
        reduce: before the probe; None for the one in the metadata.
        overwrite: replaces a probe of the same name.
        activation: of a sparse autoencoder: relu, jumprelu or topk; None where the file says it.
        k: features that stay, for topk.
        subtract_decoder_bias: of a sparse autoencoder.

    Raises:
        ProbeInvalidError: the file cannot be read, or is none of these.
        ReductionInvalidError: the reduction's mask is an array, which a kept probe has no place for.
        ValueInvalidError: an argument has no meaning.
    """
    data, stem, is_autoencoder = _read(source)
    spec = pb.ImportSpec(name=name or "", model=model, address=_address(at), overwrite=overwrite)
    if reduce is not None:
        reduction = reductions.of(reduce)
        if isinstance(reduction.mask, np.ndarray):
            raise ReductionInvalidError("a probe that is kept takes its mask from an input of the model: name that")
        spec.reduction.CopyFrom(reductions.to_message(reduction, ""))
    if is_autoencoder or activation is not None or k is not None:
        spec.autoencoder.CopyFrom(_autoencoder(data, activation, k, subtract_decoder_bias=subtract_decoder_bias))
        spec.name = name or stem
    chunks = [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]
    return [pb.ImportProbeRequest(spec=spec), *(pb.ImportProbeRequest(data=chunk) for chunk in chunks)]


def imported(responses: Sequence[pb.ImportProbeResponse]) -> pb.Probe:
    """Returns the probe of an import's answer.

    Raises:
        StreamCutError: there is none.
    """
    if not responses:
        raise StreamCutError("the server's answer to an import ended before it was complete; load the probe again")
    return responses[0].probe


def safetensors(arrays: Mapping[str, Any]) -> bytes:
    """Returns arrays as the bytes of a safetensors file; numbers that it has no floating type for become float32."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name, value in arrays.items():
        array: Array = np.asarray(value)
        if array.dtype.name not in _SAFETENSORS:
            array = array.astype(np.float32)
        raw = np.ascontiguousarray(array).tobytes()
        end = offset + len(raw)
        dtype = _SAFETENSORS[array.dtype.name]
        header[str(name)] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        parts.append(raw)
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % _HEAD_BYTES)
    return b"".join([struct.pack("<Q", len(head)), head, *parts])


def _read(source: Any) -> tuple[bytes, str, bool]:
    """Returns the bytes of a source, the name of its file, and whether it is a sparse autoencoder for sure."""
    if isinstance(source, Mapping):
        try:
            return safetensors(source), "", True
        except (TypeError, ValueError) as error:
            raise ProbeInvalidError(f"a sparse autoencoder is a dict from name to array of numbers: {error}") from error
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "", False
    if isinstance(source, str | PathLike):
        path = Path(source)
        try:
            return path.read_bytes(), path.stem, path.suffix.lower() == ".safetensors"
        except OSError as error:
            raise ProbeInvalidError(f"the probe's file {str(path)!r} cannot be read: {error}") from error
    if hasattr(source, "SerializeToString"):
        return source.SerializeToString(), "", False
    raise ValueInvalidError(
        f"a probe is a path, bytes, an onnx.ModelProto, or a sparse autoencoder's arrays by name, "
        f"not {type(source).__name__}"
    )


def _autoencoder(
    data: bytes, activation: str | None, k: int | None, *, subtract_decoder_bias: bool
) -> pb.SparseAutoencoder:
    chosen = activation or ("topk" if k is not None else "jumprelu" if "threshold" in _names(data) else "relu")
    if chosen not in _ACTIVATIONS:
        raise ValueInvalidError(f"activation is one of {', '.join(_ACTIVATIONS)}, not {activation!r}")
    if (chosen == "topk") != (k is not None):
        raise ValueInvalidError("k is the number of features that topk keeps: give both, or neither")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise ValueInvalidError(f"k is a number of features from 1 up, not {k!r}")
    return pb.SparseAutoencoder(activation=chosen, k=k or 0, subtract_decoder_bias=subtract_decoder_bias)


def _names(data: bytes) -> Iterable[str]:
    """Returns the names of the arrays of a safetensors file; the server says what is wrong with one that has none."""
    try:
        (size,) = struct.unpack_from("<Q", data)
        names: Iterable[str] = json.loads(data[_HEAD_BYTES : _HEAD_BYTES + size])
    except (struct.error, ValueError):
        return ()
    return names


def _address(at: Any) -> str:
    if at is None:
        return ""
    found = getattr(at, "address", at)
    if not isinstance(found, str):
        raise ValueInvalidError(f"at is the address of one hook point, not {at!r}")
    return found
