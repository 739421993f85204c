"""What a score is compared with: control tasks, the raw input, code lengths and baselines."""

import numpy as np
import pytest
from tests.probes.evaluated import evaluated, feature

from onnxscope_server.probe_domain import Metric, ProbeKind

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_tokens_learned_by_heart_are_not_selective():
    """One-hot activations of token ids: the probe scores on any labels of tokens, and selectivity says that it does."""
    generator = np.random.default_rng(0)
    types = generator.integers(0, 20, 600)
    of_type = generator.integers(0, 4, 20)
    report = evaluated(np.eye(20)[types], of_type[types], types=types)[1]
    assert report.scores[0].value == 1
    assert report.control_score == 1
    assert report.selectivity == 0
    assert report.control_types == "token ids"


@pytest.mark.parametrize("kind", [ProbeKind.RIDGE, ProbeKind.KNN])
def test_regression_has_no_code(kind):
    """R2 and MAE with intervals, the mean as a baseline, a control task of random numbers, and no code."""
    generator = np.random.default_rng(0)
    activations = generator.normal(size=(300, 4))
    y = activations @ np.array([1.0, 2, 0, 0]) + 0.1 * generator.normal(size=300)
    report = evaluated(activations, y, kind=kind, raw=activations)[1]
    assert [one.metric for one in report.scores] == [Metric.R2, Metric.MAE]
    assert report.scores[0].value > 0.8
    assert all(one.low <= one.value <= one.high for one in report.scores)
    assert report.baseline == pytest.approx(0, abs=0.1)
    assert report.control_score < 0.6
    assert (report.codelength_bits, report.compression, report.confusion) == (None, None, ())


def test_several_labels_are_coded_one_by_one():
    """A label that is held and one that is not: the code is about half the uniform one."""
    y, held, _ = feature(800)
    other = np.random.default_rng(5).integers(0, 2, 800)
    report = evaluated(held, np.stack([y, other], axis=1).astype(bool), raw=held)[1]
    assert report.scores[0].metric == Metric.ACCURACY
    assert 1.2 < report.compression < 2
    assert report.control_score is not None


def test_without_controls_the_score_stands_alone():
    """Neither control, code nor curve is measured."""
    y, held, noise = feature()
    report = evaluated(held, y, raw=noise, controls=False)[1]
    assert (report.input_score, report.control_score, report.compression, report.learning_curve) == (None,) * 3 + ((),)


def test_large_inputs_are_projected():
    """Of more features than fit a probe, random projections are used, and a note says so."""
    y, held, _ = feature(120)
    raw = np.repeat(held, 600, axis=1)
    report = evaluated(held, y, raw=raw)[1]
    assert report.input_score > 0.8
    assert any("4800 features" in one for one in report.notes)


@pytest.mark.parametrize("several", [False, True])
def test_the_code_by_frequencies_alone_is_what_nothing_learned_compresses_to(several):
    """Of rare labels it is far above 1, and no probe on noise gets there; of a dummy's probabilities it is the same."""
    random = np.random.default_rng(0)
    y = (random.random(2000) < 0.03).astype(np.int64)
    found = y[:, None].astype(bool) if several else y
    test = np.arange(2000) >= 1400
    report = evaluated(random.normal(size=(2000, 4)).astype(np.float32), found, test=test)[1]
    blind = evaluated(np.zeros((2000, 4), np.float32), found, test=test)[1]
    assert report.baseline_compression == blind.baseline_compression > 4
    assert report.compression < report.baseline_compression
    assert blind.compression == pytest.approx(blind.baseline_compression, rel=0.02)


def test_balanced_labels_are_not_compressed_by_their_frequencies():
    """The code by frequencies alone is as long as the uniform one."""
    report = evaluated(np.eye(4, dtype=np.float32)[np.arange(400) % 4], np.arange(400) % 4)[1]
    assert report.baseline_compression == pytest.approx(1, abs=0.1)


def test_selectivity_of_an_error_is_how_much_less_it_is():
    """What is better than the control task is above 0, whether much or little of the metric is good."""
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    for metric in (Metric.R2, Metric.MAE):
        report = evaluated(features, features[:, 0].astype(float), kind=ProbeKind.RIDGE, raw=features, metric=metric)[1]
        assert report.selectivity == pytest.approx(abs(report.scores[0].value - report.control_score))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_inputs_whose_squares_float32_cannot_hold_have_a_control_task():
    """Types are clusters at any scale."""
    y, held, _ = feature(200)
    large, small = (evaluated(held, y, raw=(held * scale).astype(np.float32))[1] for scale in (1e30, 1.0))
    assert large.control_score == pytest.approx(small.control_score, abs=0.15)
