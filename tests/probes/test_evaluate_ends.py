"""What ends an evaluation without a report: a caller who cancels it, and what cannot be scored."""

import numpy as np
import pytest
from tests.probes.evaluated import evaluated, feature

from onnxscope_server.errors import DataInvalidError, RunCancelledError
from onnxscope_server.probe_domain import Labels, Metric, ProbeKind, ProbeSpec, Task
from onnxscope_server.probes import batches
from onnxscope_server.probes.array_rows import in_memory
from onnxscope_server.probes.evaluate import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_a_fit_is_cancelled_between_two_fits():
    """However often it was looked, the next look ends it; stages were told of until then."""
    y, held, noise = feature()
    looks, told = [], []

    def stopped():
        looks.append(1)
        return len(looks) > 5

    with pytest.raises(RunCancelledError):
        evaluated(held, y, raw=noise, stopped=stopped, told=told)
    assert len(looks) == 6
    assert told[0] == "fit"


def test_activations_that_are_no_numbers_are_refused_wherever_they_are():
    """NaN in a held-out row ends the evaluation as one in a training row does."""
    y, held, _ = feature()
    for place in (0, -1):
        broken = held.copy()
        broken[place, 2] = np.nan
        with pytest.raises(DataInvalidError, match="NaN"):
            evaluated(broken, y, test=np.arange(400) >= 300)


def test_an_undefined_score_is_refused_only_where_it_was_asked_for():
    """ROC AUC of held-out rows of one class: an error as the metric, a note beside accuracy."""
    y, held, _ = feature()
    order = np.argsort(y)
    test = np.isin(np.arange(400), order[:50])
    report = evaluated(held, y, test=test)[1]
    assert any(one.startswith("roc_auc") for one in report.notes)
    with pytest.raises(DataInvalidError, match="another metric"):
        evaluated(held, y, test=test, metric=Metric.ROC_AUC)


@pytest.mark.parametrize("block_bytes", [1 << 30, 1 << 12])
def test_a_network_that_would_learn_for_hours_ends_when_nobody_wants_it(block_bytes):
    """Between two epochs, of rows that are in memory and of those that come block by block."""
    looks = []

    def stopped():
        looks.append(len(looks))
        return len(looks) > 40

    generator = np.random.default_rng(0)
    activations, y = generator.normal(size=(200, 4)).astype(np.float32), np.arange(200) % 2
    params = {"max_iter": 100_000, "tol": 0, "n_iter_no_change": 100_000}
    learner = batches.learner(ProbeKind.MLP, Task.CLASSES, params, None, 0, block_bytes)
    with pytest.raises(RunCancelledError):
        evaluate(
            ProbeSpec("p", ProbeKind.MLP, params=params, controls=False),
            Labels(y, np.arange(200)),
            in_memory(activations),
            learner=learner,
            raw=None,
            types=None,
            shuffled=None,
            tell=lambda _: None,
            stopped=stopped,
        )
