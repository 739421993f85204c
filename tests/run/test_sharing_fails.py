"""Where weights cannot be shared, or not as they should be: sessions are opened all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from tests.run.sharing_sessions import OPENING, opened, products, run

from onnxscope_server.catalog.shared_weights import SharedWeights
from onnxscope_server.domain import Segment
from onnxscope_server.errors import ModelNotFoundError, OutOfMemoryError
from onnxscope_server.run.session import Session
from onnxscope_server.run.sharing import Sharing


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


def test_a_model_that_is_gone_is_not_shared(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Who still opens a session of it holds its own weights."""
    segment = products(tmp_path)

    def gone(digest: str) -> Segment:
        raise ModelNotFoundError(f"There is no model {digest!r}.", model=digest, version="", known="")

    sharing = Sharing(OPENING, tmp_path / "shared", gone, max_bytes=1 << 40)
    assert sharing.placed("d", segment, exact=False) is None


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
