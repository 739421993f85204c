"""Sessions of a model share its weights, and give the same bits as sessions that do not."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxscope_server.catalog.shared_weights import SharedWeights
from onnxscope_server.catalog.weights import WEIGHTS_FILE, ingest
from onnxscope_server.domain import Segment
from onnxscope_server.errors import ModelNotFoundError, OutOfMemoryError
from onnxscope_server.run.heap import trim
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.session import Session
from onnxscope_server.run.sharing import Sharing, can_share

OPENING = Opening(intra_op_threads=1)
FLOAT = onnx.TensorProto.FLOAT
Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def weight(name: str, *shape: int) -> onnx.TensorProto:
    """A weight of random numbers."""
    seed = sum(name.encode())
    return numpy_helper.from_array(np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32), name)


def made(
    folder: Path, nodes: Sequence[Node], weights: Sequence[onnx.TensorProto], shape: Sequence[Any], **rest: Any
) -> Segment:
    """A segment x -> y whose large weights lie in a folder, as the catalog keeps them."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **attributes) for kind, inputs, outputs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=rest.get("ir_version", 8))
    for name in rest.get("inputs", ()):
        (tensor,) = [tensor for tensor in weights if tensor.name == name]
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    ingested = ingest(folder / "model.onnx", folder / "data")
    assert ingested.moved
    return Segment(ingested.graph_bytes, folder / "data", {}, ("y",), ("x",), {}, len(nodes))


def products(folder: Path) -> Segment:
    """Products that are packed, by two operators: x [row, 1024] -> y."""
    nodes: list[Node] = [
        ("MatMul", ["x", "a"], ["xa"], {}),
        ("Relu", ["xa"], ["r"], {}),
        ("Gemm", ["r", "b", "c"], ["rb"], {"transB": 1}),
        ("MatMul", ["rb", "a"], ["y"], {}),
    ]
    return made(folder, nodes, [weight("a", 1024, 1024), weight("b", 1024, 1024), weight("c", 1024)], ["row", 1024])


def convolutions(folder: Path) -> Segment:
    """Convolutions, whose weights the optimiser scales and moves into blocks: x [1, 256, 6, 6] -> y."""
    nodes: list[Node] = []
    weights = []
    value = "x"
    for layer in range(4):
        names = [f"{kind}{layer}" for kind in ("w", "scale", "shift", "mean", "variance")]
        weights += [weight(names[0], 256, 256, 3, 3), *(weight(name, 256) for name in names[1:4])]
        weights.append(numpy_helper.from_array(np.full(256, 1.5, np.float32), names[4]))
        nodes.append(("Conv", [value, names[0]], [f"conv{layer}"], {"pads": [1, 1, 1, 1]}))
        nodes.append(("BatchNormalization", [f"conv{layer}", *names[1:]], [f"norm{layer}"], {}))
        value = "y" if layer == 3 else f"relu{layer}"
        nodes.append(("Relu", [f"norm{layer}"], [value], {}))
    return made(folder, nodes, weights, [1, 256, 6, 6])


def gates(folder: Path) -> Segment:
    """An LSTM: x [4, 2, 512] -> y."""
    node: Node = ("LSTM", ["x", "w", "r"], ["y"], {"hidden_size": 512})
    return made(folder, [node], [weight("w", 1, 2048, 512), weight("r", 1, 2048, 512)], [4, 2, 512])


def listed(folder: Path) -> Segment:
    """Weights that are inputs too, as old files have it, some of which the optimiser folds away."""
    nodes: list[Node] = [
        ("Add", ["a", "a"], ["twice"], {}),
        ("MatMul", ["x", "twice"], ["xt"], {}),
        ("MatMul", ["xt", "b"], ["y"], {}),
    ]
    weights = [weight("a", 1024, 1024), weight("b", 1024, 1024)]
    return made(folder, nodes, weights, ["row", 1024], ir_version=3, inputs=("a", "b"))


def quantised(folder: Path) -> Segment:
    """Products of integers, whose scales the optimiser joins with them: x [row, 2048] -> y."""
    rng = np.random.default_rng(0)
    whole = numpy_helper.from_array(rng.integers(-100, 100, (2048, 2048), np.int8), "w")
    again = numpy_helper.from_array(rng.integers(-100, 100, (2048, 2048), np.int8), "v")
    scale = numpy_helper.from_array(np.float32(0.01), "scale")
    nodes: list[Node] = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], {}),
        ("MatMulInteger", ["q", "w", "z"], ["i"], {}),
        ("Cast", ["i"], ["f"], {"to": FLOAT}),
        ("Mul", ["s", "scale"], ["both"], {}),
        ("Mul", ["f", "both"], ["real"], {}),
        ("DynamicQuantizeLinear", ["real"], ["q2", "s2", "z2"], {}),
        ("MatMulInteger", ["q2", "v", "z2"], ["i2"], {}),
        ("Cast", ["i2"], ["f2"], {"to": FLOAT}),
        ("Mul", ["f2", "s2"], ["y"], {}),
    ]
    return made(folder, nodes, [whole, again, scale], ["row", 2048])


KINDS = [products, convolutions, gates, listed, quantised]


def feeds(segment: Segment) -> dict[str, Any]:
    """Random inputs of a segment."""
    (item,) = [item for item in onnx.ModelProto.FromString(segment.graph).graph.input if item.name == "x"]
    shape = [dim.dim_value or 3 for dim in item.type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def exposing(segment: Segment, *names: str) -> Segment:
    """The segment with more outputs."""
    proto = onnx.ModelProto.FromString(segment.graph)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return replace(segment, graph=proto.SerializeToString(), outputs=(*segment.outputs, *names))


def run(session: Session) -> list[bytes]:
    """The bits of all outputs."""
    values = session.run(feeds(session.segment), session.segment.outputs)
    return [np.asarray(value).tobytes() for value in values.values()]


@pytest.fixture
def sharing_of(tmp_path: Path) -> Callable[..., Sharing]:
    """Makes what shares the weights of segments, by digest."""

    def make(segments: dict[str, Segment], max_bytes: int = 1 << 40) -> Sharing:
        return Sharing(OPENING, tmp_path / "shared", segments.__getitem__, max_bytes=max_bytes)

    return make


def opened(sharing: Sharing, segment: Segment, *, exact: bool = False) -> Session:
    """A session that shares its weights."""
    placed = sharing.placed("d", segment, exact=exact)
    assert placed is not None
    session = Session(segment, OPENING, exact=exact, placed=placed)
    assert session.shared
    return session


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sharing_changes_no_bit(kind: Any, exact: bool, tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Outputs are those of a session of its own, and so are what it declares and takes."""
    segment = kind(tmp_path)
    own = Session(segment, OPENING, exact=exact)
    shared = opened(sharing_of({"d": segment}), segment, exact=exact)
    assert run(shared) == run(own)
    assert (shared.inputs, shared.optional_inputs, shared.outputs) == (own.inputs, own.optional_inputs, own.outputs)


def test_every_session_of_a_plan_gives_the_same_bits(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Before weights are packed and after, made again, and when they were deleted in between."""
    segment = convolutions(tmp_path)
    watched = exposing(segment, "conv1", "norm2", "relu0")
    before = run(Session(watched, OPENING, exact=False))
    sharing = sharing_of({"d": segment})
    seen = [run(opened(sharing, watched)) for _ in range(2)]
    sharing.forget("d")
    seen.append(run(opened(sharing, watched)))
    assert seen == [before] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [products, convolutions, gates, quantised])
def test_weights_are_in_memory_once(kind: Any, tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Ten more sessions take less memory of their own than the weights of one."""
    segment = kind(tmp_path)
    sharing = sharing_of({"d": segment})
    kept = [opened(sharing, segment)]
    run(kept[0])
    before = anonymous()
    kept += [opened(sharing, segment) for _ in range(10)]
    for session in kept:
        run(session)
    grown = anonymous() - before
    assert grown < (tmp_path / "data" / WEIGHTS_FILE).stat().st_size


def anonymous() -> int:
    """Bytes of memory of this process that no file stands behind."""
    gc.collect()
    trim()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_weights_that_the_optimiser_makes_are_kept_once(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Graphs that differ elsewhere share them; what watching makes the optimiser make anew is added, once."""
    segment = convolutions(tmp_path)
    sharing = sharing_of({"d": segment})
    first = opened(sharing, segment)
    size = _size(tmp_path)
    assert opened(sharing, exposing(segment, "relu1")).shared == first.shared
    assert _size(tmp_path) == size
    watched = exposing(segment, "conv1")
    new = opened(sharing, watched).shared.keys() - first.shared.keys()
    assert len(new) == 1
    assert _size(tmp_path) > size
    size = _size(tmp_path)
    assert opened(sharing, exposing(watched, "relu2")).shared.keys() >= new
    assert _size(tmp_path) == size


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "shared").rglob("*") if file.is_file())


def test_a_damaged_file_changes_no_bit(
    tmp_path: Path, sharing_of: Callable[..., Sharing], caplog: pytest.LogCaptureFixture
) -> None:
    """Packed forms that are not what the kernel would make are refused; the session then packs for itself."""
    segment = products(tmp_path)
    placed = sharing_of({"d": segment}).placed("d", segment, exact=False)
    assert placed is not None
    (file,) = (tmp_path / "shared").rglob("packed")
    damaged = bytearray(file.read_bytes())
    for tensor in onnx.ModelProto.FromString(placed.graph).graph.initializer:
        for entry in tensor.external_data:
            if entry.key.startswith("prepacked"):
                damaged[int(entry.value.split("|")[1].split(";")[0])] ^= 1
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    session = Session(segment, OPENING, exact=False, placed=placed)
    assert not session.shared
    assert "opened with weights of its own" in caplog.text
    assert run(session) == run(Session(segment, OPENING, exact=False))


def test_packed_forms_that_cannot_be_read_again_are_done_without(
    tmp_path: Path,
    sharing_of: Callable[..., Sharing],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Weights are shared all the same."""
    real = SharedWeights.pack

    def spoiling(self: SharedWeights, optimised: bytes, write: Any) -> None:
        real(self, optimised, write)
        self._pieces = {key: replace(piece, packed=_elsewhere(piece.packed)) for key, piece in self._pieces.items()}

    monkeypatch.setattr(SharedWeights, "pack", spoiling)
    segment = products(tmp_path)
    session = opened(sharing_of({"d": segment}), segment)
    assert "pack their weights themselves" in caplog.text
    assert run(session) == run(Session(segment, OPENING, exact=False))


def _elsewhere(packed: Any) -> Any:
    return tuple((form, "0;" + parts.partition(";")[2]) for form, parts in packed)


def test_forgotten_weights_leave_no_file_and_live_sessions_work(
    tmp_path: Path, sharing_of: Callable[..., Sharing]
) -> None:
    """What is mapped stays with its sessions."""
    segment = products(tmp_path)
    sharing = sharing_of({"d": segment})
    session = opened(sharing, segment)
    bits = run(session)
    sharing.forget("d")
    assert list((tmp_path / "shared").iterdir()) == []
    assert run(session) == bits
    sharing.close()
    assert not (tmp_path / "shared").exists()


def test_a_model_that_is_gone_is_not_shared(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Who still opens a session of it holds its own weights."""
    segment = products(tmp_path)

    def gone(digest: str) -> Segment:
        raise ModelNotFoundError(f"There is no model {digest!r}.", model=digest, version="", known="")

    sharing = Sharing(OPENING, tmp_path / "shared", gone, max_bytes=1 << 40)
    assert sharing.placed("d", segment, exact=False) is None


def test_files_are_bounded(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """The least recently used model's go; a model that is too large for the bound is not shared."""
    segments = {}
    for digest in "abc":
        (tmp_path / digest).mkdir()
        segments[digest] = products(tmp_path / digest)
    sharing = sharing_of(segments, max_bytes=40 << 20)
    for digest in "abac":
        assert sharing.placed(digest, segments[digest], exact=False) is not None
    assert {folder.name for folder in (tmp_path / "shared").iterdir()} == {"a", "c"}
    tight = sharing_of(segments, max_bytes=8 << 20)
    assert tight.placed("a", segments["a"], exact=False) is None


def test_small_models_hold_their_own(
    tmp_path: Path, double: Segment, sharing_of: Callable[..., Sharing], caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to gain, and nothing is said about it."""
    assert sharing_of({"d": double}).placed("d", double, exact=False) is None
    assert caplog.text == ""


def test_a_full_disk_is_no_failure(
    tmp_path: Path,
    sharing_of: Callable[..., Sharing],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Weights that can't be written are not shared, nothing is left behind, and it is not tried again."""
    segment = products(tmp_path)
    tried = []

    def full(self: SharedWeights, *_: Any) -> None:
        tried.append(self)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SharedWeights, "pack", full)
    sharing = sharing_of({"d": segment})
    for _ in range(2):
        assert sharing.placed("d", segment, exact=False) is None
    assert len(tried) == 1
    assert "No space left on device" in caplog.text
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_segment_that_cannot_be_optimised_apart_is_opened_as_it_is(
    tmp_path: Path,
    sharing_of: Callable[..., Sharing],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure is logged; opening the segment tells what is wrong, if anything is."""
    segment = products(tmp_path)
    sharing = sharing_of({"d": segment})
    sharing.prepare("d")

    class Failing:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("no such luck")

    monkeypatch.setattr(onnxruntime, "ModelCompiler", Failing)
    assert sharing.placed("d", segment, exact=False) is None
    assert "no such luck" in caplog.text


def test_threads_that_ask_at_once_pack_once(
    tmp_path: Path, sharing_of: Callable[..., Sharing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them wait for the one that does it, and get their sessions."""
    segment = convolutions(tmp_path)
    packed = []
    real = SharedWeights.pack

    def counting(self: SharedWeights, optimised: bytes, write: Any) -> None:
        packed.append(threading.get_ident())
        real(self, optimised, write)

    monkeypatch.setattr(SharedWeights, "pack", counting)
    sharing = sharing_of({"d": segment})
    names = ["relu0", "conv1", "norm1", "conv2", "relu2"]
    with ThreadPoolExecutor(len(names)) as pool:
        sessions = list(pool.map(lambda name: opened(sharing, exposing(segment, name)), names))
    assert len(packed) == 1
    for session in sessions:
        assert run(session) == run(Session(session.segment, OPENING, exact=False))


def test_not_every_opening_can_share() -> None:
    """An application's own options may bring weights, and other providers have memory of their own."""
    assert can_share(OPENING)
    assert not can_share(Opening(session_options=onnxruntime.SessionOptions()))
    assert not can_share(Opening(providers=("AzureExecutionProvider", "CPUExecutionProvider")))


def test_what_an_earlier_server_left_goes(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Packed forms are those of this processor and this onnxruntime: none are taken over."""
    left = tmp_path / "shared" / "d" / "packed"
    left.parent.mkdir(parents=True)
    left.touch()
    sharing_of({})
    assert not left.exists()


def test_memory_errors_of_sessions_that_share_are_told(
    tmp_path: Path, sharing_of: Callable[..., Sharing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where neither the shared nor the own way has enough memory, the error says so."""
    segment = products(tmp_path)
    sharing = sharing_of({"d": segment})
    placed = sharing.placed("d", segment, exact=False)

    def no_memory(*_: Any, **__: Any) -> None:
        raise RuntimeError("bad_alloc")

    monkeypatch.setattr(onnxruntime, "InferenceSession", no_memory)
    with pytest.raises(OutOfMemoryError):
        Session(segment, OPENING, exact=False, placed=placed)
