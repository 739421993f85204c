"""A server that runs requests together answers like one that does not: embedded, over gRPC and in shared memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.callers import Runs

import onnxscope
import onnxscope.aio
from onnxscope.v1 import sharing

Servers = Callable[..., AbstractContextManager[str]]
_SETTINGS = {"max_batch_rows": 8, "batch_delay_seconds": 0.05, "run_threads": 1}
_CALLERS = 12


@pytest.fixture(params=["embedded", "remote", "shared"])
def way(request: pytest.FixtureRequest, running_server: Servers, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a scope on a server that runs up to 8 rows together; given `onnxscope` or `onnxscope.aio`."""
    monkeypatch.setattr(sharing, "SMALLEST_BYTES", 1)

    @contextmanager
    def opened(module: Any) -> Iterator[Any]:
        if request.param == "embedded":
            yield module.local(**_SETTINGS)
            return
        with running_server(**_SETTINGS) as target:
            yield module.connect(target, shared_memory=request.param == "shared")

    return opened


@pytest.fixture
def images(rng: np.random.Generator) -> list[np.ndarray]:
    """float32 [row, channel, height, width] of each caller: one row to three."""
    return [rng.random((1 + index % 3, 1, 8, 8), dtype=np.float32) for index in range(_CALLERS)]


@pytest.fixture
def alone(digits_path: Path, images: list[np.ndarray]) -> list[Any]:
    """What each caller gets of a server that runs each alone."""
    with onnxscope.local() as scope:
        model = scope.load(digits_path)
        return [model.capture(x, at=["relu1", "relu5"], reduce={"relu1": "spatial_mean"}) for x in images]


def _check(found: Any, wanted: Any) -> None:
    assert list(found) == list(wanted)
    for name in wanted:
        assert found[name].shape == wanted[name].shape
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.outputs["logits"], wanted.outputs["logits"], rtol=1e-5, atol=1e-5)
    assert found.fidelity == wanted.fidelity


async def _streamed(model: Any, images: list[np.ndarray], wants: dict[str, Any]) -> list[Any]:
    async def batches() -> AsyncIterator[np.ndarray]:
        for x in images:
            yield x

    return [acts async for acts in model.stream(batches(), **wants)]


def test_threads_that_call_together_get_their_own(
    way: Any, digits_path: Path, images: list[np.ndarray], alone: list[Any]
) -> None:
    """Some requests were joined, and no run had more rows than allowed."""
    with Runs.noted() as runs, way(onnxscope) as opened, opened as scope, ThreadPoolExecutor(_CALLERS) as pool:
        model = scope.load(digits_path)

        def call(x: np.ndarray) -> Any:
            return model.capture(x, at=["relu1", "relu5"], reduce={"relu1": "spatial_mean"}, timeout=30)

        for _ in range(4):
            for found, wanted in zip(pool.map(call, images), alone, strict=True):
                _check(found, wanted)
        assert 3 < max(runs.rows) <= 8


def test_coroutines_and_streams_that_call_together_get_their_own(
    way: Any, digits_path: Path, images: list[np.ndarray], alone: list[Any]
) -> None:
    """Streams are joined with single calls, batch by batch and in order; who is cancelled takes nothing with it."""

    async def work(runs: Runs, scope: Any) -> None:
        model = await scope.load(digits_path)
        wants = {"at": ["relu1", "relu5"], "reduce": {"relu1": "spatial_mean"}, "timeout": 30}

        for _ in range(3):
            calls = [asyncio.create_task(model.capture(x, **wants)) for x in images]
            streams = [asyncio.create_task(_streamed(model, images[:4], wants)) for _ in range(2)]
            gone = [asyncio.create_task(model.capture(x, **wants)) for x in images[:3]]
            await asyncio.sleep(0.002)
            for task in gone:
                task.cancel()
            for found, wanted in zip(await asyncio.gather(*calls), alone, strict=True):
                _check(found, wanted)
            for stream in await asyncio.gather(*streams):
                for found, wanted in zip(stream, alone[:4], strict=True):
                    _check(found, wanted)
            await asyncio.gather(*gone, return_exceptions=True)
        assert 3 < max(runs.rows) <= 8

    async def opened_and_done(runs: Runs, opened: Any) -> None:
        async with opened as scope:
            await work(runs, scope)

    with Runs.noted() as runs, way(onnxscope.aio) as opened:
        asyncio.run(opened_and_done(runs, opened))


def test_who_fails_is_told_and_the_others_are_served(way: Any, parsed: Callable[[str], bytes]) -> None:
    """An index that the table has not is one caller's trouble."""
    lookup = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        lookup (int64[row, 1] i) => (float[row, 1, 2] y) <float[3, 2] table = {0, 1, 2, 3, 4, 5}>
        { a = Gather(table, i)  y = Neg(a) }"""
    )
    with way(onnxscope) as opened, opened as scope, ThreadPoolExecutor(_CALLERS) as pool:
        model = scope.load(lookup)

        def call(index: int) -> Any:
            try:
                return model.capture(np.array([[index]]), at="a", timeout=30)["a"].tolist()
            except onnxscope.RunFailedError:
                return "failed"

        indices = [0, 1, 2, 9, 0, 1, 2, 0]
        for _ in range(4):
            found = list(pool.map(call, indices))
            assert found == ["failed" if index == 9 else [[[2 * index, 2 * index + 1]]] for index in indices]
