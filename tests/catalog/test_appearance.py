"""Bytes that are no model are named for what they are."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest

from onnxscope_server.catalog import graph
from onnxscope_server.errors import ModelInvalidError


def zipped():
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


def array():
    """A numpy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x18\x00\x00\x00ORTM" + bytes(50), r"\.ort format"),
        (pickle.dumps({"a": 1}), "pickle"),
        (zipped(), "PyTorch"),
        (array(), "numpy"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "picture"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!doctype html><HTML><body>Not found</body></html>", "web page"),
        ("Ä model, überhaupt nicht\n".encode() * 300, "text"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}" + bytes(20), "safetensors"),
        (bytes(range(200, 256)) * 9, "damaged"),
        (b"\x08\x08", "damaged"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(data, words):
    """The error says what the bytes look like and that an .onnx file is wanted."""
    with pytest.raises(ModelInvalidError, match=words) as caught:
        graph.read(data)
    assert "Give an ONNX model" in caught.value.message
