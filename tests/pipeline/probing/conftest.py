"""Services that fit probes on small models, for the tests of fits and sweeps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxscope_server.app import Services
from onnxscope_server.domain import Array
from onnxscope_server.pipeline.probes import Finished, Probing
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.probe_domain import KeptProbe, ProbeSpec
from onnxscope_server.run.session import Session
from onnxscope_server.settings import EmbeddedSettings

# the label is whether x0 and x1 have the same sign: no linear probe finds that in x, any finds it at h1, and h2 has
# nothing of it; y has what x2 and x3 are
SAME_SIGN = """(float[r, 4] x) => (float[r, 2] y)
    <float[4, 2] A = {1, 1, 0, 0, 0, 0, 0, 0}, float[4, 2] B = {0, 0, 1, -1, 0, 0, 0, 0},
     float[4, 2] C = {0, 0, 0, 0, 1, 0, 0, 1}, float zero = {0}>
    { a = MatMul (x, A)  b = MatMul (x, B)  h1 = Mul (a, b)  h2 = Mul (h1, zero)
      c = MatMul (x, C)  y = Add (h2, c) }"""


class Fits:
    """A service with a model."""

    def __init__(self, services: Services, digest: str) -> None:
        self.services = services
        self.digest = digest
        self.runs = 0
        self.is_closed = False

    async def close(self) -> None:
        """Closes the service, once."""
        if not self.is_closed:
            self.is_closed = True
            await self.services.close()

    @property
    def probing(self) -> Probing:
        """The verbs."""
        return self.services.probing

    def spec(self, *selectors: str, name: str = "", **rest: Any) -> ProbeSpec:
        """Asks for the model's hook points, without controls unless they are asked for."""
        return ProbeSpec(name, model=self.digest, selectors=selectors, **({"controls": False} | rest))

    async def fit(self, spec: ProbeSpec, batches: Iterable[ProbeBatch]) -> KeptProbe:
        """Fits a probe."""
        async with aclosing(self.probing.fit(spec, given(batches), "test")) as events:
            return [event async for event in events if isinstance(event, KeptProbe)][-1]

    async def sweep(self, spec: ProbeSpec, batches: Iterable[ProbeBatch]) -> tuple[dict[str, KeptProbe], Finished]:
        """Sweeps; returns the probes by address."""
        async with aclosing(self.probing.sweep(spec, given(batches), "test")) as events:
            told = [event async for event in events]
        last = told[-1]
        assert isinstance(last, Finished)
        return {event.info.address: event for event in told if isinstance(event, KeptProbe)}, last

    def kept(self) -> list[str]:
        """Names of the probes in the catalog."""
        return [entry.info.name for entry in self.services.catalog.probes.list(self.digest)]


async def until(event: threading.Event) -> None:
    """Waits until a thread has set an event."""
    async with asyncio.timeout(10):
        while not event.is_set():  # noqa: ASYNC110  # threads set no event of the loop
            await asyncio.sleep(0.001)


async def given(batches: Iterable[ProbeBatch]) -> AsyncGenerator[ProbeBatch, None]:
    """Gives batches as a caller does."""
    for batch in batches:
        yield batch


def same_sign(count: int = 400, *, batch: int = 100, seed: int = 0) -> list[ProbeBatch]:
    """Rows for SAME_SIGN; x0 and x1 are never near 0."""
    x = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    x[:, :2] = np.sign(x[:, :2]) * (0.5 + np.abs(x[:, :2]))
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    return cut({"x": x}, y, batch)


def cut(inputs: dict[str, Array], labels: Array | None, size: int, **rest: Array) -> list[ProbeBatch]:
    """Cuts rows in batches of at most `size`."""
    count = len(next(iter(inputs.values())))
    return [
        ProbeBatch(
            {name: value[at : at + size] for name, value in inputs.items()},
            labels=None if labels is None else labels[at : at + size],
            **{name: value[at : at + size] for name, value in rest.items()},
        )
        for at in range(0, count, size)
    ]


@pytest.fixture
def fitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Serves a model in ONNX's text form; checks that in the end no task or thread is left."""
    made: list[Fits] = []
    original = Session.run_on

    def counted(session: Session, feeds: Any, fetches: Any, *rest: Any) -> Any:
        if made and any(name in session.segment.captures for name in ("h1", "h")):
            # without those that find out where rows are, of two and three
            made[-1].runs += all(len(value) > 3 for value in feeds.values())
        return original(session, feeds, fetches, *rest)

    monkeypatch.setattr(Session, "run_on", counted)

    @asynccontextmanager
    async def serve(text: str = SAME_SIGN, **settings: Any) -> AsyncIterator[Fits]:
        path = tmp_path / "model.onnx"
        proto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {text}')
        path.write_bytes(proto.SerializeToString())
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        services = Services.make(EmbeddedSettings(**({"intra_op_threads": 1} | settings)))
        fits = Fits(services, (await services.models.add_file(path, "model", "")).digest)
        made.append(fits)
        try:
            yield fits
        finally:
            await fits.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
        assert not {one for one in threading.enumerate() if one.name.startswith("onnxscope")} - threads

    return serve


def left_in(folder: Path) -> Sequence[str]:
    """Names of files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
