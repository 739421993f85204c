"""FitProbe and Sweep: messages <-> the verbs fit and sweep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1.envelope import Carried
from onnxscope_server.api import incoming
from onnxscope_server.api.pieces import pieces
from onnxscope_server.api.probe_convert import probe_to_pb, spec_from_pb
from onnxscope_server.api.probe_inbox import ProbeInbox
from onnxscope_server.pipeline.probes import Failure, Finished, Probing, Progress

_EMBEDDED = "embedded"


class ProbeFitting:
    """Fits probes.

    Args:
        probing: the verbs.
        max_input_bytes: largest batch.
    """

    def __init__(self, probing: Probing, max_input_bytes: int) -> None:
        self._probing = probing
        self._max_input_bytes = max_input_bytes

    async def FitProbe(
        self, requests: AsyncIterator[pb.FitProbeRequest], context: Any
    ) -> AsyncIterator[pb.FitProbeResponse]:
        """Fits one probe."""
        carried = (Carried(request) async for request in requests)
        first = await incoming.opening(carried)
        spec = spec_from_pb(first.message.spec)
        async with (
            aclosing(incoming.batches(first, carried, ProbeInbox, self._max_input_bytes)) as rows,
            aclosing(self._probing.fit(spec, rows, _caller(context))) as events,
        ):
            async for event in events:
                if isinstance(event, Progress):
                    yield pb.FitProbeResponse(progress=_progress(event))
                    continue
                if not spec.model:
                    for piece in pieces(event.onnx):
                        yield pb.FitProbeResponse(data=piece)
                arrays = await self._probing.arrays(event)
                yield pb.FitProbeResponse(probe=probe_to_pb(event.info, event.outputs, len(event.onnx), arrays))

    async def Sweep(self, requests: AsyncIterator[pb.SweepRequest], context: Any) -> AsyncIterator[pb.SweepResponse]:
        """Fits a probe at each of many hook points."""
        carried = (Carried(request) async for request in requests)
        first = await incoming.opening(carried)
        spec = spec_from_pb(first.message.spec)
        async with (
            aclosing(incoming.batches(first, carried, ProbeInbox, self._max_input_bytes)) as rows,
            aclosing(self._probing.sweep(spec, rows, _caller(context))) as events,
        ):
            async for event in events:
                if isinstance(event, Progress):
                    yield pb.SweepResponse(progress=_progress(event))
                elif isinstance(event, Finished):
                    completed = pb.SweepCompleted(data_digest=event.data_digest, resumed_count=event.resumed_count)
                    yield pb.SweepResponse(completed=completed)
                elif isinstance(event, Failure):
                    failure = pb.SweepFailure(
                        address=event.address, reason=event.error.reason, message=event.error.message
                    )
                    yield pb.SweepResponse(failure=failure)
                else:
                    yield pb.SweepResponse(probe=probe_to_pb(event.info, event.outputs, len(event.onnx)))


def _caller(context: Any) -> str:
    return _EMBEDDED if context is None else context.peer()


def _progress(event: Progress) -> pb.FitProgress:
    return pb.FitProgress(
        row_count=event.row_count,
        stage=event.stage,
        done_count=event.done_count,
        total_count=event.total_count,
    )
