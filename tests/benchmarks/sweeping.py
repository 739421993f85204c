"""A sweep over many hook points, against one pass of the model and what scikit-learn itself takes to fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tests.benchmarks import models
from tests.benchmarks.figures import Bench, Figure, Measured, Measurement, Outcome, Side, Spread

from onnxscope_server.app import Services
from onnxscope_server.domain import Array, CaptureSpec, OutputMode, Reduction, ReductionKind
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.stream import Batch, Stream
from onnxscope_server.probe_domain import ProbeSpec
from onnxscope_server.settings import EmbeddedSettings

_SWEEP = Figure(
    "sweep",
    "sweep of logistic probes over 20 hook points of a transformer of 226 MB (256 rows, without controls), against one "
    "pass of the model and scikit-learn's own fits",
    1.5,
)
_POINTS = [f"layer{layer}/{norm}/shifted" for layer in range(8) for norm in ("norm1", "norm2")]
_POINTS += [f"layer{layer}/down/sum" for layer in range(4)]
_ROWS, _BATCH, _POSITIONS, _WIDTH = 256, 32, 8, 768
_TEST_SHARE = 0.3
_MEAN = Reduction(ReductionKind.MEAN)


def _sweep(bench: Bench) -> Sequence[Outcome]:
    return asyncio.run(_measured(bench))


async def _measured(bench: Bench) -> Sequence[Outcome]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((_ROWS, _POSITIONS, _WIDTH), np.float32)
    y = (x[:, :, 0].mean(axis=1) > 0).astype(np.int64)
    services = Services.make(EmbeddedSettings())
    try:
        digest = (await services.models.add_file(models.bert(bench), "bert", "")).digest
        activations = await _captured(services, digest, x)

        async def sweep() -> None:
            spec = ProbeSpec(
                "", model=digest, selectors=tuple(_POINTS), reductions=(("*", _MEAN),), controls=False, seed=1
            )
            rows = (ProbeBatch({"x": x[at : at + _BATCH]}, labels=y[at : at + _BATCH]) for at in _starts())
            async with aclosing(services.probing.sweep(spec, _given(rows), "bench")) as events:
                async for _ in events:
                    pass

        async def one_pass() -> None:
            await _captured(services, digest, x, selectors=(), outputs=OutputMode.UNMODIFIED)

        async def fits() -> None:
            count = round(_ROWS * (1 - _TEST_SHARE))
            for array in activations.values():
                scaled = StandardScaler().fit_transform(array[:count].astype(np.float64))
                LogisticRegression(max_iter=1000).fit(scaled, y[:count])

        contenders = {"sweep": sweep, "one pass": one_pass, "fits": fits}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        rounds = bench.rounds(5, 3)
        for turn in range(-1, rounds):
            for name, work in contenders.items():
                taken = await _timed(work)
                if turn >= 0:
                    seconds[name].append(taken)
    finally:
        await services.close()
    floor = [one + other for one, other in zip(seconds["one pass"], seconds["fits"], strict=True)]
    sides = (
        Side("sweep", "onnxscope", Spread.of(seconds["sweep"])),
        Side("one pass of the model", "limit", Spread.of(seconds["one pass"])),
        Side("scikit-learn's fits", "limit", Spread.of(seconds["fits"])),
    )
    return [Measured(_SWEEP, Spread.of_ratios(seconds["sweep"], floor), sides)]


async def _captured(
    services: Services,
    digest: str,
    x: Array,
    selectors: Sequence[str] = tuple(_POINTS),
    outputs: OutputMode = OutputMode.NONE,
) -> dict[str, Array]:
    """Runs the model over all rows; returns what hook points held."""
    reductions = (("*", _MEAN),) if selectors else ()
    spec = CaptureSpec(digest, selectors=tuple(selectors), reductions=reductions, outputs=outputs)
    captures = services.captures
    stream = Stream(captures._captures, captures._batching, spec, {}, None, "bench")
    found: dict[str, list[Array]] = {}
    batches: AsyncIterator[Batch] = _given(({"x": x[at : at + _BATCH]}, {}) for at in _starts())
    async with aclosing(stream.parts(await stream.prepare(), batches)) as parts:
        async for part in parts:
            for address, value in part.activations.items():
                assert isinstance(value, np.ndarray)
                found.setdefault(address, []).append(value)
    return {address: np.concatenate(arrays) for address, arrays in found.items()}


def _starts() -> range:
    return range(0, _ROWS, _BATCH)


async def _given(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def _timed(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


MEASUREMENTS = (Measurement((_SWEEP,), _sweep),)
