"""Frozen values that the stages exchange about probes: what to fit, what was learned, how good it is.

An *example* is what a probe learns from: a row, or with the reduction `positions` one position of a row. Splits, folds
and intervals go by rows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from onnxscope_server.domain import Array, Reduction


class ProbeKind(enum.StrEnum):
    """What a probe is. Of some kinds there are other names, which mean the same."""

    LOGISTIC = "logistic"
    SVM = "svm"
    RIDGE = "ridge"
    MEAN_DIFFERENCE = "mean_difference"
    LDA = "lda"
    NEAREST_CENTROID = "nearest_centroid"
    KNN = "knn"
    MLP = "mlp"
    PCA = "pca"
    KMEANS = "kmeans"
    ONNX = "onnx"

    @property
    def is_unsupervised(self) -> bool:
        """Whether it learns without labels."""
        return self in (ProbeKind.PCA, ProbeKind.KMEANS)

    @classmethod
    def _missing_(cls, value: object) -> ProbeKind | None:
        name = str(value).lower().replace("-", "_")
        return {kind.value: kind for kind in cls}.get(_OTHER_NAMES.get(name, name))


_OTHER_NAMES = {
    "mass_mean": "mean_difference",
    "linear_svm": "svm",
    "centroid": "nearest_centroid",
    "k_means": "kmeans",
}


class Task(enum.StrEnum):
    """What labels are."""

    CLASSES = "classes"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"
    UNSUPERVISED = "unsupervised"


class Metric(enum.StrEnum):
    """Names of scores."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    MACRO_F1 = "macro_f1"
    ROC_AUC = "roc_auc"
    R2 = "r2"
    MAE = "mae"
    EXPLAINED_VARIANCE = "explained_variance"
    SILHOUETTE = "silhouette"


Class: TypeAlias = int | str


class Rows(Protocol):
    """Activations of many examples, in memory or on disk: float32 [example, feature]."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of examples and of features."""

    def take(self, examples: Array) -> Array:
        """Returns some examples [example, feature], in the order of their numbers `examples` int64 [example]."""

    def blocks(self, examples: Array, size: int) -> Iterator[Array]:
        """Yields the same in blocks of at most `size` examples."""
        for start in range(0, len(examples), size):
            yield self.take(examples[start : start + size])


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels and what belongs to them.

    Attributes:
        y: int64, object (text) [example], bool [example, label], or float64 [example] or [example, target]; None for
            unsupervised kinds.
        row: int64 [example]: the row that each example is of, 0 ...
        groups: [row]: rows of one group are never parted; None for a group each.
        weights: float64 [example]; None for 1.
        test: bool [row]: rows to hold out; None to draw them.
    """

    y: Array | None
    row: Array
    groups: Array | None = None
    weights: Array | None = None
    test: Array | None = None


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """What to fit, as it was said; see probe_service.proto. The seed is one that NumPy and scikit-learn take."""

    name: str
    kind: ProbeKind = ProbeKind.LOGISTIC
    model: str = ""
    version: str = ""
    selectors: tuple[str, ...] = ()
    reductions: tuple[tuple[str, Reduction], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    task: Task | None = None
    test_share: float = 0.3
    fold_count: int = 0
    metric: Metric | None = None
    class_weight: Mapping[Class, float] | str | None = None
    controls: bool = True
    shuffled_control: bool = False
    overwrite: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A probe as scikit-learn holds it.

    Attributes:
        kind: what it is.
        task: what its labels are.
        classes: in the order of its scores; of a multilabel probe the labels' numbers; empty for none.
        scaler: a fitted `sklearn.preprocessing.StandardScaler`; None for none.
        estimator: fitted on what the scaler gives; a `sklearn` estimator, whose attributes may have been set by hand.
        feature_count: of the activations.
    """

    kind: ProbeKind
    task: Task
    classes: tuple[Class, ...]
    scaler: Any
    estimator: Any
    feature_count: int


@dataclass(frozen=True, slots=True)
class Score:
    """One score on held-out rows with its 95 % confidence interval."""

    metric: Metric
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What an honest evaluation found; see probe_service.proto. What was not measured is None or empty."""

    scores: tuple[Score, ...]
    train_score: float
    train_count: int
    test_count: int
    seed: int
    baseline: float | None = None
    input_score: float | None = None
    control_score: float | None = None
    control_types: str = ""
    codelength_bits: float | None = None
    compression: float | None = None
    baseline_compression: float | None = None
    shuffled_score: float | None = None
    learning_curve: tuple[tuple[int, float], ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    fold_count: int = 0
    notes: tuple[str, ...] = ()

    @property
    def selectivity(self) -> float | None:
        """How much better the score is than the one on the control task (Hewitt & Liang 2019)."""
        if self.control_score is None:
            return None
        better = self.scores[0].value - self.control_score
        return -better if self.scores[0].metric == Metric.MAE else better


@dataclass(frozen=True, slots=True)
class ProbeInfo:
    """What is known of a probe; travels as JSON in the metadata of its ONNX file.

    Attributes:
        name: what callers say.
        model_digest: of the model that it reads.
        address: hook point that it reads.
        reduction: applied before it; None for none. What then has a rank above two is flattened behind the rows.
        kind: the estimator.
        task: what its labels are.
        classes: in the order of its scores.
        params: that it was fitted with.
        report: of its evaluation; None where it was not fitted here.
        fit_seconds: when it was fitted, since 1970; None where that is not known.
        row_axis: axis of the rows behind the reduction; it is put in front of the others, which are then flattened.
    """

    name: str
    model_digest: str
    address: str
    reduction: Reduction | None
    kind: ProbeKind
    task: Task
    classes: tuple[Class, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    report: ProbeReport | None = None
    fit_seconds: float | None = None
    row_axis: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class KeptProbe:
    """A probe of the catalog.

    Attributes:
        info: what is known of it.
        onnx: its file: one float input [example, feature] of any name, and any outputs; what was fitted here has
            `labels` [example] (int64 or text; bool [example, label]), and `scores` float32 [example, class], [example,
            target] or [example, component].
        digest: blake2b of the file, hexadecimal.
        outputs: names of its outputs.
    """

    info: ProbeInfo
    onnx: bytes
    digest: str
    outputs: tuple[str, ...]


# predictions of a probe's ONNX file on activations [example, feature]: outputs by name
Predictor: TypeAlias = Callable[[bytes, Array], Mapping[str, Array]]


class Learner(Protocol):
    """Fits probes of one kind, task and parameters; thread-safe."""

    def fit(self, rows: Rows, examples: Array, y: Array | None, weights: Array | None) -> Fitted:
        """Fits a probe.

        Args:
            rows: activations.
            examples: int64, those to learn from.
            y: labels of those, as `Labels.y`; None for unsupervised kinds.
            weights: float64, of those; None for 1.

        Raises:
            DataInvalidError: nothing can be learned from them.
        """
