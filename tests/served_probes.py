"""Hand-made probes, and the calls that keep them and run them with a model, for scopes of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxscope.encode import SentValue
from onnxscope.receive import Arrived, BatchCompleted, Completed, Event, Planned
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1 import tensor_pb2
from onnxscope.v1.probe_service_pb2_grpc import ProbeServiceStub

Array = npt.NDArray[Any]
NONE = capture_pb.OUTPUT_MODE_NONE
OLD = """<ir_version: 3, opset_import: ["" : 7]>
    old (float[row, 4] x) => (float[row, 4] y) { h = Tanh (x)  y = Neg (h) }"""
X = np.linspace(-2, 2, 20, dtype=np.float32).reshape(5, 4)
_PIECE_BYTES = 1 << 10


@dataclass(frozen=True)
class Linear:
    """A linear probe: scores = softmax(x weights + bias), labels = classes[argmax]."""

    weights: Array
    bias: Array
    classes: Array

    @classmethod
    def drawn(cls, feature_count: int, class_count: int = 3, seed: int = 0) -> Linear:
        """Draws one; its classes are 10, 20, 30 ..."""
        rng = np.random.default_rng(seed)
        weights = rng.normal(size=(feature_count, class_count)).astype(np.float32) / np.sqrt(feature_count, dtype="f")
        return cls(weights, rng.normal(size=class_count).astype(np.float32), 10 * np.arange(1, class_count + 1))

    def onnx(self, opset: int = 13, rows: int | str = "row", **metadata: str) -> bytes:
        """Returns its file."""
        feature_count, class_count = self.weights.shape
        nodes = [
            helper.make_node("MatMul", ["x", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "index"], ["labels"]),
        ]
        graph = helper.make_graph(
            nodes,
            "probe",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, feature_count])],
            [
                helper.make_tensor_value_info("labels", TensorProto.INT64, [rows]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, class_count]),
            ],
            [numpy_helper.from_array(getattr(self, name), name) for name in ("weights", "bias", "classes")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def says(self, activations: Array) -> tuple[Array, Array]:
        """Returns labels and scores of activations, which are flattened behind the rows."""
        rows = activations.astype(np.float32).reshape(len(activations), -1)
        logits = rows @ self.weights + self.bias
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return self.classes[logits.argmax(1)], powers / powers.sum(1, keepdims=True)

    def check(self, answer: Answer, name: str, activations: Array) -> None:
        """Checks what a probe said of activations."""
        labels, scores = self.says(activations)
        np.testing.assert_array_equal(answer.probe(name, "labels"), labels)
        np.testing.assert_allclose(answer.probe(name, "scores"), scores, rtol=2e-4, atol=1e-6)


@dataclass
class Answer:
    """What a call brought."""

    plan: capture_pb.CapturePlan
    values: dict[int, dict[str, Any]] = field(default_factory=dict)
    fidelity: Any = None

    @property
    def activations(self) -> dict[str, Any]:
        """By address."""
        return self.values.get(tensor_pb2.VALUE_ROLE_ACTIVATION, {})

    @property
    def outputs(self) -> dict[str, Any]:
        """By name."""
        return self.values.get(tensor_pb2.VALUE_ROLE_OUTPUT, {})

    @property
    def probed(self) -> dict[str, Any]:
        """Outputs of probes by the names that they travel under."""
        return self.values.get(tensor_pb2.VALUE_ROLE_PROBE, {})

    def probe(self, name: str, output: str) -> Any:
        """An output of a probe."""
        (planned,) = [probe for probe in self.plan.probes if probe.name == name]
        return self.probed[planned.outputs[output]]


class Keeper:
    """The probes of one model.

    Args:
        scope: the way to the server.
        model: a name or a digest.
        target: the server's address; None for an embedded scope.
    """

    def __init__(self, scope: Any, model: str, target: str | None) -> None:
        self._link = scope._caller.link
        self.model = model
        self._target = target

    def bring_in(self, name: str, onnx_bytes: bytes, address: str = "", reduction: Any = None, **more: Any) -> pb.Probe:
        """Imports a file."""
        spec = pb.ImportSpec(name=name, model=self.model, address=address, reduction=reduction, **more)
        requests = [pb.ImportProbeRequest(spec=spec)]
        pieces = range(0, len(onnx_bytes), _PIECE_BYTES)
        requests += [pb.ImportProbeRequest(data=onnx_bytes[start : start + _PIECE_BYTES]) for start in pieces]
        return self._streamed(requests)

    def _streamed(self, requests: Sequence[pb.ImportProbeRequest]) -> pb.Probe:
        if self._target is None:

            async def sent() -> AsyncIterator[pb.ImportProbeRequest]:
                for request in requests:
                    yield request

            host = self._link._host
            return host.wait(host._services.probes.ImportProbe(sent(), None), 60).probe
        with grpc.insecure_channel(self._target) as channel:
            return ProbeServiceStub(channel).ImportProbe(iter(requests)).probe

    def exported(self, name: str) -> bytes:
        """Returns a probe's file."""
        request = pb.ExportProbeRequest(model=self.model, name=name)
        if self._target is None:

            async def joined() -> bytes:
                pieces = host._services.probes.ExportProbe(request, None)
                return b"".join([piece.data async for piece in pieces])

            host = self._link._host
            return host.wait(joined(), 60)
        with grpc.insecure_channel(self._target) as channel:
            return b"".join(piece.data for piece in ProbeServiceStub(channel).ExportProbe(request))

    def call(self, method: str, **fields: Any) -> Any:
        """Makes a call of one message: ListProbes, GetProbe or DeleteProbe."""
        request = getattr(pb, f"{method}Request")(model=self.model, **fields)
        return self._link.unary(f"ProbeService/{method}", request, timeout=60)

    def spec(self, probes: Sequence[str], **fields: Any) -> capture_pb.CaptureSpec:
        """Returns what a call asks."""
        return capture_pb.CaptureSpec(model=self.model, probes=probes, **fields)

    def run(self, inputs: Mapping[str, Array], *probes: str, **fields: Any) -> Answer:
        """Runs the model once."""
        (answer,) = _answers(self._link.capture(self.spec(probes, **fields), _sent(inputs), timeout=60))
        return answer

    def stream(
        self,
        batches: Sequence[Mapping[str, Array]],
        *probes: str,
        carry: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> list[Answer]:
        """Runs the model on batch after batch."""
        sent = iter([_sent(inputs) for inputs in batches])
        return list(_answers(self._link.stream(self.spec(probes, **fields), carry or {}, sent, timeout=60)))


def _sent(inputs: Mapping[str, Array]) -> list[SentValue]:
    return [SentValue(tensor_pb2.VALUE_ROLE_INPUT, name, value) for name, value in inputs.items()]


def _answers(events: Iterator[Event]) -> Iterator[Answer]:
    plan, values = capture_pb.CapturePlan(), {}
    for event in events:
        if isinstance(event, Planned):
            plan = event.plan
        elif isinstance(event, Arrived):
            values.setdefault(event.role, {})[event.name] = event.value
        elif isinstance(event, Completed | BatchCompleted):
            yield Answer(plan, values, event.fidelity)
            values = {}
