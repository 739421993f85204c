"""ProbeService."""

from __future__ import annotations

from onnxscope.v1.probe_service_pb2_grpc import ProbeServiceServicer
from onnxscope_server.api.probe_fitting import ProbeFitting
from onnxscope_server.api.probe_keeping import ProbeKeeping
from onnxscope_server.pipeline.keeping import Keeping


class ProbeServicer(ProbeFitting, ProbeKeeping, ProbeServiceServicer):
    """Answers for all that has to do with probes.

    Args:
        keeping: the verbs that keep probes.
    """

    def __init__(self, keeping: Keeping) -> None:
        ProbeKeeping.__init__(self, keeping)
