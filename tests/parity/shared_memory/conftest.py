"""A server whose metrics can be read, and values large enough to be shared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.parity.shared_memory.observed import ROWS, Served, Servers, free_port

from onnxscope_server.wire import shared_memory


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of tests give memory back soon."""
    monkeypatch.setattr(shared_memory, "_IDLE_SECONDS", 2.0)


@pytest.fixture
def served(running_server: Servers) -> Iterator[Served]:
    """A server of the test's own."""
    port = free_port()
    with running_server(http_port=port) as target:
        yield Served(target, port)


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    """Rows of a chain."""
    return rng.random((ROWS, 3), dtype=np.float32)
