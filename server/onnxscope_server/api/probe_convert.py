"""onnxscope.v1 messages of probes <-> domain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from onnxscope.v1 import codec
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope.v1 import tensor_pb2 as tensor_pb
from onnxscope_server.api.convert import classes_to_pb, reduction_from_pb, reduction_to_pb
from onnxscope_server.domain import Array
from onnxscope_server.errors import ValueInvalidError
from onnxscope_server.probe_domain import Class, Metric, ProbeInfo, ProbeKind, ProbeReport, ProbeSpec, Task

_TASKS = {pb.ProbeTask.Value(f"PROBE_TASK_{task.name}"): task for task in Task}
_TASK_NUMBERS: dict[Task, Any] = {task: number for number, task in _TASKS.items()}
_TEST_SHARE = 0.3
_MAX_FOLDS = 1000
_MAX_SEED = (1 << 32) - 1  # of NumPy and scikit-learn
_MOST_ARRAY_BYTES = 2 << 20
_MOST_DIGITS = 20  # of an int64 or uint64, with its sign
T = TypeVar("T")


def spec_from_pb(spec: pb.ProbeSpec) -> ProbeSpec:
    """Returns what a request asks to fit.

    Raises:
        ValueInvalidError: a field has no meaning; the text says which and what it may be.
        ReductionInvalidError: a reduction is of no known kind.
    """
    test_share = spec.test_share if spec.HasField("test_share") else _TEST_SHARE
    if not 0 < test_share < 1:
        raise _invalid("test_share", f"must lie between 0 and 1, not be {test_share}")
    if spec.fold_count and not 1 < spec.fold_count <= _MAX_FOLDS:
        raise _invalid("fold_count", f"must be 0, or 2 to {_MAX_FOLDS}, not {spec.fold_count}")
    if not 0 <= spec.seed <= _MAX_SEED:
        raise _invalid("seed", f"must be a whole number from 0 to {_MAX_SEED}, not {spec.seed}")
    return ProbeSpec(
        name=spec.name,
        kind=_named(ProbeKind, spec.kind or ProbeKind.LOGISTIC, "kind"),
        model=spec.model,
        version=spec.version,
        selectors=tuple(spec.selectors),
        reductions=tuple((rule.selector, reduction_from_pb(rule.reduction)) for rule in spec.reductions),
        params=_object(spec.params_json, "params_json"),
        task=task_from_pb(spec.task),
        test_share=test_share,
        fold_count=spec.fold_count,
        metric=_named(Metric, spec.metric, "metric") if spec.metric else None,
        class_weight=_class_weight(spec.class_weight_json),
        controls=not spec.without_controls,
        shuffled_control=spec.shuffled_control,
        overwrite=spec.overwrite,
        seed=spec.seed,
    )


def task_from_pb(number: int) -> Task | None:
    """Returns a task; None where it is to be found from the labels.

    Raises:
        ValueInvalidError: the enum has no such value.
    """
    if number and number not in _TASKS:
        raise _invalid("task", f"= {number} is no value of the enum")
    return _TASKS.get(number)


def probe_to_pb(
    info: ProbeInfo, outputs: Sequence[str], byte_count: int, arrays: Mapping[str, Array] | None = None
) -> pb.Probe:
    """Returns the message of a probe.

    Args:
        info: what is known of it.
        outputs: of its graph.
        byte_count: of its file.
        arrays: of a linear probe, by name; None for none. Where they are too large for a message they are left out:
            the file has them.
    """
    if arrays and sum(array.nbytes for array in arrays.values()) > _MOST_ARRAY_BYTES:
        arrays = None
    probe = pb.Probe(
        name=info.name,
        model_digest=info.model_digest,
        address=info.address,
        reduction=None if info.reduction is None else reduction_to_pb(info.reduction),
        kind=info.kind.value,
        report=None if info.report is None else report_to_pb(info.report),
        task=pb.PROBE_TASK_UNSPECIFIED if info.kind is ProbeKind.ONNX else _TASK_NUMBERS[info.task],
        classes=classes_to_pb(info.classes),
        params_json=json.dumps(dict(info.params)),
        outputs=outputs,
        byte_count=byte_count,
        arrays=[part for name, array in (arrays or {}).items() for part in _array_to_pb(name, array)],
    )
    if info.fit_seconds is not None:
        fit_time = Timestamp()
        fit_time.FromNanoseconds(int(info.fit_seconds * 1e9))
        probe.fit_time.CopyFrom(fit_time)
    return probe


def report_to_pb(report: ProbeReport) -> pb.ProbeReport:
    """Returns the message of what an evaluation found."""
    first = report.scores[0]
    return pb.ProbeReport(
        metric=first.metric.value,
        score=first.value,
        interval_low=first.low,
        interval_high=first.high,
        baseline=report.baseline,
        train_score=report.train_score,
        train_count=report.train_count,
        test_count=report.test_count,
        seed=report.seed,
        input_score=report.input_score,
        control_score=report.control_score,
        selectivity=report.selectivity,
        codelength_bits=report.codelength_bits,
        compression=report.compression,
        baseline_compression=report.baseline_compression,
        shuffled_score=report.shuffled_score,
        scores=[
            pb.ProbeScore(metric=score.metric.value, value=score.value, low=score.low, high=score.high)
            for score in report.scores
        ],
        learning_curve=[pb.LearningPoint(row_count=count, score=score) for count, score in report.learning_curve],
        confusion=[pb.ConfusionRow(counts=row) for row in report.confusion],
        control_types=report.control_types,
        fold_count=report.fold_count,
        notes=report.notes,
    )


def _array_to_pb(name: str, array: Array) -> Iterator[tensor_pb.ValuePart]:
    for part in codec.parts(tensor_pb.VALUE_ROLE_PROBE, name, array):
        if part.header is None:
            yield tensor_pb.ValuePart(chunk=tensor_pb.ValueChunk(offset=part.offset, data=bytes(part.data)))
        else:
            header = part.header
            start = tensor_pb.ValueStart.FromString(header) if isinstance(header, bytes) else header
            start.data = bytes(part.data)
            yield tensor_pb.ValuePart(start=start)


def _named(kinds: type[T], name: str, field: str) -> T:
    try:
        return kinds(name)  # type: ignore[call-arg]
    except ValueError:
        known = ", ".join(str(kind) for kind in kinds if kind is not ProbeKind.ONNX)  # type: ignore[attr-defined]
        raise _invalid(field, f"{name!r} is unknown; use one of {known}") from None


def _object(text: str, field: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise _invalid(field, f"is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _invalid(field, 'must be a JSON object, like {"C": 0.1}')
    return found


def _class_weight(text: str) -> Mapping[Class, float] | str | None:
    """Reads weights of classes: JSON has texts for keys, of which whole numbers stand for integer classes too."""
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise _invalid("class_weight_json", f"is no JSON: {error}") from None
    if found in (None, "balanced"):
        return found
    if not isinstance(found, dict) or not all(type(weight) in (int, float) for weight in found.values()):
        raise _invalid("class_weight_json", 'must be "balanced" or an object from class to weight')
    try:
        return {_class(key): float(weight) for key, weight in found.items()}
    except OverflowError:
        raise _invalid("class_weight_json", "has a weight that is too large for a float") from None


def _class(key: str) -> Class:
    is_whole = len(key) <= _MOST_DIGITS and key.removeprefix("-").isdecimal()
    return int(key) if is_whole else key


def _invalid(field: str, why: str) -> ValueInvalidError:
    return ValueInvalidError(f"{field} {why}", value=field)
