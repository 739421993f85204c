"""Fits probes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope_server.errors import NotImplementedYetError


def _refusal() -> NotImplementedYetError:
    return NotImplementedYetError(
        "probes on the server are not built yet; capture activations and fit a probe on them",
        feature="probes",
    )


class ProbeFitting:
    """Fits probes."""

    async def FitProbe(
        self, requests: AsyncIterator[pb.FitProbeRequest], context: Any
    ) -> AsyncIterator[pb.FitProbeResponse]:
        """Not built yet."""
        raise _refusal()
        yield

    async def Sweep(self, requests: AsyncIterator[pb.SweepRequest], context: Any) -> AsyncIterator[pb.SweepResponse]:
        """Not built yet."""
        raise _refusal()
        yield
