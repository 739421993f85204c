"""Peers take turns, and one that can't is an error that says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.benchmarks import models
from tests.benchmarks.figures import Bench
from tests.benchmarks.peer import PeerError, peer


def test_a_peer_brings_all_values(tmp_path: Path) -> None:
    """Every turn gives seconds and the bytes of all values; what it started ends with it."""
    path = models.cnn(Bench(tmp_path))
    with peer(Path(sys.executable), "naive_stream", tmp_path, path, 1, 2) as started:
        for _ in range(2):
            seconds, received = started.turn()
            assert 0 < seconds < 60
            assert received == 2 * 134_227_200 // 32


def test_a_peer_that_does_not_start_says_why(tmp_path: Path) -> None:
    """A missing package is named."""
    with (
        pytest.raises(PeerError, match="polygraphy_runner ended: ModuleNotFoundError"),
        peer(Path(sys.executable), "polygraphy_runner", tmp_path, "model.onnx", 1, 1),
    ):
        pass
