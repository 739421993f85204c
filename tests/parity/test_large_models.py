"""Models over 2 GB, which no protobuf message holds: sparse files made on the spot, never twice in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

_ROWS, _ROW, _BYTES = 550_000, 12_345, 4000
_SIZE = _ROWS * _BYTES
_SCRIPT = """
import re, sys
import numpy as np, onnxscope
with onnxscope.local(intra_op_threads=1) as scope:
    model = scope.load(sys.argv[1])
    acts = model.capture({"i": np.array([int(sys.argv[2])])}, at=["row", "y"])
    print(model.hook_points("w")[0].shape, acts["row"][0, :3].tolist(), acts.outputs["y"][0, :3].tolist())
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # rusage counts what the parent had
"""


def _model(weight: TensorProto) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["w", "i"], ["row"]), helper.make_node("Neg", ["row"], ["y"])],
        "large",
        [helper.make_tensor_value_info("i", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, _BYTES // 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _write_weights(file: Path, start: int, end: bytes = b"") -> None:
    """Writes zeros from `start` on, but for one row, as a hole in the file; then `end`."""
    with file.open("r+b" if file.exists() else "wb") as target:
        target.seek(start + _ROW * _BYTES)
        target.write(np.arange(_BYTES // 4, dtype=np.float32).tobytes())
        target.truncate(start + _SIZE)
        target.seek(start + _SIZE)
        target.write(end)


def _external(folder: Path) -> Path:
    weight = TensorProto(name="w", data_type=1, dims=[_ROWS, _BYTES // 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(_SIZE))):
        weight.external_data.add(key=key, value=value)
    _write_weights(folder / "w.bin", 0)
    (folder / "model.onnx").write_bytes(_model(weight))
    return folder / "model.onnx"


def _inline(folder: Path) -> Path:
    """Writes a file whose graph and weight are longer than 2 GiB; their lengths are put in by hand."""
    small = onnx.ModelProto.FromString(_model(TensorProto(name="w", data_type=1, dims=[_ROWS, _BYTES // 4])))
    head = small.graph.initializer[0].SerializeToString() + b"\x4a" + _varint(_SIZE)
    del small.graph.initializer[:]
    weight = b"\x2a" + _varint(len(head) + _SIZE) + head
    graph = small.graph.SerializeToString()
    small.ClearField("graph")
    start = small.SerializeToString() + b"\x3a" + _varint(len(weight) + _SIZE + len(graph)) + weight
    file = folder / "model.onnx"
    file.write_bytes(start)
    _write_weights(file, len(start), graph)
    return file


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sparse files, and /proc tells the memory")
@pytest.mark.parametrize("write", [_external, _inline])
def test_models_over_two_gigabytes_take_no_memory_for_their_weights(tmp_path: Path, write) -> None:
    """Loaded, listed and captured; the process needs a fraction of what the weights take on disk."""
    command = [sys.executable, "-c", _SCRIPT, str(write(tmp_path)), str(_ROW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    told, peak = done.stdout.splitlines()
    assert told == f"({_ROWS}, {_BYTES // 4}) [0.0, 1.0, 2.0] [-0.0, -1.0, -2.0]"
    assert int(peak) * 1024 < _SIZE / 4
