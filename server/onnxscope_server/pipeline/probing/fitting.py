"""From what a probe learns from to the probe: fitted, judged, exported, and found to predict the same as ONNX."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from onnxscope_server.catalog.probe_entry import digest_of
from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError, RunCancelledError
from onnxscope_server.pipeline.probing.passing import DataSet
from onnxscope_server.pipeline.probing.places import Place
from onnxscope_server.probe_domain import KeptProbe, Predictor, ProbeInfo, ProbeSpec, Task
from onnxscope_server.probes import metadata

_CHECKED = 4096


@dataclass(frozen=True, slots=True)
class Subject:
    """What a probe is of.

    Attributes:
        name: to keep it under.
        model_digest: of its model; empty for none.
        place: the hook point.
    """

    name: str
    model_digest: str
    place: Place


class Fitting:
    """Fits probes; thread-safe.

    Args:
        predictor: runs ONNX files.
        memory_bytes: that a fit may take; what needs more is learned block by block.
    """

    def __init__(self, predictor: Predictor, memory_bytes: int) -> None:
        self._predictor = predictor
        self._memory_bytes = memory_bytes

    def fit(
        self,
        spec: ProbeSpec,
        subject: Subject,
        data_set: DataSet,
        tell: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> KeptProbe:
        """Fits a probe, judges it and exports it.

        Args:
            spec: what to fit.
            subject: what it is of.
            data_set: what to learn from.
            tell: is told of each stage: fit, evaluate, export.
            stopped: whether nobody wants it any more.

        Raises:
            DataInvalidError: nothing can be learned from these rows and labels.
            ValueInvalidError: the kind has no such parameter, or the metric does not fit the labels.
            ProbeUnfaithfulError: the export predicts otherwise.
            RunCancelledError: it was stopped.
        """
        # scikit-learn takes a second to import and 120 MB to hold, which a server that never fits need not spend
        from onnxscope_server.probes import batches, export, kinds, surroundings  # noqa: PLC0415  # see above
        from onnxscope_server.probes.evaluate import evaluate  # noqa: PLC0415  # see above

        task = spec.task or kinds.task_of(spec.kind, data_set.labels.y)
        rows = data_set.rows
        learner = batches.learner(
            spec.kind, task, spec.params, spec.class_weight, spec.seed, block_bytes=self._memory_bytes
        )
        with surroundings.of_fits():
            fitted, report = evaluate(
                spec,
                data_set.labels,
                rows,
                learner=learner,
                raw=data_set.raw if subject.model_digest else rows,
                types=data_set.types,
                shuffled=data_set.shuffled,
                tell=tell,
                stopped=stopped,
                shared=data_set.shared,
            )
        _check(stopped)
        tell("export")
        info = ProbeInfo(
            name=subject.name,
            model_digest=subject.model_digest,
            address=subject.place.address,
            reduction=subject.place.reduction,
            kind=spec.kind,
            task=fitted.task,
            classes=fitted.classes,
            params=spec.params,
            report=replace(report, notes=(*report.notes, *data_set.notes)),
            fit_seconds=time.time(),
            row_axis=subject.place.axis,
        )
        onnx = export.faithful(fitted, info, rows.take(_some(rows.shape[0], spec.seed)), self._predictor)
        _check(stopped)
        return KeptProbe(info, onnx, digest_of(onnx), metadata.outputs(onnx))


def _some(count: int, seed: int) -> Array:
    """Returns the numbers of the examples that an export is checked on."""
    if count <= _CHECKED:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, _CHECKED, replace=False))


def _check(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise RunCancelledError("the fit was ended")


def check(spec: ProbeSpec) -> None:
    """Checks that a kind has these parameters, whatever labels are, before anything is read.

    Raises:
        DataInvalidError: it has not.
    """
    from onnxscope_server.probes import kinds  # noqa: PLC0415  # as in Fitting.fit

    found = (Task.UNSUPERVISED,) if spec.kind.is_unsupervised else (Task.CLASSES, Task.REGRESSION)
    tasks = (spec.task,) if spec.task else found
    first: DataInvalidError | None = None
    for task in tasks:
        try:
            kinds.learner(spec.kind, task, spec.params, spec.class_weight, spec.seed)
        except DataInvalidError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first
