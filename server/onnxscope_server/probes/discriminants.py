"""Linear probes in closed form, from the classes' means and their shared covariance.

The same sums give the same probe, whether they come from an array or from a stream: moments -> means, covariance,
shares -> estimator whose `coef_` and `intercept_` are set. With two classes and the means m0, m1 the direction is
S^-1 (m1 - m0) and the threshold lies midway between the means; with more of them each class has the score
m' S^-1 x - m' S^-1 m / 2, so that two classes compare as they would on their own. The mean difference takes
S = 1 or, where that is asked, the covariance inside of classes (the mass-mean probe of Marks & Tegmark 2023, and its
form for independent examples), and `lda` adds the logarithm of the class's share to the latter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.svm import LinearSVC

from onnxscope_server.domain import Array
from onnxscope_server.errors import DataInvalidError

# variances below this share of the largest count as that share: what tells classes apart perfectly does not vary
# inside of them, and must not be dropped as a pseudo-inverse would
VARIANCE_FLOOR = 1e-6
MAX_FEATURES = 16_384  # of which a covariance takes 2 GiB


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What of examples the closed forms need.

    Attributes:
        means: float64 [class, feature].
        covariance: float64 [feature, feature]: the weighted mean of what classes have around their means.
        shares: float64 [class]: of the weight of all examples.
    """

    means: Array
    covariance: Array
    shares: Array


def centres(features: Array, numbers: Array, weights: Array | None, class_count: int) -> tuple[Array, Array]:
    """Returns the means [class, feature] and the weights [class] of classes that examples have by number."""
    weight = np.ones(len(features)) if weights is None else weights
    share = sparse.csr_array((weight, (numbers, np.arange(len(features)))), shape=(class_count, len(features)))
    totals = np.asarray(share.sum(axis=1))
    return np.asarray(share @ features / totals[:, None]), totals


def moments(features: Array, numbers: Array, weights: Array | None, class_count: int) -> Moments:
    """Returns the moments of `features` [example, feature] whose classes have the `numbers` int64 [example].

    Raises:
        DataInvalidError: there are too many features for a covariance.
    """
    if features.shape[1] > MAX_FEATURES:
        raise DataInvalidError(
            f"{features.shape[1]} features are too many for a covariance (the most is {MAX_FEATURES}): choose a "
            "reduction such as spatial_mean, or kind mean_difference or logistic"
        )
    means, totals = centres(features, numbers, weights, class_count)
    within = features - means[numbers]
    weighted = within if weights is None else within * weights[:, None]
    return Moments(means, weighted.T @ within / totals.sum(), totals / totals.sum())


def inverse(covariance: Array) -> Array:
    """Returns the inverse of a covariance [feature, feature] whose small eigenvalues are raised to the floor."""
    values, vectors = np.linalg.eigh(covariance)
    largest = float(values[-1])
    raised = np.maximum(values, VARIANCE_FLOOR * largest) if largest > 0 else np.ones_like(values)
    return np.asarray((vectors / raised) @ vectors.T)


def mean_difference(means: Array) -> Any:
    """Returns a mean-difference probe without covariance, as an estimator with `coef_`, from means [class, feature]."""
    return _linear(LinearSVC(), means, means, np.zeros(len(means)))


def with_covariance(given: Moments) -> Any:
    """Returns a mean-difference probe with covariance."""
    return _linear(LinearSVC(), given.means, given.means @ inverse(given.covariance), np.zeros(len(given.means)))


def lda(given: Moments) -> Any:
    """Returns linear discriminant analysis, whose probabilities are those of scikit-learn's."""
    estimator = LinearDiscriminantAnalysis()
    estimator.means_, estimator.priors_ = given.means, given.shares
    return _linear(estimator, given.means, given.means @ inverse(given.covariance), np.log(given.shares))


def _linear(estimator: Any, means: Array, directions: Array, offsets: Array) -> Any:
    """Sets what a linear classifier of scikit-learn has once it is fitted."""
    intercept = offsets - 0.5 * np.einsum("cf,cf->c", means, directions)
    two = len(means) == 2  # noqa: PLR2004 - scikit-learn keeps one row for two classes
    estimator.coef_ = directions[1:] - directions[:1] if two else directions
    estimator.intercept_ = intercept[1:] - intercept[:1] if two else intercept
    estimator.classes_ = np.arange(len(means))
    estimator.n_features_in_ = means.shape[1]
    return estimator
