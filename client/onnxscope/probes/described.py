"""What a probe says of itself, the same for `client`, `aio` and probes on activations at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from onnxscope import reduce
from onnxscope.errors import InternalError, ReductionInvalidError, ValueInvalidError
from onnxscope.probes import text
from onnxscope.probes.report import ProbeReport
from onnxscope.probes.result import ProbeResult
from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1.assemble import Assembler
from onnxscope.v1.codec import Array, CodecError

# their scores are probabilities; those of the other kinds are decision values or distances
_PROBABILISTIC = ("logistic", "lda", "knn", "mlp")
_MAX_CLASSES = 6


class DescribedProbe:
    """A small model trained on activations, and the report of its evaluation.

    Args:
        message: the server's description.
    """

    def __init__(self, message: pb.Probe) -> None:
        self._message = message
        self._report = ProbeReport.of(message.report) if message.HasField("report") else None
        self._arrays: dict[str, Array] | None = _arrays(message) if message.arrays else None

    @property
    def name(self) -> str:
        """What callers say."""
        return self._message.name

    @property
    def at(self) -> str:
        """Address of the hook point that it reads; empty for activations at hand."""
        return self._message.address

    @property
    def kind(self) -> str:
        """The estimator: "logistic" say; "onnx" for a file of its owner's."""
        return self._message.kind

    @property
    def task(self) -> str:
        """What its labels are: classes, multilabel, regression or unsupervised; empty where that is not known."""
        name = pb.ProbeTask.Name(self._message.task).removeprefix("PROBE_TASK_").lower()
        return "" if name == "unspecified" else name

    @property
    def classes(self) -> tuple[int | str, ...]:
        """In the order of its scores; empty where there are none."""
        return class_names(self._message.classes)

    @property
    def report(self) -> ProbeReport | None:
        """What its evaluation found; None where it was not fitted by onnxscope."""
        return self._report

    @property
    def reduction(self) -> reduce.Reduction | None:
        """What makes the activation smaller before the probe reads it."""
        return reduce.from_message(self._message.reduction) if self._message.HasField("reduction") else None

    @property
    def model_digest(self) -> str:
        """SHA-256 of the model that it reads; empty for activations at hand."""
        return self._message.model_digest

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that it was fitted with."""
        found: dict[str, Any] = json.loads(self._message.params_json or "{}")
        return found

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what its graph gives."""
        return tuple(self._message.outputs)

    @property
    def byte_count(self) -> int:
        """Size of its file."""
        return self._message.byte_count

    @property
    def fit_time(self) -> datetime | None:
        """When it was fitted, UTC; None where that is not known."""
        return self._message.fit_time.ToDatetime(UTC) if self._message.HasField("fit_time") else None

    @property
    def coef_(self) -> Array:
        """Weights of a linear probe `[class, feature]`, one row for two classes; of PCA `[component, feature]`.

        They are in the space of the activations: standardisation is in them.

        Raises:
            ValueInvalidError: the probe is not linear.
        """
        return self._array("coef")

    @property
    def intercept_(self) -> Array:
        """What a linear probe adds, `[class]`, one entry for two classes; of PCA `[component]`. Errors as `coef_`."""
        return self._array("intercept")

    @property
    def arrays(self) -> dict[str, Array]:
        """`coef` and `intercept` of a linear probe, as far as they came with its description."""
        return dict(self._arrays or {})

    def to_dict(self) -> dict[str, Any]:
        """Returns all that is said of it as plain Python values, fit for JSON."""
        return {
            "name": self.name,
            "at": self.at,
            "kind": self.kind,
            "task": self.task,
            "classes": list(self.classes),
            "reduction": None if self.reduction is None else str(self.reduction),
            "params": self.params,
            "model_digest": self.model_digest,
            "outputs": list(self.outputs),
            "byte_count": self.byte_count,
            "fit_time": self.fit_time.isoformat() if self.fit_time else None,
            "report": self.report.to_dict() if self.report else None,
        }

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        where = f" at {self.at!r}" if self.at else ""
        reduced = f" ({self.reduction})" if self.reduction else ""
        yield f"probe {self.name!r}{where}{reduced}: {self.kind}, {self._labels_text()}"
        if self.report:
            yield from text.report_lines(self.report, self.classes)

    def _labels_text(self) -> str:
        if self.kind == "onnx" or not self.task:
            return f"gives {', '.join(self.outputs)}"
        if not self.classes:
            return self.task
        shown = ", ".join(str(name) for name in self.classes[:_MAX_CLASSES])
        more = ", ..." if len(self.classes) > _MAX_CLASSES else ""
        noun = "labels" if self.task == "multilabel" else "classes"
        return f"{len(self.classes)} {noun}: {shown}{more}"

    def _array(self, name: str) -> Array:
        arrays = self._arrays or {}
        if name not in arrays:
            raise ValueInvalidError(f"the probe {self.name!r} ({self.kind}) has no {name}_: it is not linear")
        return arrays[name]

    def _check_mask(self) -> None:
        """Makes sure that all that the probe reads is in the model.

        Raises:
            ReductionInvalidError: it was fitted with a mask that was an array, which a later run does not have.
        """
        if self._message.reduction.mask_value:
            raise ReductionInvalidError(
                f"the probe {self.name!r} was fitted with a mask that was an array, and is run without one: make the "
                "mask an input of the model and fit it with the name of that"
            )

    def _predicted(self, result: ProbeResult) -> Array:
        """Returns the labels of a result, or its values where the labels are numbers."""
        if result.labels is not None:
            return result.labels
        if self.task == "regression" and result.scores is not None:
            values = result.scores
            return values[:, 0] if values.ndim > 1 and values.shape[1] == 1 else values
        what = "transform(x) gives its components" if self.kind == "pca" else "run(x).outputs has what it gives"
        raise ValueInvalidError(f"the probe {self.name!r} ({self.kind}) gives no labels: {what}")

    def _probabilities(self, result: ProbeResult) -> Array:
        if self.task not in ("", "classes", "multilabel") or self.kind not in (*_PROBABILISTIC, "onnx"):
            raise ValueInvalidError(
                f"the scores of {self.kind} are no probabilities: decision_function(x) has them as they are; "
                f"probabilities come from {', '.join(_PROBABILISTIC)}"
            )
        return self._scores(result)

    def _components(self, result: ProbeResult) -> Array:
        if self.kind != "pca":
            raise ValueInvalidError(f"transform is what PCA does, and the probe {self.name!r} is {self.kind}")
        return self._scores(result)

    def _scores(self, result: ProbeResult) -> Array:
        if result.scores is None:
            listed = ", ".join(result.outputs)
            raise ValueInvalidError(f"the probe {self.name!r} gives no scores, it gives {listed}: run(x).outputs")
        return result.scores


def class_names(message: capture_pb.ProbeClasses) -> tuple[int | str, ...]:
    """Returns classes."""
    return tuple(message.texts) or tuple(message.integers)


def _arrays(message: pb.Probe) -> dict[str, Array]:
    assembler = Assembler()
    found: dict[str, Any] = {}
    try:
        for part in message.arrays:
            if (received := assembler.feed(part)) is not None:
                found[received.name] = received.value
    except CodecError as error:
        raise InternalError(f"the server sent arrays of a probe that cannot be read: {error}") from error
    return found
