"""Keeps probes: messages <-> the verbs that keep them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope_server.api.convert import reduction_from_pb
from onnxscope_server.api.pages import page
from onnxscope_server.api.pieces import pieces
from onnxscope_server.api.probe_convert import probe_to_pb
from onnxscope_server.catalog.probe_entry import ProbeEntry
from onnxscope_server.errors import LimitExceededError, ValueInvalidError
from onnxscope_server.pipeline.keeping import ImportSpec, Keeping, SparseAutoencoder

# reports may be long, and a message has at most 4 MiB
_PAGE_BYTES = 2 << 20


class ProbeKeeping:
    """Keeps probes.

    Args:
        keeping: the verbs.
    """

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def ListProbes(self, request: pb.ListProbesRequest, context: Any) -> pb.ListProbesResponse:
        """Lists the probes of a model."""
        entries = await self._keeping.list(request.model, request.version)
        found, token = page(entries, request.page_size, request.page_token)
        response = pb.ListProbesResponse(next_page_token=token)
        size = 0
        for at, entry in enumerate(found, int(request.page_token or 0)):
            probe = _to_pb(entry)
            size += probe.ByteSize()
            if response.probes and size > _PAGE_BYTES:
                response.next_page_token = str(at)
                break
            response.probes.append(probe)
        return response

    async def GetProbe(self, request: pb.GetProbeRequest, context: Any) -> pb.GetProbeResponse:
        """Describes one probe, with its arrays where it is linear."""
        probe = await self._keeping.get(request.model, request.version, request.name)
        arrays = await self._keeping.arrays(probe)
        return pb.GetProbeResponse(probe=probe_to_pb(probe.info, probe.outputs, len(probe.onnx), arrays))

    async def DeleteProbe(self, request: pb.DeleteProbeRequest, context: Any) -> pb.DeleteProbeResponse:
        """Takes a probe out of the catalog."""
        await self._keeping.delete(request.model, request.version, request.name)
        return pb.DeleteProbeResponse()

    async def ExportProbe(self, request: pb.ExportProbeRequest, context: Any) -> AsyncIterator[pb.ExportProbeResponse]:
        """Hands out a probe's file."""
        probe = await self._keeping.get(request.model, request.version, request.name)
        for piece in pieces(probe.onnx):
            yield pb.ExportProbeResponse(data=piece)

    async def ImportProbe(self, requests: AsyncIterator[pb.ImportProbeRequest], context: Any) -> pb.ImportProbeResponse:
        """Brings a file in as a probe."""
        spec: ImportSpec | None = None
        data = bytearray()
        async for request in requests:
            if request.HasField("spec") != (spec is None):
                raise ValueInvalidError("the spec stands in the first message, and only there", value="spec")
            spec = spec or _spec_from_pb(request.spec)
            data += request.data
            if len(data) > self._keeping.max_probe_bytes:
                raise _too_large(spec.name, len(data), self._keeping.max_probe_bytes)
        if spec is None:
            raise ValueInvalidError("the first message must hold the spec", value="spec")
        entry = await self._keeping.bring_in(spec, bytes(data))
        return pb.ImportProbeResponse(probe=_to_pb(entry))


def _to_pb(entry: ProbeEntry) -> pb.Probe:
    return probe_to_pb(entry.info, entry.output_names, entry.byte_count)


def _spec_from_pb(spec: pb.ImportSpec) -> ImportSpec:
    how = spec.autoencoder
    return ImportSpec(
        name=spec.name,
        model=spec.model,
        version=spec.version,
        address=spec.address,
        reduction=reduction_from_pb(spec.reduction) if spec.HasField("reduction") else None,
        overwrite=spec.overwrite,
        autoencoder=SparseAutoencoder(how.activation, how.k, how.subtract_decoder_bias)
        if spec.HasField("autoencoder")
        else None,
    )


def _too_large(name: str, got: int, limit: int) -> LimitExceededError:
    return LimitExceededError(
        f"The file of {name!r} has at least {got} bytes, above the server's max_probe_bytes of {limit}.",
        setting="max_probe_bytes",
        limit=str(limit),
        got=str(got),
    )
