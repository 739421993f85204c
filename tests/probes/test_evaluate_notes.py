"""What a report notes beside its figures: what they leave out, and what was made of the labels."""

import numpy as np
import pytest
from tests.probes.evaluated import evaluated, feature

from onnxscope_server.probe_domain import ProbeKind

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_a_class_without_held_out_rows_is_noted():
    """Scores are of the classes that are there, and a note names the one that is not."""
    y, held, _ = feature(60)
    y[:3] = 2
    test = np.arange(60) >= 40
    report = evaluated(held, y, test=test, raw=held)[1]
    assert any("to test on of class 2" in one for one in report.notes)
    assert np.shape(report.confusion) == (3, 3)
    learned = evaluated(held, y, test=np.arange(60) < 20)[1]
    assert any("to learn from of class 2" in one for one in learned.notes)
    assert np.isfinite([one.value for one in learned.scores]).all()


def test_what_cannot_be_measured_is_noted():
    """A raw input of NaN leaves out what needs it, and a note says why; without an input there is no control task."""
    y, held, _ = feature()
    report = evaluated(held, y, raw=np.full_like(held, np.nan))[1]
    assert (report.input_score, report.control_score, report.control_types) == (None, None, "")
    assert sum("was not measured" in one for one in report.notes) == 2
    assert any("no control task" in one for one in evaluated(held, y)[1].notes)


def test_few_held_out_rows_of_a_class_are_noted():
    """Five rows of one group are one; a class with enough of them is not named."""
    y, held, _ = feature(200)
    y[:20] = 2
    few = evaluated(held, y)[1]
    assert [one for one in few.notes if one.startswith("fewer than 10 rows (or groups) are held out of class 2:")]
    assert not [one for one in evaluated(held, feature(200)[0])[1].notes if "fewer" in one]
    grouped = evaluated(held, feature(200)[0], groups=np.arange(200) // 20)[1]
    assert [one for one in grouped.notes if "held out of class 0, 1:" in one]


def test_what_labels_were_taken_for_is_noted():
    """Several labels have an accuracy of all of them; integers are classes, where floats would be a regression."""
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    several = evaluated(features, features[:, :2] > 0)[1]
    assert [one for one in several.notes if one.startswith("accuracy counts rows on which every label is right")]
    counts = evaluated(features, np.arange(200) // 4, kind=ProbeKind.RIDGE, controls=False)[1]
    assert [one for one in counts.notes if one.endswith("so 50 classes: for a regression give floats")]
    assert not evaluated(features, np.arange(200) // 40, kind=ProbeKind.RIDGE, controls=False)[1].notes


def test_the_classes_of_a_confusion_matrix_are_said_where_they_are_not_the_probes():
    """A class that is only held out is a row of the matrix, before the classes that the probe knows."""
    y, held, _ = feature(60)
    y = np.array(["yes", "no"])[y]
    y[50:] = "may"
    probe, report = evaluated(held, y, test=np.arange(60) >= 40)
    assert probe.classes == ("no", "yes")
    assert report.confusion[0][0] == 0
    assert sum(report.confusion[0]) == 10
    assert "the probe knows 2 classes; those of the confusion matrix are may, no, yes" in report.notes


def test_a_fit_that_ended_early_says_what_may_help():
    """Standardisation is only said where the probe has none."""
    y, held, _ = feature(60)
    for standardize, help_text in ((True, "raise max_iter"), (False, "raise max_iter, or standardize")):
        params = {"max_iter": 2, "standardize": standardize}
        report = evaluated(held, y, kind=ProbeKind.MLP, params=params, controls=False)[1]
        assert f"the fit ended before it converged: {help_text}" in report.notes
