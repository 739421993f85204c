"""Fits a probe and finds out what its score is worth.

Everything is measured on whole rows that the probe never saw: the score with its interval, a baseline, the same probe
on the raw input, on the control task and on an architecture with shuffled weights, the online code and the learning
curve. Weights of rows count where a probe learns, and not where it is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Fitted, Labels, Learner, Metric, ProbeReport, ProbeSpec, Rows, Score, Task
from onnxscope_server.probes import codelength, control, kinds, notes, scoring, splits, targets
from onnxscope_server.probes.shared import Shared
from onnxscope_server.probes.splits import Split
from onnxscope_server.probes.targets import Targets
from onnxscope_server.probes.trials import Trials

TOKENS = "token ids"
INPUT_CLUSTERS = "k-means of the input"
ACTIVATION_CLUSTERS = "k-means of the activations"


def evaluate(
    spec: ProbeSpec,
    labels: Labels,
    rows: Rows,
    *,
    learner: Learner,
    raw: Rows | None,
    types: Array | None,
    shuffled: Rows | None,
    tell: Callable[[str], None],
    stopped: Callable[[], bool],
    shared: Shared | None = None,
) -> tuple[Fitted, ProbeReport]:
    """Fits a probe and evaluates it.

    Args:
        spec: what to fit.
        labels: of each example.
        rows: activations.
        learner: fits probes of the spec's kind, parameters and class weights.
        raw: the model's input, flattened [example, feature]; `rows` itself where they are all that is known, whose
            score then is the probe's own; None for no score on it, and no control task by clusters.
        types: int64 [example], the token that each is of; None for clusters of the raw input.
        shuffled: activations of the architecture with shuffled weights; None for no such control.
        tell: hears of a stage that begins: "fit", then "evaluate".
        stopped: whether to give up; looked at before each fit and each block of activations.
        shared: of evaluations that differ in nothing but `rows` and `shuffled`; None where there is no other.

    Returns:
        The probe, fitted on the training rows (over folds: on all rows), and the report.

    Raises:
        DataInvalidError: nothing can be learned from the rows and labels; the message says what to do.
        RunCancelledError: it was stopped.
    """
    found = targets.of(spec, labels, rows.shape[0])
    metrics = scoring.metrics(spec.kind, found.task, spec.metric)
    parts = splits.of(spec, found)
    for name, other in (("the raw input", raw), ("types", types), ("the shuffled architecture", shuffled)):
        if other is not None and other.shape[0] != rows.shape[0]:
            raise DataInvalidError(f"{name}: {other.shape[0]} examples, and there are activations of {rows.shape[0]}")
    trials = Trials(learner, found, stopped)
    tell("fit")
    probes = [trials.fit(rows, part.train) for part in parts]
    whole = np.arange(rows.shape[0])
    kept = trials.fit(rows, whole) if spec.fold_count else probes[0]
    tell("evaluate")
    pairs = list(zip(probes, parts, strict=True))
    folds = [trials.outcome(probe, rows, part.test) for probe, part in pairs]
    said = scoring.joined(folds)
    learned = scoring.joined([trials.outcome(probe, rows, part.train) for probe, part in pairs])
    texts = notes.of(kept, found, parts)
    scores = _scores(metrics, said, spec.seed, texts)
    controls = _Controls(spec, trials, parts, metrics[0], texts, shared or Shared())
    measured: dict[str, Any] = {}
    if shuffled is not None:
        measured["shuffled_score"] = controls.score_on("architecture with shuffled weights", shuffled)
    if spec.controls:
        measured |= controls.input_and_task(rows, raw, types)
        measured |= controls.code_and_curve(rows, scoring.scored(metrics[0], folds[0]))
    report = ProbeReport(
        scores,
        train_score=_defined(scoring.scored(metrics[0], learned), metrics[0], "training"),
        train_count=found.row_count(whole if spec.fold_count else parts[0].train),
        test_count=found.row_count(whole if spec.fold_count else parts[0].test),
        seed=spec.seed,
        baseline=_baseline(metrics[0], found, parts),
        confusion=scoring.confusion(said) if found.task == Task.CLASSES else (),
        fold_count=spec.fold_count,
        notes=tuple(texts),
        **measured,
    )
    return kept, report


def _scores(metrics: tuple[Metric, ...], said: scoring.Outcome, seed: int, texts: list[str]) -> tuple[Score, ...]:
    """Returns all scores that are defined, the report's own first."""
    found = []
    for metric in metrics:
        score = scoring.with_interval(metric, said, seed)
        if score is not None:
            found.append(score)
        elif metric == metrics[0]:
            _defined(None, metric, "held-out")
        else:
            texts.append(f"{metric} is not defined on the held-out rows: they hold a single class")
    return tuple(found)


def _defined(value: float | None, metric: Metric, where: str) -> float:
    if value is None:
        raise DataInvalidError(
            f"{metric} is not defined on the {where} rows, which hold a single class or do not vary: give more rows, "
            "or choose another metric"
        )
    return value


def _baseline(metric: Metric, found: Targets, parts: list[Split]) -> float | None:
    """Returns the score of always giving what most training examples have, or their mean."""
    if found.task == Task.UNSUPERVISED:
        return None
    outcomes = []
    for part in parts:
        train = found.truth[part.train]
        if found.task == Task.CLASSES:
            always = np.arange(len(found.classes)) == np.argmax(np.bincount(train, minlength=len(found.classes)))
        else:
            always = train.mean(axis=0)
            if found.task == Task.MULTILABEL:
                always = always > 0.5  # noqa: PLR2004 - most have it
        scores = np.tile(always.astype(np.float64), (len(part.test), 1))
        fold = np.zeros(len(part.test), dtype=np.int64)
        outcomes.append(scoring.Outcome(found.task, found.truth[part.test], scores, True, found.unit[part.test], fold))
    return scoring.scored(metric, scoring.joined(outcomes))


@dataclass(frozen=True, slots=True)
class _Controls:
    """Measures what the score is compared with. What can't be measured is left out, and `texts` says why."""

    spec: ProbeSpec
    trials: Trials
    parts: list[Split]
    metric: Metric
    texts: list[str]
    shared: Shared

    def score_on(self, name: str, rows: Rows) -> float | None:
        """Returns the score of the same probe on other rows of the same examples."""
        with self._noted(f"the score on the {name}"):
            pairs = [(self.trials.fit(rows, part.train), part.test) for part in self.parts]
            return scoring.scored(
                self.metric, scoring.joined([self.trials.outcome(probe, rows, test) for probe, test in pairs])
            )
        return None

    def input_and_task(self, rows: Rows, raw: Rows | None, types: Array | None) -> dict[str, Any]:
        """Measures the score on the raw input, and on the control task."""
        measured: dict[str, Any] = {}
        is_input = raw is not rows
        is_unsupervised = self.trials.targets.task == Task.UNSUPERVISED
        if raw is not None and (is_input or not is_unsupervised):
            small = control.reduced(raw, self.spec.seed)
            if small is not raw:
                self.texts.append(
                    f"the raw input has {raw.shape[1]} features: {small.shape[1]} random projections of it were used"
                )
            raw = small
            if is_input:
                measured["input_score"] = self._input_score(raw)
        if is_unsupervised:
            return measured
        if types is not None:
            of_types, called = _always(types), TOKENS
        elif raw is not None:
            of_types, called = self._clusters(raw), INPUT_CLUSTERS if is_input else ACTIVATION_CLUSTERS
        else:
            self.texts.append("there is no raw input, and therefore no control task")
            return measured
        with self._noted("the control task"):
            said = control.outcome(self.trials, rows, self.parts, of_types, self.spec.seed)
            measured |= {"control_score": scoring.scored(self.metric, said), "control_types": called}
        return measured

    def _input_score(self, raw: Rows) -> float | None:
        texts: list[str] = []
        alone = replace(self, texts=texts)
        score, said = self.shared.once("input", lambda: (alone.score_on("raw input", raw), texts))
        self.texts.extend(said)
        return score

    def _clusters(self, raw: Rows) -> control.Types:
        return lambda number: self.shared.once(
            ("types", number), lambda: control.clusters(raw, self.parts[number].train, self.spec.seed)
        )

    def code_and_curve(self, rows: Rows, last: float | None) -> dict[str, Any]:
        """Measures the online code and the learning curve, whose last point is that of all training rows."""
        part = self.parts[0]
        found = codelength.code(self.trials, rows, part, self.metric, self.spec.seed)
        if len(self.parts) > 1:
            self.texts.append("code length and learning curve are those of the first fold")
        if found.bits is not None and self.spec.kind not in kinds.PROBABILISTIC:
            self.texts.append(f"{self.spec.kind} has no probabilities: its scores were scaled into some for the code")
        whole = () if last is None else ((self.trials.targets.row_count(part.train), last),)
        return {
            "codelength_bits": found.bits,
            "compression": found.compression,
            "baseline_compression": found.baseline_compression,
            "learning_curve": found.curve + whole,
        }

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except DataInvalidError as error:
            self.texts.append(f"{what} was not measured: {error.message}")


def _always(types: Array) -> control.Types:
    return lambda _: types
