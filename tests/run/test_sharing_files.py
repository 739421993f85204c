"""The files that shared weights lie in: written once, bounded, and gone with their model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.run.sharing_sessions import OPENING, convolutions, exposing, opened, products, run

from onnxscope_server.catalog.shared_weights import SharedWeights
from onnxscope_server.run.session import Session
from onnxscope_server.run.sharing import Sharing


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


def test_what_an_earlier_server_left_goes(tmp_path: Path, sharing_of: Callable[..., Sharing]) -> None:
    """Packed forms are those of this processor and this onnxruntime: none are taken over."""
    left = tmp_path / "shared" / "d" / "packed"
    left.parent.mkdir(parents=True)
    left.touch()
    sharing_of({})
    assert not left.exists()
