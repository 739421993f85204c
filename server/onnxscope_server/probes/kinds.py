"""Kinds of probes, and how each learns from activations that are in memory.

scikit-learn does the learning, in float64, on what a `StandardScaler` of the same examples gives (`standardize=False`
leaves it out). Estimators know classes by their numbers 0 ...; `Fitted.classes` has the classes themselves. What an
estimator is:

- classes: the kind's own; `discriminants` says what those are that are set by hand.
- several labels: `RidgeClassifier`, `KNeighborsClassifier` and `MLPClassifier` learn all of them; of the others a
  `MultiOutputClassifier` has one estimator for two classes a label, and for a label that is the same on every example
  a `LogisticRegression` without coefficients.
- regression: `Ridge`, `KNeighborsRegressor`, `MLPRegressor` (which learns standardised targets; its last layer is then
  scaled back).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.validation import has_fit_parameter

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import Class, Fitted, ProbeKind, Rows, Task
from onnxscope_server.probes import discriminants, stopping

Make = Callable[[], Any]

_CLASSIFIERS: Mapping[ProbeKind, Make] = {
    ProbeKind.LOGISTIC: lambda: LogisticRegression(max_iter=1000),
    ProbeKind.SVM: lambda: LinearSVC(dual="auto", max_iter=5000),
    ProbeKind.RIDGE: RidgeClassifier,
    ProbeKind.LDA: LinearDiscriminantAnalysis,
    ProbeKind.NEAREST_CENTROID: NearestCentroid,
    ProbeKind.KNN: KNeighborsClassifier,
    ProbeKind.MLP: MLPClassifier,
}
_REGRESSORS: Mapping[ProbeKind, Make] = {
    ProbeKind.RIDGE: Ridge,
    ProbeKind.KNN: KNeighborsRegressor,
    ProbeKind.MLP: MLPRegressor,
}
_UNSUPERVISED: Mapping[ProbeKind, Make] = {ProbeKind.PCA: PCA, ProbeKind.KMEANS: lambda: KMeans(n_init="auto")}
_STANDARDIZE = "standardize"
_COVARIANCE = "covariance"
PROBABILISTIC = frozenset({ProbeKind.LOGISTIC, ProbeKind.LDA, ProbeKind.KNN, ProbeKind.MLP})  # scores are probabilities
BOTH = frozenset(_REGRESSORS) & frozenset(_CLASSIFIERS)  # kinds that learn classes and numbers
_OF_ALL_LABELS = (ProbeKind.RIDGE, ProbeKind.KNN, ProbeKind.MLP)
# what is said elsewhere (seed, class_weight) or is none of a caller's business
_NOT_PARAMS = frozenset({"random_state", "class_weight", "n_jobs", "verbose", "warm_start", "copy", "copy_X", "copy_x"})
PCA_COMPONENTS = 10
_MOST_ROUNDS = 100_000


def task_of(kind: ProbeKind, y: Array | None) -> Task:
    """Returns what labels `y` are, and thereby what a probe of a kind does.

    Raises:
        DataInvalidError: the kind learns nothing from such labels.
    """
    if kind.is_unsupervised:
        return Task.UNSUPERVISED
    if y is None:
        raise DataInvalidError(f"a probe of kind {kind} needs labels y; without labels choose pca or kmeans")
    supervised = Task.CLASSES if y.ndim == 1 else Task.MULTILABEL
    task = Task.REGRESSION if y.dtype.kind == "f" else supervised
    check(kind, task)
    return task


def check(kind: ProbeKind, task: Task) -> None:
    """Raises DataInvalidError where a kind can't do a task."""
    if kind == ProbeKind.ONNX:
        raise DataInvalidError("an ONNX file of your own is not fitted: attach it with load_probe")
    kinds = {
        Task.UNSUPERVISED: list(_UNSUPERVISED),
        Task.REGRESSION: list(_REGRESSORS),
    }.get(task, [*_CLASSIFIERS, ProbeKind.MEAN_DIFFERENCE])
    if kind not in kinds:
        hint = "; labels that are classes must be integers or text" if task == Task.REGRESSION else ""
        raise DataInvalidError(f"kind {kind} does no {task}: choose one of {', '.join(kinds)}{hint}")


def learner(
    kind: ProbeKind, task: Task, params: Mapping[str, Any], class_weight: Mapping[Class, float] | str | None, seed: int
) -> MemoryLearner:
    """Returns what fits probes of a kind on rows that fit into memory.

    Args:
        kind: what to fit.
        task: what labels are.
        params: by scikit-learn's names; and `standardize`, which is True unless said, but for mean_difference;
            mean_difference has `covariance`, which is False unless said.
        class_weight: "balanced" or by class; None for 1.
        seed: of everything random.

    Raises:
        DataInvalidError: the kind can't do the task, a parameter is unknown, or class_weight has no meaning.
    """
    check(kind, task)
    if kind == ProbeKind.MEAN_DIFFERENCE:
        names = {_COVARIANCE}
    else:
        names = set(_estimator(kind, task).get_params()) - _NOT_PARAMS
    unknown = sorted(set(params) - names - {_STANDARDIZE})
    if unknown:
        known = ", ".join(sorted({*names, _STANDARDIZE}))
        raise DataInvalidError(f"kind {kind} has no parameter {', '.join(unknown)}; it has {known}")
    rounds = params.get("max_iter")
    if isinstance(rounds, int | float) and rounds > _MOST_ROUNDS:
        raise DataInvalidError(f"max_iter is {rounds}: say at most {_MOST_ROUNDS}, for a fit has to end")
    if class_weight is not None:
        if task != Task.CLASSES:
            raise DataInvalidError(f"class_weight is for labels that are classes, not for {task}: leave it out")
        if isinstance(class_weight, str) and class_weight != "balanced":
            raise DataInvalidError(f"class_weight is {class_weight!r}: say 'balanced' or give a weight for each class")
    tidy = {name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}
    return MemoryLearner(kind, task, tidy, class_weight, seed)


def numbered(y: Array) -> tuple[tuple[Class, ...], Array]:
    """Returns the classes of labels [example], in order, and each example's class as its number there, int64."""
    classes, numbers = np.unique(y.astype(np.str_) if y.dtype.kind == "O" else y, return_inverse=True)
    as_class = str if classes.dtype.kind == "U" else int
    return tuple(as_class(one) for one in classes), numbers.astype(np.int64)


def class_weights(class_weight: Mapping[Class, float] | str, classes: tuple[Class, ...], numbers: Array) -> Array:
    """Returns the weight of each example, float64, by its class; classes that were not named weigh 1."""
    if isinstance(class_weight, str):
        counts = np.bincount(numbers, minlength=len(classes))
        return np.asarray((len(numbers) / (len(classes) * np.maximum(counts, 1)))[numbers])
    by_text = {str(one): float(weight) for one, weight in class_weight.items()}
    return np.array([by_text.get(str(one), 1.0) for one in classes])[numbers]


@dataclass(frozen=True, slots=True)
class MemoryLearner:
    """Fits probes on all examples at once; see `learner`."""

    kind: ProbeKind
    task: Task
    params: Mapping[str, Any]
    class_weight: Mapping[Class, float] | str | None
    seed: int

    def fit(self, rows: Rows, examples: Array, y: Array | None, weights: Array | None) -> Fitted:
        """Fits a probe; see `probe_domain.Learner`."""
        if weights is not None:  # what weighs nothing is not there: a class of it has no mean
            there = weights > 0
            examples, weights = examples[there], weights[there]
            y = None if y is None else y[there]
        if not len(examples):
            raise DataInvalidError("there is no row to learn from: give more rows, of a weight above 0")
        features = finite(rows.take(examples)).astype(np.float64)
        scaler = None
        if self.standardizes:
            scaler = StandardScaler().fit(features, sample_weight=weights)
            features = scaler.transform(features)
        classes, target, weights = self.targets(y, weights)
        try:
            estimator = self._estimator(features, target, weights)
        except (ValueError, TypeError, OverflowError) as error:  # scikit-learn's words for parameters out of range ...
            raise DataInvalidError(f"scikit-learn can't fit {self.kind}: {error}") from error
        return Fitted(self.kind, self.task, classes, scaler, estimator, rows.shape[1])

    @property
    def standardizes(self) -> bool:
        """Whether standardisation is part of the probe."""
        return bool(self.params.get(_STANDARDIZE, self.kind != ProbeKind.MEAN_DIFFERENCE))

    @property
    def has_covariance(self) -> bool:
        """Whether a mean-difference probe takes the covariance inside of classes into account."""
        return bool(self.params.get(_COVARIANCE, False))

    @property
    def is_closed(self) -> bool:
        """Whether the moments of classes are all that the probe needs."""
        return self.kind == ProbeKind.MEAN_DIFFERENCE or (
            self.kind == ProbeKind.LDA and not set(self.params) - {_STANDARDIZE}
        )

    def closed(self, given: discriminants.Moments) -> Any:
        """Returns the estimator that follows from the moments of classes."""
        return discriminants.lda(given) if self.kind == ProbeKind.LDA else discriminants.with_covariance(given)

    def targets(self, y: Array | None, weights: Array | None) -> tuple[tuple[Class, ...], Array | None, Array | None]:
        """Returns classes, labels as estimators know them (int64; of regression as they are), and weights by class too.

        Raises:
            DataInvalidError: labels are missing, or of a single class.
        """
        if self.task == Task.MULTILABEL:
            labels = given(y).astype(np.int64)
            return tuple(range(labels.shape[1])), labels, weights
        if self.task != Task.CLASSES:
            return (), y, weights
        classes, numbers = numbered(given(y))
        if len(classes) == 1:
            raise DataInvalidError(f"every label to learn from is {classes[0]!r}: give rows of two classes or more")
        if self.class_weight is not None:
            weights = (1.0 if weights is None else weights) * class_weights(self.class_weight, classes, numbers)
        return classes, numbers, weights

    def _estimator(self, features: Array, target: Array | None, weights: Array | None) -> Any:
        if self.task == Task.UNSUPERVISED:
            return self._fit_unsupervised(features, weights)
        if self.task == Task.REGRESSION:
            return self._fit_regressor(features, given(target), weights)
        if self.task == Task.CLASSES or self.kind in _OF_ALL_LABELS:
            return self._fit_classifier(features, given(target), weights)
        return several(
            constant(column, features.shape[1])
            if column.min() == column.max()
            else self._fit_classifier(features, column, weights)
            for column in given(target).T
        )

    def _fit_classifier(self, features: Array, target: Array, weights: Array | None) -> Any:
        if self.kind == ProbeKind.MEAN_DIFFERENCE and not self.has_covariance:
            means, _ = discriminants.centres(features, target, weights, int(target.max()) + 1)
            return discriminants.mean_difference(means)
        if self.is_closed:
            given = discriminants.moments(features, target, weights, int(target.max()) + 1)
            return self.closed(given)
        if self.kind == ProbeKind.NEAREST_CENTROID and not np.ptp(features, axis=0).any():
            # a layer that has lost everything is an answer too, which scikit-learn refuses to give
            return _same_centroids(self.made(len(features)), features[0], int(target.max()) + 1)
        if self.kind == ProbeKind.NEAREST_CENTROID and weights is not None:
            estimator = self.made(len(features)).fit(features, target)
            estimator.centroids_ = discriminants.moments(features, target, weights, int(target.max()) + 1).means
            return estimator
        return self._weighted(self.made(len(features)), features, target, weights)

    def _fit_regressor(self, features: Array, target: Array, weights: Array | None) -> Any:
        if self.kind != ProbeKind.MLP:
            return self._weighted(self.made(len(features)), features, target, weights)
        scaled, scaler = standardised_targets(target, weights)
        estimator = self._weighted(self.made(len(features)), features, scaled, weights)
        scale_back(estimator, scaler)
        return estimator

    def _fit_unsupervised(self, features: Array, weights: Array | None) -> Any:
        estimator = self.made(len(features))
        if self.kind == ProbeKind.PCA and "n_components" not in self.params:
            estimator.set_params(n_components=min(PCA_COMPONENTS, *features.shape))
        return self._weighted(estimator, features, None, weights)

    def made(self, example_count: int) -> Any:
        """Makes an estimator with the parameters that were given."""
        estimator = _estimator(self.kind, self.task)
        known = estimator.get_params()
        estimator.set_params(**{name: value for name, value in self.params.items() if name != _STANDARDIZE})
        if "random_state" in known:
            estimator.set_params(random_state=self.seed)
        if self.kind == ProbeKind.KNN:
            estimator.set_params(n_neighbors=min(estimator.get_params()["n_neighbors"], example_count))
        return estimator

    def _weighted(self, estimator: Any, features: Array, target: Array | None, weights: Array | None) -> Any:
        """Fits an estimator with weights, if there are any."""
        self.check_weights(estimator, weights)
        more = {} if weights is None else {"sample_weight": weights}
        if self.kind != ProbeKind.MLP:
            return estimator.fit(features, target, **more)
        with stopping.between_epochs(estimator):
            return estimator.fit(features, target, **more)

    def check_weights(self, estimator: Any, weights: Array | None) -> None:
        """Raises DataInvalidError where there are weights and the estimator knows none."""
        if weights is not None and not has_fit_parameter(estimator, "sample_weight"):
            raise DataInvalidError(f"kind {self.kind} knows no weights: leave out sample_weight and class_weight")


def _same_centroids(estimator: Any, centroid: Array, class_count: int) -> Any:
    """Fits a `NearestCentroid` to features that don't vary."""
    estimator.classes_, estimator.n_features_in_ = np.arange(class_count), len(centroid)
    estimator.centroids_ = np.tile(centroid, (class_count, 1))
    estimator.class_prior_ = np.full(class_count, 1 / class_count)
    estimator.within_class_std_dev_ = np.zeros(len(centroid))
    estimator.deviations_ = np.zeros((class_count, len(centroid)))
    return estimator


def finite(features: Array) -> Array:
    """Returns activations as they are.

    Raises:
        DataInvalidError: some are NaN or infinite.
    """
    if not np.isfinite(features).all():
        row = int(np.nonzero(~np.isfinite(features).all(axis=1))[0][0])
        raise DataInvalidError(
            f"activations hold NaN or infinity (first in example {row} of those looked at): choose another hook point, "
            "or leave those rows out"
        )
    return features


def several(estimators: Iterable[Any]) -> Any:
    """Returns estimators of two classes, one a label, as one of several labels."""
    one = MultiOutputClassifier(_estimator(ProbeKind.LOGISTIC, Task.CLASSES))
    one.estimators_ = list(estimators)
    one.classes_ = [estimator.classes_ for estimator in one.estimators_]
    return one


def standardised_targets(target: Array, weights: Array | None) -> tuple[Array, Any]:
    """Returns what an `MLPRegressor` learns in the place of targets [example, ...], and the `StandardScaler` of it."""
    columns = target.reshape(len(target), -1)
    scaler = StandardScaler().fit(columns, sample_weight=weights)
    scaled = scaler.transform(columns)
    return scaled[:, 0] if scaled.shape[1] == 1 else scaled, scaler


def scale_back(estimator: Any, scaler: Any) -> None:
    """Has the last layer of an `MLPRegressor` give what was learned as the targets were."""
    estimator.coefs_[-1] = estimator.coefs_[-1] * scaler.scale_
    estimator.intercepts_[-1] = estimator.intercepts_[-1] * scaler.scale_ + scaler.mean_


def given(y: Array | None) -> Array:
    """Returns labels; raises DataInvalidError where there are none."""
    if y is None:
        raise DataInvalidError("labels y are missing: give one for each row")
    return y


def _estimator(kind: ProbeKind, task: Task) -> Any:
    table = {Task.REGRESSION: _REGRESSORS, Task.UNSUPERVISED: _UNSUPERVISED}.get(task, _CLASSIFIERS)
    return table[kind]()


def constant(column: Array, feature_count: int) -> Any:
    """Returns what always says the label of `column` int64 [example], as surely as so many examples allow."""
    estimator = LogisticRegression()
    estimator.coef_ = np.zeros((1, feature_count))
    estimator.intercept_ = np.array([np.log(len(column) + 1.0) * (1 if column[0] else -1)])
    estimator.classes_ = np.arange(2)
    estimator.n_features_in_ = feature_count
    return estimator
