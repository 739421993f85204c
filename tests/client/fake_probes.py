"""ProbeService with nothing behind it: it keeps what it is sent, and answers with reports that are made up."""

# ruff: noqa: D102, N802  # the methods are gRPC's

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tests.messages import messages

from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1 import probe_service_pb2_grpc, tensor_pb2
from onnxscope.v1.assemble import Assembler

DIGEST = "d" * 64
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)
Y = np.arange(10) % 2
REPORT = pb.ProbeReport(
    metric="accuracy",
    score=0.98,
    interval_low=0.966,
    interval_high=0.991,
    baseline=0.1,
    train_score=1.0,
    train_count=1257,
    test_count=540,
    seed=3,
    input_score=0.972,
    control_score=0.326,
    selectivity=0.654,
    codelength_bits=277.4,
    compression=15.1,
    baseline_compression=0.99,
    scores=[
        pb.ProbeScore(metric="accuracy", value=0.98, low=0.966, high=0.991),
        pb.ProbeScore(metric="macro_f1", value=0.979, low=0.96, high=0.99),
    ],
    learning_curve=[pb.LearningPoint(row_count=100, score=0.9), pb.LearningPoint(row_count=1257, score=0.98)],
    confusion=[pb.ConfusionRow(counts=[50, 1]), pb.ConfusionRow(counts=[2, 47])],
    control_types="k-means of the input",
    notes=["measured on a part of the rows"],
)


def probe(name: str = "parity", **more: Any) -> pb.Probe:
    """Returns the message of a probe."""
    fields = {
        "model_digest": DIGEST,
        "address": "h1",
        "kind": "logistic",
        "task": pb.PROBE_TASK_CLASSES,
        "classes": {"integers": [0, 1]},
        "outputs": ["labels", "scores"],
        "report": REPORT,
        "params_json": '{"C": 0.5}',
    }
    made = pb.Probe(name=name, **(fields | more))
    made.fit_time.FromSeconds(1_700_000_000)
    return made


def arrays() -> list[tensor_pb2.ValuePart]:
    """Returns the messages of a linear probe's arrays."""
    coef = messages(tensor_pb2.VALUE_ROLE_PROBE, "coef", np.array([[1.0, 2.0, 3.0]], np.float32))
    return coef + messages(tensor_pb2.VALUE_ROLE_PROBE, "intercept", np.array([0.5], np.float32))


@dataclass
class FakeProbes(probe_service_pb2_grpc.ProbeServiceServicer):
    """What came, for tests to look at, and what is there.

    A probe's name has a behaviour: `taken` exists, `cut` ends the answer early, `slow` takes for ever.
    """

    refuse: Callable[..., None]
    kept: dict[str, pb.Probe] = field(default_factory=lambda: {"parity": probe(arrays=arrays())})
    specs: list[pb.ProbeSpec] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)
    imports: list[tuple[pb.ImportSpec, bytes]] = field(default_factory=list)
    file: bytes = b"onnx" * 600_000
    cancelled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def FitProbe(self, requests: Iterator[Any], context: Any) -> Iterator[pb.FitProbeResponse]:
        spec = self._read(requests, context)
        row_count = sum(len(next(iter(batch.values()))) for batch in self.batches)
        yield pb.FitProbeResponse(progress=pb.FitProgress(stage="capture", row_count=row_count))
        yield pb.FitProbeResponse(progress=pb.FitProgress(stage="fit", done_count=1, total_count=1))
        if spec.name == "cut":
            return
        made = probe(spec.name, kind=spec.kind, model_digest=spec.model, arrays=arrays())
        if not spec.model:
            made.address = ""
            yield pb.FitProbeResponse(data=self.file[:1000])
            yield pb.FitProbeResponse(data=self.file[1000:])
        yield pb.FitProbeResponse(probe=made)

    def Sweep(self, requests: Iterator[Any], context: Any) -> Iterator[pb.SweepResponse]:
        spec = self._read(requests, context)
        for index, address in enumerate(spec.selectors):
            if address == "bad":
                yield pb.SweepResponse(failure=pb.SweepFailure(address=address, message="At 'bad': NaN"))
                continue
            made = probe(f"{spec.name or f'sweep-{len(self.specs)}'}/{address}", address=address, kind=spec.kind)
            made.report.score = json.loads(spec.params_json or "{}").get(address, 0.5)
            made.report.metric = spec.metric or "accuracy"
            yield pb.SweepResponse(probe=made)
            done = pb.FitProgress(stage="fit", done_count=index + 1, total_count=len(spec.selectors))
            yield pb.SweepResponse(progress=done)
        if spec.name != "cut":
            yield pb.SweepResponse(completed=pb.SweepCompleted(data_digest="abc", resumed_count=1))

    def ListProbes(self, request: Any, context: Any) -> pb.ListProbesResponse:
        names = sorted(self.kept)
        at = int(request.page_token or 0)
        more = str(at + 1) if at + 1 < len(names) else ""
        return pb.ListProbesResponse(probes=[self.kept[name] for name in names[at : at + 1]], next_page_token=more)

    def GetProbe(self, request: Any, context: Any) -> pb.GetProbeResponse:
        if request.name not in self.kept:
            self.refuse(context, grpc.StatusCode.NOT_FOUND, "PROBE_NOT_FOUND", f"no probe {request.name}")
        return pb.GetProbeResponse(probe=self.kept[request.name])

    def DeleteProbe(self, request: Any, context: Any) -> pb.DeleteProbeResponse:
        del self.kept[request.name]
        return pb.DeleteProbeResponse()

    def ExportProbe(self, request: Any, context: Any) -> Iterator[pb.ExportProbeResponse]:
        if request.name not in self.kept:
            self.refuse(context, grpc.StatusCode.NOT_FOUND, "PROBE_NOT_FOUND", f"no probe {request.name}")
        for at in range(0, len(self.file), 1 << 20):
            yield pb.ExportProbeResponse(data=self.file[at : at + (1 << 20)])

    def ImportProbe(self, requests: Iterator[Any], context: Any) -> pb.ImportProbeResponse:
        spec, data = next(requests).spec, b""
        for request in requests:
            data += request.data
        self.imports.append((spec, data))
        if spec.name == "taken":
            self.refuse(context, grpc.StatusCode.ALREADY_EXISTS, "PROBE_EXISTS", "the model has a probe 'taken'")
        return pb.ImportProbeResponse(probe=probe(spec.name or "from-metadata", kind="onnx", address=spec.address))

    def _read(self, requests: Iterator[Any], context: Any) -> pb.ProbeSpec:
        spec = next(requests).spec
        self.specs.append(spec)
        if spec.name == "taken":
            self.refuse(context, grpc.StatusCode.ALREADY_EXISTS, "PROBE_EXISTS", "the model has a probe 'taken'")
        assembler, values = Assembler(), {}
        for request in requests:
            for item in request.items:
                which = item.WhichOneof("item")
                if which == "input" and (done := assembler.feed(item.input)) is not None:
                    values[done.name] = done.value
                if which == "batch_end":
                    self.batches.append(values)
                    values = {}
        if spec.name == "slow":
            context.add_callback(self.cancelled.set)
            deadline = time.monotonic() + 20
            while context.is_active() and not self.release.is_set() and time.monotonic() < deadline:
                time.sleep(0.005)
        return spec
