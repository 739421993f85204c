"""The arrays of linear probes, as FitProbe and GetProbe bring them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.served_probes import Keeper

import onnxscope
from onnxscope_server.domain import Array
from onnxscope_server.probes import metadata


def test_files_are_parsed_in_threads_for_work(chain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe's file may have hundreds of MB: on the event loop, all other calls would wait for it."""
    threads: list[str] = []
    original = metadata.arrays

    def arrays(data: bytes) -> dict[str, Array]:
        threads.append(threading.current_thread().name)
        return original(data)

    monkeypatch.setattr(metadata, "arrays", arrays)
    x = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    with onnxscope.local() as scope:
        model = scope.load(chain)
        fitted = model.fit_probe("p", x, x[:, 0] > 0, at="a", controls=False)
        got = Keeper(scope, model.digest, None).call("GetProbe", name="p").probe
    assert fitted.coef_.shape == (1, 3)
    assert {part.start.name for part in got.arrays} == {"coef", "intercept"}
    assert len(threads) == 2
    assert all(name.startswith("onnxscope-work") for name in threads), threads
