"""A probe in the catalog, for coroutines."""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from onnxscope.errors import ValueInvalidError
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.probe import joined, write
from onnxscope.probes.result import ProbeResult
from onnxscope.v1.codec import Array


class AsyncReader(Protocol):
    """What runs a probe on rows and knows its file; each method is that of `Reader`."""

    def probe_results(
        self,
        name: str,
        X: Any,  # noqa: N803  # the contract's name
        *,
        batch_size: int,
        progress: Any,
        preprocess: Callable[[Any], Any] | None,
        timeout: float | None,
    ) -> AsyncIterator[ProbeResult]:
        """As `Reader.probe_results`."""

    async def probe_file(self, name: str, timeout: float | None) -> bytes:
        """As `Reader.probe_file`."""


class AsyncProbe(DescribedProbe):
    """A small model trained on activations; printed, it is the report of its evaluation.

    Args:
        message: the server's description.
        reader: runs it.
    """

    def __init__(self, message: Any, reader: AsyncReader) -> None:
        super().__init__(message)
        self._reader = reader

    async def run(
        self,
        x: Any,
        *,
        batch_size: int = 32,
        progress: Any = None,
        preprocess: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> ProbeResult:
        """Returns all that the probe gives for a data set, as `Probe.run`."""
        self._check_mask()
        parts = self._reader.probe_results(
            self.name, x, batch_size=batch_size, progress=progress, preprocess=preprocess, timeout=timeout
        )
        return joined([part async for part in parts])

    async def predict(self, x: Any, **options: Any) -> Array:
        """Returns labels, for regression values, as `Probe.predict`."""
        return self._predicted(await self.run(x, **options))

    async def predict_proba(self, x: Any, **options: Any) -> Array:
        """Returns probabilities `[example, class]`, as `Probe.predict_proba`."""
        return self._probabilities(await self.run(x, **options))

    async def decision_function(self, x: Any, **options: Any) -> Array:
        """Returns the scores as they are, `[example, class]`, as `Probe.decision_function`."""
        return self._scores(await self.run(x, **options))

    async def transform(self, x: Any, **options: Any) -> Array:
        """Returns components `[example, component]` of PCA, as `Probe.transform`."""
        return self._components(await self.run(x, **options))

    async def save(self, path: str | PathLike[str], *, timeout: float | None = None) -> Path:
        """Writes its ONNX file, whole or not at all, and returns the path, as `Probe.save`."""
        return await asyncio.to_thread(write, path, await self._reader.probe_file(self.name, timeout))

    def _array(self, name: str) -> Array:
        if self._arrays is None:
            raise ValueInvalidError(
                f"no {name}_ came with the probe {self.name!r} ({self.kind}): it is not linear, or of a list or a "
                f"sweep, which come without; await model.probe({self.name!r}) has all there is"
            )
        return super()._array(name)
