"""What bytes look like that are no ONNX model, in words that tell their owner what went wrong."""

from __future__ import annotations

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ORTM", "This is onnxruntime's own .ort format; give the .onnx file that it was made from"),
    (4, b"TFL3", "This is a TensorFlow Lite model; convert it with tf2onnx"),
    (0, b"PK\x03\x04", "This is a zip archive (PyTorch's .pt, Keras' .keras, numpy's .npz ...), not a model in ONNX"),
    (0, b"\x89HDF", "This is an HDF5 file (Keras' .h5), not a model in ONNX"),
    (0, b"\x1f\x8b", "This is gzip-compressed; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "This is zstandard-compressed; unpack it first"),
    (0, b"BZh", "This is bzip2-compressed; unpack it first"),
    (0, b"\xfd7zXZ", "This is xz-compressed; unpack it first"),
    (0, b"\x93NUMPY", "This is a numpy array"),
    (0, b"\x89PNG", "This is a picture (PNG)"),
    (0, b"\xff\xd8\xff", "This is a picture (JPEG)"),
    (0, b"GIF8", "This is a picture (GIF)"),
    (0, b"BM", "This is a picture (BMP)"),
    (0, b"RIFF", "This is a media file (WebP, WAV or AVI)"),
    (0, b"%PDF", "This is a PDF"),
    (0, b"\x7fELF", "This is a program or a shared library"),
    (0, b"version https://git-lfs", "This is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (0, b"GGUF", "This is a GGUF model; export it to ONNX"),
)
_PICKLE_PROTOCOLS = range(2, 6)
_SAFETENSORS_HEADER = 9
_SAMPLE = 4096


def describe(data: bytes) -> str:
    """Says what bytes look like that could not be read as an ONNX model.

    Args:
        data: the whole file or its beginning.

    Returns:
        A sentence without its full stop.
    """
    if not data:
        return "The file is empty"
    for offset, magic, text in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return text
    if data[0] == 0x80 and len(data) > 1 and data[1] in _PICKLE_PROTOCOLS:  # noqa: PLR2004 -- pickle's PROTO opcode
        return "This is a Python pickle (PyTorch's old .pt, joblib ...), which is never opened; export it to ONNX"
    if data[8:_SAFETENSORS_HEADER] == b"{" and int.from_bytes(data[:8], "little") < 1 << 32:
        return "This is a safetensors file: weights without a graph; export the model to ONNX"
    if _is_text(data[:_SAMPLE]):
        kind = "a web page (was the download redirected?)" if b"<html" in data[:_SAMPLE].lower() else "text"
        return f"This is {kind}, not an ONNX model"
    return "This is no ONNX model, or it is damaged or cut short"


def _is_text(sample: bytes) -> bool:
    try:
        text = sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 3:
            return False
        text = sample[: error.start].decode()
    return bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)
