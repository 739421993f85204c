"""The demo from end to end, on few rows; and what its command says."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from onnxscope.cli.app import app
from onnxscope.demo import data, report, study

ROWS = 120


@pytest.fixture(scope="module")
def told():
    """Collects what the progress function is told."""
    return []


@pytest.fixture(scope="module")
def found(told):
    """Runs the demo on the first rows of each split."""
    return study.run(lambda *step: told.append(step), row_limit=ROWS)


@pytest.fixture(scope="module")
def made(found):
    """Builds the page once."""
    return report.page(found)


@pytest.fixture
def ready(found, made, monkeypatch):
    """Lets the command find its work done."""
    monkeypatch.setattr(study, "run", lambda progress: found)
    monkeypatch.setattr(report, "page", lambda study: made)


def test_every_hidden_layer_is_measured_in_the_order_of_depth(found):
    """After the input; the output is no hidden layer."""
    addresses = [layer.address for layer in found.layers]
    assert addresses[:3] == ["image", "conv1", "relu1"]
    assert addresses[-1] == "relu5"
    assert len(found.hidden) == 13
    assert "logits" not in addresses


def test_numbers_are_what_they_say(found):
    """Intervals hold their scores, chance is that of the most frequent digit, dead units are a share."""
    digits = data.load()
    guess = np.bincount(digits.train_labels[:ROWS]).argmax()
    assert found.chance == (digits.test_labels[:ROWS] == guess).mean()
    assert found.model_accuracy > 0.95
    for layer in found.layers:
        report = layer.report
        assert report.interval.low < report.score < report.interval.high or report.score == 1.0
        assert report.score > 0.8
        assert (report.n_train, report.n_test) == (ROWS, ROWS)
        assert report.control_score < report.score
        assert report.compression > 1
        assert 1 < layer.effective_rank < 2 * ROWS
        assert 0 <= layer.dead < 1
        assert layer.projection.shape == (ROWS, 2)


def test_activations_are_the_models(found):
    """The ReLU of the convolution's map, for a held-out row of the digit that is shown."""
    layers = {layer.address: layer for layer in found.layers}
    np.testing.assert_array_equal(layers["relu1"].example, np.maximum(layers["conv1"].example, 0))
    digits = data.load()
    row = int((digits.test_labels == study.EXAMPLE_DIGIT).argmax())
    np.testing.assert_array_equal(layers["image"].example, digits.test_images[row])
    assert found.example_label == study.EXAMPLE_DIGIT


def test_filters_come_through_the_public_api(found):
    """The weight is a hook point like any other."""
    assert found.filters.shape == (16, 1, 3, 3)
    assert np.ptp(found.filters) > 0


def test_progress_goes_through_every_stage_to_its_end(told, found):
    """Streaming counts rows, fitting counts hook points."""
    ends = {description: (done, total) for description, done, total in told}
    assert ends == {"streaming hidden layers": (2 * ROWS, 2 * ROWS), "fitting probes": (14, 14)}


def test_the_report_is_one_page_with_every_picture(found, made):
    """Thirteen strips of maps, the input, the filters, two plots; nothing from elsewhere."""
    page = made.render()
    assert "http" not in page
    assert page.count("<img ") == 1 + 13 + 1
    assert page.count("<svg ") == 2
    assert page.count("<tr>") == 1 + 14
    assert found.digest in page
    assert "\N{MULTIPLICATION SIGN}" in page
    assert not re.search(r"\{[A-Z_]+\}", page.partition("</style>")[2])


def test_the_command_prints_the_table_and_writes_the_file(found, ready, tmp_path):
    """And says where it is; nothing else is left in the folder."""
    target = tmp_path / "r.html"
    result = CliRunner().invoke(app, ["demo", "--out", str(target)])
    assert result.exit_code == 0
    assert f"Report: {target}" in result.stdout
    assert all(header in result.stdout for header in report.HEADERS)
    assert all(layer.address in result.stdout for layer in found.layers)
    assert list(tmp_path.iterdir()) == [target]


def test_the_command_writes_json_alone(found, ready, tmp_path):
    """For pipes."""
    result = CliRunner().invoke(app, ["demo", "--json", "--out", str(tmp_path / "r.html")])
    document = json.loads(result.stdout)
    assert [layer["address"] for layer in document["layers"]] == [layer.address for layer in found.layers]
    assert document["digest"] == found.digest


def test_a_missing_folder_is_found_before_the_work(monkeypatch, tmp_path):
    """Not half a minute later."""
    monkeypatch.setattr(study, "run", lambda progress: pytest.fail("must not run"))
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "no" / "r.html")])
    assert result.exit_code == 1
    assert "does not exist" in result.stderr
