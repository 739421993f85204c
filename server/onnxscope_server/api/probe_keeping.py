"""Keeps probes."""

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


class ProbeKeeping:
    """Keeps probes."""

    async def ListProbes(self, request: pb.ListProbesRequest, context: Any) -> None:
        """Not built yet."""
        raise _refusal()

    async def GetProbe(self, request: pb.GetProbeRequest, context: Any) -> None:
        """Not built yet."""
        raise _refusal()

    async def DeleteProbe(self, request: pb.DeleteProbeRequest, context: Any) -> None:
        """Not built yet."""
        raise _refusal()

    async def ExportProbe(self, request: pb.ExportProbeRequest, context: Any) -> AsyncIterator[pb.ExportProbeResponse]:
        """Not built yet."""
        raise _refusal()
        yield

    async def ImportProbe(self, requests: AsyncIterator[pb.ImportProbeRequest], context: Any) -> None:
        """Not built yet."""
        raise _refusal()
