"""Encoders of sparse autoencoders, as ONNX."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np
import onnx
import pytest
from safetensors.numpy import save

from onnxscope_server.errors import ProbeInvalidError
from onnxscope_server.probes import autoencoder, graph_writer, metadata

RANDOM = np.random.default_rng(5)
W_ENC = RANDOM.normal(size=(6, 20)).astype(np.float32)
B_ENC = RANDOM.normal(size=20).astype(np.float32)
B_DEC = RANDOM.normal(size=6).astype(np.float32)
THRESHOLD = RANDOM.uniform(0.1, 2, size=20).astype(np.float32)
X = RANDOM.normal(size=(50, 6)).astype(np.float32)


def before(x: np.ndarray = X, *, decoder_bias: bool = False) -> np.ndarray:
    """Returns pre-activations float32 [example, latent]."""
    return (x - B_DEC if decoder_bias else x) @ W_ENC + B_ENC


def features(predictor, data: bytes, x: np.ndarray = X) -> np.ndarray:
    """Runs an encoder and checks what it is like."""
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    assert metadata.outputs(data) == ("features",)
    (result,) = predictor(data, x).values()
    assert result.dtype == np.float32
    return result


def topk(values: np.ndarray, k: int) -> np.ndarray:
    """Keeps the k largest of each row, where they are above 0."""
    limit = np.sort(values, axis=1)[:, -k][:, None]
    return np.where(values >= limit, np.maximum(values, 0), 0)


@pytest.mark.parametrize("decoder_bias", [False, True])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_activations(predictor, count, decoder_bias):
    """ReLU, JumpReLU and TopK are what they are in the literature, of any number of rows."""
    data = save({"W_enc": W_ENC, "b_enc": B_ENC, "b_dec": B_DEC, "threshold": THRESHOLD, "W_dec": W_ENC.T.copy()})
    pre = before(X[:count], decoder_bias=decoder_bias)
    for activation, k, expected in (
        ("relu", 0, np.maximum(pre, 0)),
        ("jumprelu", 0, pre * (pre > THRESHOLD)),
        ("topk", 4, topk(pre, 4) if count else pre),
        ("topk", 20, np.maximum(pre, 0)),
    ):
        made = autoencoder.encoder(data, activation, k, subtract_decoder_bias=decoder_bias)
        np.testing.assert_allclose(features(predictor, made, X[:count]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "arrays",
    [
        {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "bias": B_DEC, "decoder.weight": W_ENC},
        {"encoder.weight": W_ENC.T, "latent_bias": B_ENC, "pre_bias": B_DEC},
        {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "W_dec": W_ENC, "b_dec": B_DEC},
        {"W_enc": W_ENC.T, "b_enc": B_ENC, "b_dec": B_DEC},
        {"encoder.weight": W_ENC, "encoder.bias": B_ENC, "decoder.bias": B_DEC},
        {"sae.W_enc": W_ENC, "sae.b_enc": B_ENC, "sae.b_dec": B_DEC},
        {"m.sae.encoder.weight": W_ENC.T, "m.sae.encoder.bias": B_ENC, "m.sae.decoder.bias": B_DEC},
        {"W_enc": W_ENC, "b_enc": B_ENC[None], "b_dec": B_DEC, "step": np.array([7])},
    ],
)
def test_names(predictor, arrays):
    """Names and orientations of other libraries are known."""
    made = autoencoder.of_arrays(arrays, "relu", subtract_decoder_bias=True)
    expected = np.maximum(before(decoder_bias=True), 0)
    np.testing.assert_allclose(features(predictor, made), expected, rtol=1e-5, atol=1e-5)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    assert autoencoder.encoder(save(contiguous), "relu", subtract_decoder_bias=True) == made


def test_square(predictor):
    """As many latents as features: the name says what the orientation is."""
    square = RANDOM.normal(size=(6, 6)).astype(np.float32)
    bias = B_DEC
    for arrays, weight in (
        ({"W_enc": square, "b_enc": bias}, square),
        ({"encoder.weight": square, "encoder.bias": bias}, square.T),
    ):
        made = autoencoder.of_arrays(arrays, "relu")
        np.testing.assert_allclose(features(predictor, made), np.maximum(X @ weight + bias, 0), rtol=1e-5, atol=1e-5)


def test_thresholds(predictor):
    """A threshold for all and the logarithm of thresholds are known, too."""
    arrays = {"W_enc": W_ENC, "b_enc": B_ENC}
    pre = before()
    for more, threshold in (
        ({"log_threshold": np.log(THRESHOLD)}, THRESHOLD),
        ({"threshold": np.array([0.5], np.float32)}, 0.5),
        ({"threshold": np.array(0.5, np.float32)}, 0.5),
    ):
        made = autoencoder.of_arrays(arrays | more, "jumprelu")
        np.testing.assert_allclose(features(predictor, made), pre * (pre > threshold), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_types(predictor, dtype):
    """Weights in other types are computed with in float32."""
    low = {"W_enc": W_ENC.astype(dtype), "b_enc": B_ENC.astype(dtype)}
    made = autoencoder.of_arrays(low, "relu")
    expected = np.maximum(X @ low["W_enc"].astype(np.float32) + low["b_enc"].astype(np.float32), 0)
    np.testing.assert_allclose(features(predictor, made), expected, rtol=1e-5, atol=1e-5)
    if dtype is not ml_dtypes.bfloat16:
        assert autoencoder.encoder(save(low), "relu") == made


def test_bfloat16_file(predictor):
    """A safetensors file of bfloat16 is read, which numpy has no type for."""
    low = W_ENC.astype(ml_dtypes.bfloat16), B_ENC.astype(ml_dtypes.bfloat16)
    header = (
        b'{"W_enc":{"dtype":"BF16","shape":[6,20],"data_offsets":[0,240]},'
        b'"b_enc":{"dtype":"BF16","shape":[20],"data_offsets":[240,280]}}'
    )
    data = struct.pack("<Q", len(header)) + header + low[0].tobytes() + low[1].tobytes()
    assert autoencoder.encoder(data, "relu") == autoencoder.of_arrays({"W_enc": low[0], "b_enc": low[1]}, "relu")


@pytest.mark.parametrize(
    ("arrays", "activation", "k", "decoder_bias", "words"),
    [
        ({}, "relu", 0, False, "lacks W_enc .*encoder.weight.*; b_enc .*no array of floats"),
        ({"weights": W_ENC}, "relu", 0, False, r"lacks W_enc.*It has weights \[6, 20\]"),
        ({"W_enc": W_ENC}, "relu", 0, False, r"lacks b_enc .*It has W_enc \[6, 20\]"),
        ({"W_enc": W_ENC, "b_enc": B_ENC}, "relu", 0, True, "lacks b_dec .*pre_bias"),
        ({"W_enc": W_ENC, "b_enc": B_ENC}, "jumprelu", 0, False, "lacks threshold"),
        ({"W_enc": W_ENC, "b_enc": B_ENC}, "gelu", 0, False, "choose one of relu, jumprelu, topk"),
        ({"W_enc": W_ENC, "b_enc": B_ENC}, "topk", 0, False, "k is 0: of 20 features"),
        ({"W_enc": W_ENC, "b_enc": B_ENC}, "topk", 21, False, "k is 21: of 20 features"),
        ({"W_enc": W_ENC, "b_enc": B_ENC[:7]}, "relu", 0, False, r"W_enc must be \[feature, latent\].*b_enc \[7\]"),
        ({"W_enc": W_ENC[0], "b_enc": B_ENC}, "relu", 0, False, r"W_enc must be \[feature, latent\]"),
        ({"W_enc": W_ENC[:0], "b_enc": B_ENC}, "relu", 0, False, r"W_enc must be \[feature, latent\]"),
        ({"W_enc": W_ENC, "b_enc": B_ENC, "b_dec": B_ENC}, "relu", 0, True, "b_dec must have 6 numbers"),
        (
            {"W_enc": W_ENC, "b_enc": B_ENC, "threshold": B_DEC},
            "jumprelu",
            0,
            False,
            "threshold must have 20 numbers",
        ),
    ],
)
def test_wrong(arrays, activation, k, decoder_bias, words):
    """What can't be an encoder gets an error that says what was found and what is needed."""
    with pytest.raises(ProbeInvalidError, match=words):
        autoencoder.encoder(save(arrays), activation, k, subtract_decoder_bias=decoder_bias)


@pytest.mark.parametrize("data", [b"", b"no safetensors", save({"W_enc": W_ENC})[:-1], b"\xff" * 64])
def test_no_safetensors(data):
    """Other files, and files that were cut short, get a clear error."""
    with pytest.raises(ProbeInvalidError, match="no safetensors file"):
        autoencoder.encoder(data, "relu")


def test_too_large(monkeypatch):
    """An encoder beyond the size of an ONNX file is refused."""
    monkeypatch.setattr(graph_writer, "CONSTANT_LIMIT_BYTES", 100)
    with pytest.raises(ProbeInvalidError, match="too large"):
        autoencoder.of_arrays({"W_enc": W_ENC, "b_enc": B_ENC}, "relu")


def test_any_opset(predictor):
    """It gives the same when it is read as opset 21."""
    arrays = {"W_enc": W_ENC, "b_enc": B_ENC, "threshold": THRESHOLD}
    for activation in autoencoder.ACTIVATIONS:
        data = autoencoder.of_arrays(arrays, activation, 3)
        model = onnx.load_from_string(data)
        model.opset_import[0].version = 21
        np.testing.assert_array_equal(features(predictor, model.SerializeToString()), features(predictor, data))
