"""ProbeService."""

from __future__ import annotations

from onnxscope.v1.probe_service_pb2_grpc import ProbeServiceServicer
from onnxscope_server.api.probe_fitting import ProbeFitting
from onnxscope_server.api.probe_keeping import ProbeKeeping
from onnxscope_server.pipeline.keeping import Keeping
from onnxscope_server.pipeline.probes import Probing


class ProbeServicer(ProbeFitting, ProbeKeeping, ProbeServiceServicer):
    """Answers for all that has to do with probes.

    Args:
        probing: the verbs that fit probes.
        keeping: the verbs that keep them.
        max_input_bytes: largest batch of rows.
    """

    def __init__(self, probing: Probing, keeping: Keeping, max_input_bytes: int) -> None:
        ProbeFitting.__init__(self, probing, max_input_bytes)
        ProbeKeeping.__init__(self, keeping)
