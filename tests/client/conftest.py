"""A server that echoes: the protocol of onnxscope.v1 with nothing behind it."""

# ruff: noqa: D102, N802  # the methods are gRPC's

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from tests.client.fake_probes import FakeProbes
from tests.messages import messages

import onnxscope
from onnxscope.v1 import (
    capture_service_pb2 as capture_pb,
)
from onnxscope.v1 import (
    capture_service_pb2_grpc,
    codec,
    model_service_pb2_grpc,
    probe_service_pb2_grpc,
    tensor_pb2,
)
from onnxscope.v1 import (
    model_service_pb2 as model_pb,
)
from onnxscope.v1.assemble import Assembler

TOKEN = "secret"
ROLE_OUTPUT = tensor_pb2.VALUE_ROLE_OUTPUT
ROLE_ACTIVATION = tensor_pb2.VALUE_ROLE_ACTIVATION


def spec(name: str, data_type: int = tensor_pb2.DATA_TYPE_FLOAT32, shape: Any = ("batch", 3)) -> tensor_pb2.ValueSpec:
    """Returns the message of an input or output; None in a shape is an unknown size."""
    tensor = tensor_pb2.TensorType(data_type=data_type)
    if shape is not None:
        tensor.shape.SetInParent()
        for extent in shape:
            known = {} if extent is None else {"size" if isinstance(extent, int) else "symbol": extent}
            tensor.shape.dimensions.add(**known)
    return tensor_pb2.ValueSpec(name=name, type=tensor_pb2.ValueType(tensor=tensor))


def model(*inputs: tensor_pb2.ValueSpec, name: str = "echo", **more: Any) -> model_pb.Model:
    """Returns the message of a model."""
    return model_pb.Model(
        name=name,
        version="1",
        digest="d" * 64,
        inputs=inputs or [spec("x")],
        outputs=more.pop("outputs", [spec("y")]),
        providers=["CPUExecutionProvider"],
        **more,
    )


def refuse(context: Any, code: grpc.StatusCode, reason: str, message: str, **metadata: str) -> None:
    """Ends a call as an onnxscope server does."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="onnxscope", metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


@dataclass
class Fake(model_service_pb2_grpc.ModelServiceServicer, capture_service_pb2_grpc.CaptureServiceServicer):
    """The server's state, for tests to set and to look at.

    A selector that names a behaviour has it: `cut` ends the answer early, `slow` takes for ever, `broken` sends a
    chunk out of order, `refused` fails as the server does. Any other is the address of an activation: the input
    plus one.
    """

    models: dict[str, model_pb.Model] = field(default_factory=lambda: {"echo": model()})
    points: list[model_pb.HookPoint] = field(default_factory=list)
    wanted_files: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    known_digests: set[str] = field(default_factory=set)
    specs: list[capture_pb.CaptureSpec] = field(default_factory=list)
    received: list[dict[str, codec.Value]] = field(default_factory=list)
    message_sizes: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    answers_in_one: bool = False
    refuses_small: bool = False
    small_count: int = 0
    probes: FakeProbes = field(default_factory=lambda: FakeProbes(refuse))
    target: str = ""
    stop: Callable[[], None] = lambda: None

    def _enter(self, context: Any) -> None:
        sent = dict(context.invocation_metadata())
        self.tokens.append(sent.get("authorization", ""))

    def GetModel(self, request: Any, context: Any) -> model_pb.GetModelResponse:
        self._enter(context)
        if request.model not in self.models:
            refuse(context, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", f"no {request.model}", model=request.model)
        return model_pb.GetModelResponse(model=self.models[request.model])

    def ListModels(self, request: Any, context: Any) -> model_pb.ListModelsResponse:
        names = sorted(self.models)
        at = int(request.page_token or 0)
        more = str(at + 1) if at + 1 < len(names) else ""
        return model_pb.ListModelsResponse(models=[self.models[n] for n in names[at : at + 1]], next_page_token=more)

    def UnloadModel(self, request: Any, context: Any) -> model_pb.UnloadModelResponse:
        self.models.pop(request.model)
        return model_pb.UnloadModelResponse(unloaded_count=1)

    def ListHookPoints(self, request: Any, context: Any) -> model_pb.ListHookPointsResponse:
        chosen = [p for p in self.points if request.selectors == ["*"] or p.address in request.selectors]
        at = int(request.page_token or 0)
        more = str(at + 2) if at + 2 < len(chosen) else ""
        return model_pb.ListHookPointsResponse(hook_points=chosen[at : at + 2], next_page_token=more)

    def UploadModel(self, requests: Iterator[Any], context: Any) -> Iterator[model_pb.UploadModelResponse]:
        start = next(requests).start
        if start.name == "busy":
            refuse(context, grpc.StatusCode.ALREADY_EXISTS, "MODEL_EXISTS", "busy stands for another model")
        if start.graph_digest not in self.known_digests:
            yield model_pb.UploadModelResponse(graph_wanted=model_pb.GraphWanted())
            self.files[""] = _chunks(requests, start.graph_byte_count)
            assert hashlib.sha256(self.files[""]).hexdigest() == start.graph_digest
        if self.wanted_files:
            yield model_pb.UploadModelResponse(digests_wanted=model_pb.DigestsWanted(paths=self.wanted_files))
            sizes = {}
            for _ in self.wanted_files:
                told = next(requests).file_digest
                sizes[told.path] = told.byte_count
            yield model_pb.UploadModelResponse(files_wanted=model_pb.FilesWanted(paths=self.wanted_files))
            for path in self.wanted_files:
                self.files[path] = _chunks(requests, sizes[path])
        if start.name == "cut":
            return
        done = model(name=start.name or "anonymous")
        yield model_pb.UploadModelResponse(completed=model_pb.UploadCompleted(model=done))

    def PlanCapture(self, request: Any, context: Any) -> capture_pb.PlanCaptureResponse:
        self.specs.append(request.spec)
        plan = _plan(request.spec)
        plan.known_byte_count = sum(int(np.prod(item.shape)) for item in request.input_shapes)
        return capture_pb.PlanCaptureResponse(plan=plan)

    def Capture(self, requests: Iterator[Any], context: Any) -> Iterator[capture_pb.CaptureResponse]:
        if self.answers_in_one:
            yield _joined(self._captured(requests, context))
        else:
            yield from self._captured(requests, context)

    def CaptureSmall(self, request: Any, context: Any) -> capture_pb.CaptureSmallResponse:
        self.small_count += 1
        if self.refuses_small:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "what?")
        return (
            _joined(self._captured(iter([request]), context)) if self.answers_in_one else capture_pb.CaptureResponse()
        )

    def _captured(self, requests: Iterator[Any], context: Any) -> Iterator[capture_pb.CaptureResponse]:
        self._enter(context)
        assembler, inputs, asked = Assembler(), {}, capture_pb.CaptureSpec()
        for request in requests:
            self.message_sizes.append(request.ByteSize())
            asked = request.spec if request.HasField("spec") else asked
            for part in request.inputs:
                if (done := assembler.feed(part)) is not None:
                    inputs[done.name] = done.value
        self.specs.append(asked)
        self.received.append(inputs)
        yield capture_pb.CaptureResponse(events=[capture_pb.CaptureEvent(plan=_plan(asked))])
        for value in self._results(asked, inputs, context):
            yield capture_pb.CaptureResponse(events=[capture_pb.CaptureEvent(value=value)])
        if "cut" not in asked.selectors:
            yield capture_pb.CaptureResponse(events=[capture_pb.CaptureEvent(completed=_completed())])

    def StreamCapture(self, requests: Iterator[Any], context: Any) -> Iterator[capture_pb.StreamCaptureResponse]:
        assembler, inputs, asked, count = Assembler(), {}, capture_pb.CaptureSpec(), 0
        for request in requests:
            if request.HasField("spec"):
                asked = request.spec
                self.specs.append(asked)
                yield _stream(capture_pb.StreamEvent(plan=_plan(asked)))
            for item in request.items:
                which = item.WhichOneof("item")
                if which == "input" and (done := assembler.feed(item.input)) is not None:
                    inputs[done.name] = done.value
                if which != "batch_end":
                    continue
                self.received.append(inputs)
                yield _stream(capture_pb.StreamEvent(batch_start=capture_pb.BatchStart(index=count)))
                for value in self._results(asked, inputs, context):
                    yield _stream(capture_pb.StreamEvent(value=value))
                ended = capture_pb.BatchCompleted(index=count, completed=_completed())
                yield _stream(capture_pb.StreamEvent(batch_completed=ended))
                inputs, count = {}, count + 1
        if "cut" not in asked.selectors:
            yield _stream(capture_pb.StreamEvent(completed=capture_pb.StreamCompleted(batch_count=count)))

    def _results(self, asked: Any, inputs: dict[str, Any], context: Any) -> Iterator[tensor_pb2.ValuePart]:
        if "slow" in asked.selectors:
            context.add_callback(self.cancelled.set)
            deadline = time.monotonic() + 20
            while context.is_active() and not self.release.is_set() and time.monotonic() < deadline:
                time.sleep(0.005)
        if "refused" in asked.selectors:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "RUN_FAILED", "the run failed", detail="shapes")
        if "broken" in asked.selectors:
            yield tensor_pb2.ValuePart(chunk=tensor_pb2.ValueChunk(offset=7, data=b"x"))
        value = next(iter(inputs.values())) + 1
        if asked.outputs != capture_pb.OUTPUT_MODE_NONE:  # outputs first: the client sorts by the plan
            yield from messages(ROLE_OUTPUT, "y", value)
        for address in asked.selectors:
            if address != "forgotten":
                yield from messages(ROLE_ACTIVATION, address, value)
        for name in asked.probes:
            labels = np.arange(len(value)) % 2
            yield from messages(tensor_pb2.VALUE_ROLE_PROBE, f"{name}.labels", labels)
            if name != "forgotten":
                yield from messages(tensor_pb2.VALUE_ROLE_PROBE, f"{name}.scores", value[:, :2])


def _joined(responses: Iterator[capture_pb.CaptureResponse]) -> capture_pb.CaptureResponse:
    return capture_pb.CaptureResponse(events=[event for response in responses for event in response.events])


def _chunks(requests: Iterator[Any], size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = next(requests).chunk
        assert chunk.offset == len(data)
        data += chunk.data
    return data


def _plan(asked: capture_pb.CaptureSpec) -> capture_pb.CapturePlan:
    values = [capture_pb.PlannedValue(role=ROLE_ACTIVATION, name=name) for name in asked.selectors]
    if asked.outputs != capture_pb.OUTPUT_MODE_NONE:
        values.append(capture_pb.PlannedValue(role=ROLE_OUTPUT, name="y"))
    probes = [
        capture_pb.PlannedProbe(
            name=name,
            address="h1",
            kind="logistic",
            classes={"integers": [0, 1]},
            outputs={"labels": f"{name}.labels", "scores": f"{name}.scores"},
        )
        for name in asked.probes
    ]
    return capture_pb.CapturePlan(
        values=values, unknown_count=len(values), node_count=1, model_node_count=2, probes=probes
    )


def _completed() -> capture_pb.CaptureCompleted:
    timing = capture_pb.StageTiming(stage="run")
    timing.duration.FromMilliseconds(250)
    return capture_pb.CaptureCompleted(timings=[timing], fidelity=capture_pb.Fidelity(fusion_blocked=True))


def _stream(event: capture_pb.StreamEvent) -> capture_pb.StreamCaptureResponse:
    return capture_pb.StreamCaptureResponse(events=[event])


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server on a free port of this machine."""
    servicer = Fake()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    capture_service_pb2_grpc.add_CaptureServiceServicer_to_server(servicer, server)
    probe_service_pb2_grpc.add_ProbeServiceServicer_to_server(servicer.probes, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    servicer.stop = lambda: server.stop(None).wait(5)
    server.start()
    yield servicer
    servicer.release.set()
    servicer.probes.release.set()
    servicer.stop()


@pytest.fixture
def make_spec() -> Any:
    """The maker of messages of inputs and outputs."""
    return spec


@pytest.fixture
def make_model() -> Any:
    """The maker of messages of models."""
    return model


@pytest.fixture
def scope(fake):
    """A scope on the server that echoes."""
    with onnxscope.connect(fake.target, timeout=20) as opened:
        yield opened


@pytest.fixture
def echo(scope):
    """Its model."""
    return scope.load("echo")
