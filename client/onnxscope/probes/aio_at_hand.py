"""Probes on activations that the caller already has, for coroutines."""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from onnxscope import embedding
from onnxscope.aio_model import AsyncModel
from onnxscope.caller import AsyncCaller
from onnxscope.probes.aio_probe import AsyncProbe
from onnxscope.probes.at_hand import BATCH_SIZE, fitting_at_hand, prepared, result_of
from onnxscope.probes.fitting import FIT
from onnxscope.probes.result import ProbeResult
from onnxscope.probes.spec import Options
from onnxscope.upload import Source
from onnxscope.v1 import probe_service_pb2 as pb


async def fit_probe(
    H: Any,  # noqa: N803  # the contract's name
    y: Any,
    *,
    kind: str = "logistic",
    reduce: str | None = None,
    params: Any = None,
    test_size: float = 0.3,
    test: Any = None,
    cv: Any = None,
    groups: Any = None,
    metric: str | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    controls: bool = True,
    name: str = "probe",
    batch_size: int = BATCH_SIZE,
    progress: Any = None,
    timeout: float | None = None,
    seed: int = 0,
) -> AsyncProbe:
    """Fits a small model on activations already at hand; all is as of `onnxscope.fit_probe`."""
    fitting = fitting_at_hand(
        H,
        y,
        reduce,
        name=name,
        options=Options(kind, params, test_size, cv, metric, class_weight, controls, seed=seed),
        groups=groups,
        sample_weight=sample_weight,
        test=test,
        batch_size=batch_size,
        progress=progress,
    )
    link = embedding.open_async_link("fit_probe")
    try:
        async with aclosing(link.fit(FIT, fitting.spec, fitting.batches_async(), timeout=timeout)) as responses:
            async for response in responses:
                fitting.take(response)
    finally:
        fitting.over()
        await link.close()
    fitting.end()
    return AsyncProbe(fitting.probe, AsyncFileReader(bytes(fitting.data), fitting.probe))


@dataclass(frozen=True, slots=True)
class AsyncFileReader:
    """As `FileReader`, for coroutines."""

    onnx: bytes
    message: pb.Probe

    async def probe_results(
        self,
        name: str,  # noqa: ARG002  # there is one
        X: Any,  # noqa: N803
        *,
        batch_size: int,
        progress: Any,
        preprocess: Callable[[Any], Any] | None,
        timeout: float | None,
    ) -> AsyncIterator[ProbeResult]:
        """As `Reader.probe_results`, on activations."""
        link = embedding.open_async_link("predict")
        try:
            model = AsyncModel(AsyncCaller(link), await link.upload(Source(data=self.onnx), "", "", timeout=timeout))
            stream = model.stream(
                X,
                batch_size=max(batch_size, BATCH_SIZE),
                progress=progress,
                preprocess=prepared(model.inputs, preprocess),
                timeout=timeout,
            )
            async with aclosing(stream) as batches:
                async for acts in batches:
                    yield result_of(acts, self.message)
        finally:
            await link.close()

    async def probe_file(self, name: str, timeout: float | None) -> bytes:  # noqa: ARG002  # there is one, and it is here
        """As `Reader.probe_file`."""
        return self.onnx
