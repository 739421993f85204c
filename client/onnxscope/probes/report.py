"""What an honest evaluation found of a probe."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from onnxscope.probes import text
from onnxscope.v1 import probe_service_pb2 as pb

_LOWER_IS_BETTER = ("mae",)


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


class Score(NamedTuple):
    """One score on held-out rows, and its 95 % confidence interval."""

    metric: str
    value: float
    interval: Interval


class LearningPoint(NamedTuple):
    """The score on held-out rows of a probe that learned from some of the training rows."""

    row_count: int
    score: float


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What an honest evaluation found; what was not measured is None or empty.

    Attributes:
        metric: name of the score: accuracy, balanced_accuracy, macro_f1, roc_auc, r2, mae, explained_variance or
            silhouette.
        score: on held-out rows.
        interval: its 95 % confidence interval.
        baseline: the score of always giving the most frequent label, or the mean.
        train_score: on the rows that the probe was fitted on.
        input_score: of the same probe on the raw input.
        control_score: on the control task, random labels of types (Hewitt & Liang 2019).
        selectivity: `score - control_score`; of errors, of which less is better, `control_score - score`.
        codelength_bits: length of the training labels' online code (Voita & Titov 2020).
        compression: the uniform code's length over that.
        baseline_compression: what the frequencies of the labels alone reach: no more is nothing learned.
        shuffled_score: of the same probe on the same architecture with shuffled weights.
        n_train: rows that the probe was fitted on.
        n_test: rows held out; all of them where the score is cross-validated.
        seed: of everything random.
        scores: all scores that were measured, that of `metric` first.
        learning_curve: scores by rising numbers of training rows.
        confusion: `[true class][given class]`, counts of held-out examples, in the order of the classes.
        control_types: what the control task gives a random label.
        folds: of a cross-validated score; 0 where one part was held out.
        notes: what a reader must know.
    """

    metric: str
    score: float
    interval: Interval
    baseline: float | None
    train_score: float
    input_score: float | None
    control_score: float | None
    selectivity: float | None
    codelength_bits: float | None
    compression: float | None
    shuffled_score: float | None
    n_train: int
    n_test: int
    seed: int
    scores: tuple[Score, ...] = ()
    learning_curve: tuple[LearningPoint, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    control_types: str = ""
    folds: int = 0
    notes: tuple[str, ...] = ()
    baseline_compression: float | None = None

    @classmethod
    def of(cls, message: pb.ProbeReport) -> ProbeReport:
        """Returns the report of a message."""

        def known(field: Any) -> float | None:
            return getattr(message, field) if message.HasField(field) else None

        return cls(
            metric=message.metric,
            score=message.score,
            interval=Interval(message.interval_low, message.interval_high),
            baseline=known("baseline"),
            train_score=message.train_score,
            input_score=known("input_score"),
            control_score=known("control_score"),
            selectivity=known("selectivity"),
            codelength_bits=known("codelength_bits"),
            compression=known("compression"),
            shuffled_score=known("shuffled_score"),
            n_train=message.train_count,
            n_test=message.test_count,
            seed=message.seed,
            scores=tuple(Score(one.metric, one.value, Interval(one.low, one.high)) for one in message.scores),
            learning_curve=tuple(LearningPoint(one.row_count, one.score) for one in message.learning_curve),
            confusion=tuple(tuple(row.counts) for row in message.confusion),
            control_types=message.control_types,
            folds=message.fold_count,
            notes=tuple(message.notes),
            baseline_compression=known("baseline_compression"),
        )

    @property
    def gap(self) -> float:
        """How much better the probe does on the rows that it learned from; far above 0 it has them by heart."""
        return self.score - self.train_score if self.lower_is_better else self.train_score - self.score

    @property
    def lower_is_better(self) -> bool:
        """Whether a low score is a good one, as of an error."""
        return self.metric in _LOWER_IS_BETTER

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as plain Python values, fit for JSON: a score that is no number is None."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        whole: dict[str, Any] = _finite(
            plain
            | {
                "interval": self.interval._asdict(),
                "gap": self.gap,
                "scores": [one._asdict() | {"interval": one.interval._asdict()} for one in self.scores],
                "learning_curve": [point._asdict() for point in self.learning_curve],
                "confusion": [list(row) for row in self.confusion],
                "notes": list(self.notes),
            }
        )
        return whole

    def __str__(self) -> str:
        return "\n".join(text.report_lines(self))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
