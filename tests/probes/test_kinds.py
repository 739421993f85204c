"""Each kind learns what scikit-learn's estimator learns, and says it as its ONNX file must."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from onnxscope_server.errors import DataInvalidError
from onnxscope_server.probe_domain import ProbeKind, Task
from onnxscope_server.probes import kinds
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.predict import predictions

CLASSIFIERS = [one for one in ProbeKind if one not in {ProbeKind.PCA, ProbeKind.KMEANS, ProbeKind.ONNX}]
TRAIN, TEST = np.arange(300), np.arange(300, 500)


@pytest.fixture(scope="module")
def digits():
    """Images [example, pixel] and their digits."""
    images, y = load_digits(return_X_y=True)
    return (images[:500] / 16).astype(np.float32), y[:500]


def fitted(kind, task, activations, y, weights=None, class_weight=None, **params):
    """Fits a probe on all activations."""
    learner = kinds.learner(kind, task, params, class_weight, seed=0)
    examples = np.arange(len(activations))
    return learner.fit(in_memory(activations), examples, y, weights)


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("count", [2, 10])
@pytest.mark.parametrize("text", [False, True])
def test_classes_have_a_score_each_and_the_largest_is_the_label(digits, kind, count, text):
    """For every kind, labels are the caller's classes and each is the one with the largest score."""
    images, numbers = digits
    y = numbers % count
    y = np.array([f"class {one}" for one in y], dtype=object) if text else y
    params = {"max_iter": 50} if kind == ProbeKind.MLP else {}
    probe = fitted(kind, Task.CLASSES, images[TRAIN], y[TRAIN], **params)
    said = predictions(probe, images[TEST])
    assert said["scores"].shape == (len(TEST), count)
    assert said["scores"].dtype == np.float32
    assert said["labels"].tolist() == [probe.classes[one] for one in said["scores"].argmax(axis=1)]
    assert (said["labels"] == y[TEST]).mean() > (0.65 if count == 2 else 0.75)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_several_labels_may_be_the_same_on_every_row(digits, kind):
    """A label that never changes is said as it was, and the others are learned."""
    images, numbers = digits
    y = np.stack([numbers == 3, numbers > 4, numbers < 0, numbers >= 0], axis=1)
    params = {"max_iter": 100} if kind == ProbeKind.MLP else {}
    said = predictions(fitted(kind, Task.MULTILABEL, images[TRAIN], y[TRAIN], **params), images[TEST])
    assert said["labels"].dtype == bool
    assert said["scores"].shape == y[TEST].shape
    right = (said["labels"] == y[TEST]).mean(axis=0)
    assert right[0] > 0.9
    assert right[1] > 0.65
    assert right[2:].tolist() == [1, 1]


@pytest.mark.parametrize("kind", [ProbeKind.RIDGE, ProbeKind.KNN, ProbeKind.MLP])
@pytest.mark.parametrize("targets", [0, 1, 2])
def test_regression_learns_targets_of_any_scale(digits, kind, targets):
    """One target or two, in the tens of thousands, are learned to an R2 above .25 and have a score each."""
    images, numbers = digits
    y = numbers * 1e4 if targets == 0 else np.stack([numbers * 1e4, -numbers * 1e-4][:targets], axis=1)
    said = predictions(fitted(kind, Task.REGRESSION, images[TRAIN], y[TRAIN]), images[TEST])
    truth = y[TEST].reshape(len(TEST), -1)
    assert said["scores"].shape == truth.shape
    assert "labels" not in said
    residual = np.square(truth - said["scores"]).mean(axis=0) / truth.var(axis=0)
    assert (residual < 0.75).all()


def test_logistic_regression_is_scikit_learns(digits):
    """The default probe is StandardScaler and LogisticRegression(C=1)."""
    images, y = digits
    scaler = StandardScaler().fit(images[TRAIN].astype(np.float64))
    expected = LogisticRegression(max_iter=1000).fit(scaler.transform(images[TRAIN].astype(np.float64)), y[TRAIN])
    said = predictions(fitted(ProbeKind.LOGISTIC, Task.CLASSES, images[TRAIN], y[TRAIN]), images[TEST])
    probabilities = expected.predict_proba(scaler.transform(images[TEST].astype(np.float64)))
    np.testing.assert_allclose(said["scores"], probabilities, atol=1e-6)


@pytest.mark.parametrize("count", [2, 10])
def test_lda_in_closed_form_is_scikit_learns(digits, count):
    """Probabilities are those of LinearDiscriminantAnalysis, for two classes and for many."""
    images, numbers = digits
    y = numbers % count
    probe = fitted(ProbeKind.LDA, Task.CLASSES, images[TRAIN], y[TRAIN])
    scaled = probe.scaler.transform(images.astype(np.float64))
    expected = LinearDiscriminantAnalysis().fit(scaled[TRAIN], y[TRAIN]).predict_proba(scaled[TEST])
    np.testing.assert_allclose(predictions(probe, images[TEST])["scores"], expected, atol=1e-4)


@pytest.mark.parametrize(("kind", "params"), [(ProbeKind.MEAN_DIFFERENCE, {"covariance": True}), (ProbeKind.LDA, {})])
def test_a_feature_without_variance_inside_of_classes_is_used(kind, params):
    """A unit that holds the class itself, without noise, tells classes apart beside others that hold nothing."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 200)
    activations = np.concatenate([generator.normal(size=(200, 5)), y[:, None], np.zeros((200, 1))], axis=1)
    probe = fitted(kind, Task.CLASSES, activations.astype(np.float32), y, **params)
    assert (predictions(probe, activations)["labels"] == y).all()


@pytest.mark.parametrize("params", [{}, {"standardize": True}, {"covariance": True}])
def test_mass_mean_has_the_accuracy_of_its_closed_form(params):
    """Accuracy on normal classes is phi(d' mu / (2 sqrt(d' S d))), d = mu or S^-1 mu, within two standard errors."""
    generator = np.random.default_rng(1)
    size, count = 16, 20_000
    root = 0.15 * generator.normal(size=(size, size)) + np.diag(np.linspace(0.6, 1.8, size))
    mu = generator.normal(size=size) * 0.4
    y = generator.integers(0, 2, 2 * count)
    activations = (generator.normal(size=(2 * count, size)) @ root + np.outer(y - 0.5, mu)).astype(np.float32)
    covariance = root.T @ root
    if params.get("covariance"):
        direction = np.linalg.solve(covariance, mu)
    else:
        direction = mu / (np.diag(covariance) + mu**2 / 4) if params else mu
    expected = norm.cdf(direction @ mu / (2 * np.sqrt(direction @ covariance @ direction)))
    probe = fitted(ProbeKind("mass-mean"), Task.CLASSES, activations[:count], y[:count], **params)
    measured = (predictions(probe, activations[count:])["labels"] == y[count:]).mean()
    assert 0.6 < expected < 0.99
    assert abs(measured - expected) < 2 * np.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("kind", [one for one in CLASSIFIERS if one != ProbeKind.KNN])
def test_weights_count_as_copies(digits, kind):
    """A row of weight 2 counts as two, and one of weight 0 as none."""
    images, numbers = digits
    y = (numbers > 4).astype(np.int64)
    weights = np.tile([0.0, 1.0, 2.0], 100)
    params = {"max_iter": 30, "solver": "lbfgs"} if kind == ProbeKind.MLP else {}
    copies = np.repeat(TRAIN, weights.astype(np.int64))
    one = fitted(kind, Task.CLASSES, images[TRAIN], y[TRAIN], weights, **params)
    other = fitted(kind, Task.CLASSES, images[copies], y[copies], **params)
    said, expected = predictions(one, images[TEST]), predictions(other, images[TEST])
    assert (said["labels"] == expected["labels"]).mean() > 0.97


def test_balanced_classes_weigh_the_same(digits):
    """With class_weight a rare class is found more often; weights by class say the same as `balanced`."""
    images, numbers = digits
    y = np.where(numbers == 8, "eight", "other").astype(object)
    plain = fitted(ProbeKind.LOGISTIC, Task.CLASSES, images[TRAIN], y[TRAIN], C=0.001)
    balanced = fitted(ProbeKind.LOGISTIC, Task.CLASSES, images[TRAIN], y[TRAIN], class_weight="balanced", C=0.001)
    share = (y[TRAIN] == "eight").mean()
    by_class = {"eight": 0.5 / share, "other": 0.5 / (1 - share)}
    named = fitted(ProbeKind.LOGISTIC, Task.CLASSES, images[TRAIN], y[TRAIN], class_weight=by_class, C=0.001)
    found = [(predictions(one, images[TEST])["labels"] == "eight").sum() for one in (plain, balanced, named)]
    assert found[0] < found[1] == found[2]


def test_pca_and_k_means_need_no_labels(digits):
    """PCA gives components, k-means the nearest cluster and negative distances."""
    images, _ = digits
    components = predictions(fitted(ProbeKind.PCA, Task.UNSUPERVISED, images, None, n_components=4), images)
    assert components.keys() == {"scores"}
    assert components["scores"].shape == (500, 4)
    clusters = predictions(fitted(ProbeKind.KMEANS, Task.UNSUPERVISED, images, None, n_clusters=5), images)
    assert clusters["scores"].shape == (500, 5)
    assert clusters["labels"].tolist() == clusters["scores"].argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("kind", "task", "params", "class_weight", "says"),
    [
        (ProbeKind.LDA, Task.REGRESSION, {}, None, "ridge, knn, mlp"),
        (ProbeKind.PCA, Task.CLASSES, {}, None, "logistic"),
        (ProbeKind.ONNX, Task.CLASSES, {}, None, "load_probe"),
        (ProbeKind.LOGISTIC, Task.CLASSES, {"c": 1}, None, "C, "),
        (ProbeKind.MEAN_DIFFERENCE, Task.CLASSES, {"C": 1}, None, "standardize"),
        (ProbeKind.RIDGE, Task.REGRESSION, {}, "balanced", "class_weight"),
        (ProbeKind.RIDGE, Task.CLASSES, {}, "balance", "'balanced'"),
        (ProbeKind.SVM, Task.CLASSES, {"max_iter": 10**9}, None, "at most 100000"),
    ],
)
def test_what_a_kind_cannot_do_is_refused(kind, task, params, class_weight, says):
    """A task, a parameter or a class weight without meaning is an error that names what there is."""
    with pytest.raises(DataInvalidError, match=says):
        kinds.learner(kind, task, params, class_weight, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"C": -1.0}, "C"),
        ({"C": "much"}, "C"),
        ({"C": 10**400}, "too large"),
    ],
)
def test_parameters_out_of_range_are_said_in_scikit_learns_words(digits, change, says):
    """A parameter that scikit-learn refuses is the caller's error."""
    images, y = digits
    with pytest.raises(DataInvalidError, match=says):
        fitted(ProbeKind.LOGISTIC, Task.CLASSES, images, y, **change)


def test_activations_that_are_no_numbers_are_refused(digits):
    """NaN and infinity are named with the first example that has one."""
    images, y = digits
    for bad in (np.nan, np.inf):
        broken = images.copy()
        broken[7, 3] = bad
        with pytest.raises(DataInvalidError, match="example 7"):
            fitted(ProbeKind.LOGISTIC, Task.CLASSES, broken, y)


def test_a_covariance_that_would_fill_memory_is_refused():
    """A flattened feature map: the mean difference is learned, and what needs its covariance says what to do."""
    activations = np.zeros((8, 20_000), dtype=np.float32)
    activations[::2, 5] = 1
    y = np.arange(8) % 2
    assert (
        predictions(fitted(ProbeKind.MEAN_DIFFERENCE, Task.CLASSES, activations, y), activations)["labels"] == y
    ).all()
    with pytest.raises(DataInvalidError, match="reduction"):
        fitted(ProbeKind.LDA, Task.CLASSES, activations, y)


def test_arrays_are_rows_of_float32():
    """Activations of any rank and number type become [example, feature] of float32."""
    assert in_memory(np.zeros((3, 2, 4), dtype=np.float16)).shape == (3, 8)
    assert in_memory(np.zeros(3, dtype=np.int64)).shape == (3, 1)
    rows = in_memory(np.arange(6).reshape(3, 2))
    assert rows.take(np.array([2, 0])).tolist() == [[4, 5], [0, 1]]
    assert [len(one) for one in rows.blocks(np.arange(3), 2)] == [2, 1]
