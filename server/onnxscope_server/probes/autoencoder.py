"""Makes an ONNX file of a sparse autoencoder's encoder: activation [example, feature] -> features [example, latent].

x -> [Sub b_dec] -> Gemm(W_enc, b_enc) -> relu | x * (x > threshold) | the k largest, then relu
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx
import safetensors

from onnxscope_server.domain import Array
from onnxscope_server.errors import ProbeInvalidError
from onnxscope_server.probes.graph_writer import INPUT, GraphWriter

FEATURES = "features"
ACTIVATIONS = ("relu", "jumprelu", "topk")

_WEIGHT, _BIAS, _DECODER_BIAS = "W_enc", "b_enc", "b_dec"
_THRESHOLD, _LOG_THRESHOLD = "threshold", "log_threshold"
# names that libraries use, the first that is there counts; the weight of a torch Linear is [latent, feature]
_ALIASES: Mapping[str, tuple[str, ...]] = {
    _WEIGHT: ("W_enc", "encoder.weight", "encoder.W", "enc.weight", "w_enc", "weight_enc"),
    _BIAS: ("b_enc", "encoder.bias", "encoder.b", "enc.bias", "latent_bias", "bias_enc"),
    _DECODER_BIAS: ("b_dec", "decoder.bias", "decoder.b", "dec.bias", "pre_bias", "bias_dec", "bias"),
    _THRESHOLD: ("threshold", "thresholds", "jumprelu.threshold", "activation.threshold"),
    _LOG_THRESHOLD: ("log_threshold", "log_thresholds", "jumprelu.log_threshold", "activation.log_threshold"),
}
_DTYPES: Mapping[str, type] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}


def encoder(data: bytes, activation: str, k: int = 0, *, subtract_decoder_bias: bool = False) -> bytes:
    """Returns the ONNX file of the encoder that a safetensors file holds.

    Args:
        data: the file: W_enc [feature, latent] or transposed, b_enc [latent], and as needed b_dec [feature] and
            threshold [latent] (or log_threshold), under these names or those that other libraries use.
        activation: relu, jumprelu or topk.
        k: features that stay, for topk.
        subtract_decoder_bias: take b_dec from the activation before encoding.

    Raises:
        ProbeInvalidError: the file is no safetensors file or lacks an array, shapes don't fit, or the activation is
            unknown.
    """
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except Exception as error:  # its Rust part raises a class of its own
        raise _invalid(f"the file is no safetensors file ({error})") from error
    arrays = {
        name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in entries
        if entry["dtype"] in _DTYPES
    }
    return of_arrays(arrays, activation, k, subtract_decoder_bias=subtract_decoder_bias)


def of_arrays(
    arrays: Mapping[str, Array], activation: str, k: int = 0, *, subtract_decoder_bias: bool = False
) -> bytes:
    """Returns the ONNX file of the encoder whose arrays, of any type of float, these are; see `encoder`."""
    if activation not in ACTIVATIONS:
        raise _invalid(f"the activation is {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    known = _by_role(arrays)
    needed = [_WEIGHT, _BIAS]
    if subtract_decoder_bias:
        needed.append(_DECODER_BIAS)
    if activation == "jumprelu" and _LOG_THRESHOLD not in known:
        needed.append(_THRESHOLD)
    missing = [role for role in needed if role not in known]
    if missing:
        wanted = "; ".join(f"{role} (or {', '.join(_ALIASES[role][1:])})" for role in missing)
        raise _invalid(f"the file lacks {wanted}. It has {_described(arrays) or 'no array of floats'}")
    weight, transposed = _oriented(arrays, known)
    feature_count, latent_count = weight.shape[::-1] if transposed else weight.shape
    graph = GraphWriter(feature_count)
    value = INPUT
    if subtract_decoder_bias:
        bias = _vector(arrays, known[_DECODER_BIAS], feature_count)
        value = graph.add("Sub", value, graph.constant(bias, _DECODER_BIAS))
    bias = _vector(arrays, known[_BIAS], latent_count)
    weights = graph.constant(weight.astype(np.float32), _WEIGHT)
    value = graph.add("Gemm", value, weights, graph.constant(bias, _BIAS), transB=int(transposed))
    if activation == "relu":
        value = graph.add("Relu", value)
    elif activation == "jumprelu":
        limit = graph.constant(_threshold(arrays, known, latent_count), _THRESHOLD)
        value = graph.add("Mul", value, graph.cast(graph.add("Greater", value, limit), np.float32))
    else:
        if not 1 <= k <= latent_count:
            raise _invalid(f"k is {k}: of {latent_count} features, topk keeps 1 to {latent_count}")
        count = graph.integer(k)
        best, which = graph.add_several("TopK", 2, value, count, axis=1)
        nothing = graph.add("ConstantOfShape", graph.add("Shape", value))
        value = graph.add("ScatterElements", nothing, which, graph.add("Relu", best), axis=1)
    graph.output(FEATURES, value, onnx.TensorProto.FLOAT, latent_count)
    return bytes(graph.model(lambda detail: _invalid(f"the encoder is too large: {detail}")).SerializeToString())


def _by_role(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Returns which array plays which role; names may all begin with the same words, such as "sae."."""
    for prefix in ("", *_prefixes(arrays)):
        known = {
            role: next(prefix + alias for alias in aliases if prefix + alias in arrays)
            for role, aliases in _ALIASES.items()
            if any(prefix + alias in arrays for alias in aliases)
        }
        if _WEIGHT in known:
            return known
    return {}


def _prefixes(arrays: Mapping[str, Array]) -> list[str]:
    """Returns the beginnings that all names share, up to a dot."""
    first = next(iter(arrays), "")
    ends = [index + 1 for index, letter in enumerate(first) if letter == "."]
    return [first[:end] for end in ends if all(name.startswith(first[:end]) for name in arrays)]


def _oriented(arrays: Mapping[str, Array], known: Mapping[str, str]) -> tuple[Array, bool]:
    """Returns the weight, and whether it is [latent, feature]: by the bias, or where it is square by its name."""
    weight, bias = arrays[known[_WEIGHT]], arrays[known[_BIAS]]
    if weight.ndim != 2 or bias.size not in weight.shape or 0 in weight.shape:  # noqa: PLR2004 - a matrix
        raise _invalid(
            f"{known[_WEIGHT]} must be [feature, latent] or [latent, feature], with {known[_BIAS]} [latent]. "
            f"The file has {_described(arrays)}"
        )
    if weight.shape[0] == weight.shape[1]:
        return weight, known[_WEIGHT].endswith(".weight")
    return weight, weight.shape[0] == bias.size


def _vector(arrays: Mapping[str, Array], name: str, count: int) -> Array:
    """Returns an array as float32 [count]."""
    if arrays[name].size != count:
        raise _invalid(f"{name} must have {count} numbers. The file has {_described(arrays)}")
    return arrays[name].astype(np.float32).reshape(count)


def _threshold(arrays: Mapping[str, Array], known: Mapping[str, str], count: int) -> Array:
    """Returns thresholds float32 [latent]; one number is that of all."""
    name = known.get(_THRESHOLD) or known[_LOG_THRESHOLD]
    threshold = _vector(arrays, name, 1 if arrays[name].size == 1 else count)
    if _THRESHOLD not in known:
        threshold = np.exp(threshold)
    return np.broadcast_to(threshold, (count,))


def _described(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in sorted(arrays.items())[:20])


def _invalid(message: str) -> ProbeInvalidError:
    return ProbeInvalidError(message, detail=message)
