"""What each verb asks of a server and how the answer is put together: shared by `client` and `aio`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope import decode, inputs, reduce, selectors
from onnxscope.encode import SentValue
from onnxscope.errors import InternalError, ProbeInvalidError, StreamCutError, ValueInvalidError
from onnxscope.interventions import refuse
from onnxscope.probes.described import DescribedProbe, class_names
from onnxscope.probes.result import ProbeResult
from onnxscope.receive import (
    Arrived,
    BatchCompleted,
    BatchStarted,
    Completed,
    Event,
    Planned,
    StreamCompleted,
)
from onnxscope.results import Activations, CapturePlan, Quantization
from onnxscope.rows import Piece
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1.codec import Array, Value
from onnxscope.v1.tensor_pb2 import (
    VALUE_ROLE_ACTIVATION,
    VALUE_ROLE_INPUT,
    VALUE_ROLE_MASK,
    VALUE_ROLE_OUTPUT,
    VALUE_ROLE_PROBE,
    VALUE_ROLE_SCALING,
)

_OUTPUTS = {
    True: pb.OUTPUT_MODE_UNMODIFIED,
    False: pb.OUTPUT_MODE_NONE,
    "instrumented": pb.OUTPUT_MODE_INSTRUMENTED,
}


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """What is asked of a model, checked as far as a client can.

    Attributes:
        model: that is asked.
        spec: the message.
        rules: selector and reduction, in the order in which they apply.
        masks: masks that travel with the inputs, by their name in the spec.
    """

    model: model_pb.Model
    spec: pb.CaptureSpec
    rules: tuple[tuple[str, reduce.Reduction], ...]
    masks: Mapping[str, Array]

    @classmethod
    def of(
        cls,
        model: model_pb.Model,
        at: Any = (),
        *,
        reduction: Any = None,
        interventions: Any = (),
        probes: Any = (),
        outputs: bool | str = True,
        exact: bool = False,
        expand: bool = False,
        dequantize: bool = False,
    ) -> Ask:
        """Reads the arguments of a verb.

        Raises:
            NotImplementedYet: they ask for what this version does not have.
            SelectorInvalidError: `at` is no selector and no list of them.
            ProbeInvalidError: a probe is of another model.
            ReductionInvalidError: a reduction does not exist.
            ValueInvalidError: `outputs` is none of its three values.
        """
        if interventions:
            refuse("interventions")
        if outputs not in _OUTPUTS:
            raise ValueInvalidError(f"outputs is True, 'instrumented' or False, not {outputs!r}")
        chosen = selectors.normalise(at)
        rules = tuple(reduce.rules(reduction, chosen))
        spec = pb.CaptureSpec(
            model=model.digest,
            selectors=chosen,
            outputs=_OUTPUTS[outputs],
            exact=exact,
            expand=expand,
            dequantize=dequantize,
            probes=probe_names(probes, model.digest),
        )
        messages, masks = reduction_rules(rules)
        spec.reductions.extend(messages)
        return cls(model, spec, rules, masks)

    def values(self, x: Any) -> list[SentValue]:
        """Returns the inputs of one run, with the masks.

        Raises:
            InputMismatchError: they are not what the model declares.
        """
        return self._sent(inputs.check(x, self.model), self.masks)

    def piece_values(self, piece: Piece) -> list[SentValue]:
        """Returns the inputs of one piece of a data set, with its rows of the masks.

        Raises:
            ReductionInvalidError: a mask has fewer rows than the data set.
        """
        return self._sent(piece.values, {name: piece.rows_of(mask) for name, mask in self.masks.items()})

    def _sent(self, values: Mapping[str, Value], masks: Mapping[str, Array]) -> list[SentValue]:
        sent = [SentValue(VALUE_ROLE_INPUT, name, value) for name, value in values.items()]
        return sent + [SentValue(VALUE_ROLE_MASK, name, mask) for name, mask in masks.items()]


def reduction_rules(
    rules: Sequence[tuple[str, reduce.Reduction]],
) -> tuple[list[pb.ReductionRule], dict[str, Array]]:
    """Returns the messages of rules, and the masks that travel beside them, by their name in the messages."""
    masks: dict[str, Array] = {}
    messages = []
    for selector, meant in rules:
        name = next((name for name, mask in masks.items() if mask is meant.mask), "")
        if isinstance(meant.mask, np.ndarray) and not name:
            name = f"mask_{len(masks)}"
            masks[name] = meant.mask
        messages.append(pb.ReductionRule(selector=selector, reduction=reduce.to_message(meant, name)))
    return messages, masks


def probe_names(probes: Any, digest: str) -> list[str]:
    """Returns the names of probes.

    Args:
        probes: a name or a probe, or a list of these.
        digest: of the model that they must be of.

    Raises:
        ProbeInvalidError: a probe is of another model, or of none.
        ValueInvalidError: it is neither a name nor a probe.
    """
    is_one = isinstance(probes, str | DescribedProbe) or not isinstance(probes, Iterable)
    given = [probes] if is_one else list(probes)
    for probe in given:
        if isinstance(probe, DescribedProbe) and probe.model_digest != digest:
            of = f"of the model {probe.model_digest[:12]}" if probe.model_digest else "of no model"
            raise ProbeInvalidError(
                f"the probe {probe.name!r} is {of}, and this is the model {digest[:12]}: "
                "bring it here with scope.load_probe(path, model, at=...)",
                {"probe": probe.name},
            )
        if not isinstance(probe, str | DescribedProbe) or not probe:
            raise ValueInvalidError(f"probes are names or probes of this model, not {probe!r}")
    return [probe if isinstance(probe, str) else probe.name for probe in given]


class Collected:
    """The values of one run, as they arrive."""

    def __init__(self, plan: pb.CapturePlan | None = None) -> None:
        self._plan = plan
        self._values: dict[int, dict[str, Value]] = {}
        self._end: Completed | BatchCompleted | None = None

    def take(self, event: Event) -> None:
        """Takes the next event."""
        match event:
            case Planned(plan):
                self._plan = plan
            case Arrived(role, name, value):
                self._values.setdefault(role, {})[name] = value
            case Completed() | BatchCompleted():
                self._end = event

    def activations(self) -> Activations:
        """Returns what arrived, in the order of the plan.

        Raises:
            StreamCutError: the run's end did not arrive.
            InternalError: a value that was planned did not arrive.
        """
        if self._end is None or self._plan is None:
            raise StreamCutError("the server's answer ended before it was complete; ask again")
        activations = self._values.get(VALUE_ROLE_ACTIVATION, {})
        outputs = self._values.get(VALUE_ROLE_OUTPUT, {})
        captured = [planned for planned in self._plan.values if not _is_output(planned)]
        for planned in captured:
            if planned.name not in activations:
                raise InternalError(f"the server planned {planned.name!r} and did not send it")
        names = [planned.name for planned in self._plan.values if _is_output(planned)]
        return Activations(
            {planned.name: activations[planned.name] for planned in captured},
            outputs={name: outputs[name] for name in names if name in outputs},
            fidelity=self._end.fidelity,
            timings=self._end.timings,
            quantization={p.name: self._quantization(p.quantization) for p in captured if p.HasField("quantization")},
            probes={planned.name: self._probe(planned) for planned in self._plan.probes},
        )

    def _probe(self, planned: pb.PlannedProbe) -> ProbeResult:
        found = probe_result(planned, self._values.get(VALUE_ROLE_PROBE, {}))
        if found is None:
            raise InternalError(f"the server planned the probe {planned.name!r} and did not send all of it")
        return found

    def _quantization(self, message: pb.Quantization) -> Quantization:
        scalings = self._values.get(VALUE_ROLE_SCALING, {})
        zero_point = scalings[message.zero_point] if message.HasField("zero_point") else None
        return Quantization(scalings[message.scale], zero_point, message.axis, message.block_size)


class Arriving:
    """The values of one run, one by one: a probe as soon as all that it gives is there."""

    def __init__(self) -> None:
        self._waiting: list[pb.PlannedProbe] = []
        self._values: dict[str, Value] = {}

    def take(self, event: Event) -> Iterator[tuple[str, Any]]:
        """Takes the next event; yields what it completes."""
        match event:
            case Planned(plan):
                self._waiting = list(plan.probes)
            case Arrived(role, name, value) if role == VALUE_ROLE_PROBE:
                self._values[name] = value
                yield from self._probes()
            case Arrived(role, name, value) if role != VALUE_ROLE_SCALING:
                yield name, value

    def _probes(self) -> Iterator[tuple[str, ProbeResult]]:
        for planned in list(self._waiting):
            if (found := probe_result(planned, self._values)) is not None:
                self._waiting.remove(planned)
                yield planned.name, found


class CollectedStream:
    """The results of a stream, batch by batch."""

    def __init__(self) -> None:
        self._plan: pb.CapturePlan | None = None
        self._batch = Collected()

    def take(self, event: Event) -> Activations | None:
        """Takes the next event; returns the batch that it completes."""
        match event:
            case Planned(plan):
                self._plan = plan
            case BatchStarted():
                self._batch = Collected(self._plan)
            case BatchCompleted():
                self._batch.take(event)
                return self._batch.activations()
            case Arrived():
                self._batch.take(event)
            case Completed() | StreamCompleted():
                pass
        return None


def probe_result(planned: pb.PlannedProbe, values: Mapping[str, Value]) -> ProbeResult | None:
    """Returns what a probe gave; None where a part of it has not arrived.

    Args:
        planned: the probe.
        values: outputs of probes, by the name under which they come.
    """
    if any(name not in values for name in planned.outputs.values()):
        return None
    outputs = {output: values[name] for output, name in sorted(planned.outputs.items())}
    return ProbeResult.of(outputs, class_names(planned.classes), planned.address, planned.kind)


def plan_request(ask: Ask, x: Any) -> pb.PlanCaptureRequest:
    """Returns the request of a plan.

    Args:
        ask: what would be captured.
        x: None, or inputs as of a capture; a tuple of sizes in place of an array does as well.

    Raises:
        InputMismatchError: they are not what the model declares.
    """
    if x is None:
        return pb.PlanCaptureRequest(spec=ask.spec)
    given = inputs.named(x, ask.model)
    shapes = {name: value for name, value in given.items() if is_shape(value)}
    lacking = [spec.name for spec in ask.model.inputs if spec.name not in given]
    arrays = {name: value for name, value in given.items() if name not in shapes}
    checked = inputs.check(arrays, ask.model, may_lack=[*shapes, *lacking])
    shapes |= {name: value.shape for name, value in checked.items() if isinstance(value, np.ndarray)}
    bound = [pb.InputShape(name=name, shape=shape) for name, shape in shapes.items()]
    return pb.PlanCaptureRequest(spec=ask.spec, input_shapes=bound)


def is_shape(value: Any) -> bool:
    """Says whether a value is a shape: a tuple of sizes."""
    return isinstance(value, tuple) and all(isinstance(size, int | np.integer) for size in value)


def planned(response: pb.PlanCaptureResponse) -> CapturePlan:
    """Returns the plan of an answer."""
    return decode.plan(response.plan)


def _is_output(planned: pb.PlannedValue) -> bool:
    return planned.role == VALUE_ROLE_OUTPUT
