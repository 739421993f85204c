"""`onnxscope probe` and `onnxscope sweep`, as users type them."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import onnxscope as client
from onnxscope.cli.app import app
from onnxscope.demo import data

ROWS = 300


def onnxscope(*arguments):
    """Runs the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def rows(tmp_path):
    """Writes an archive of digits with their labels; gives the path."""
    digits = data.load()
    np.savez(tmp_path / "digits.npz", image=digits.train_images[:ROWS], y=digits.train_labels[:ROWS])
    return tmp_path / "digits.npz"


def test_probe_prints_its_report_and_writes_its_file(digits_path, rows, tmp_path):
    """The same as in Python; the file is a probe that can be loaded again."""
    out = tmp_path / "digit.onnx"
    result = onnxscope("probe", digits_path, "--at", "relu5", "-i", rows, "-y", "y", "--kind", "lda", "--save", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("probe 'digit' at 'relu5': lda, 10 classes")
    for part in ("accuracy ", "95 % interval", "baseline ", "control task ", "selectivity ", "compression ", "true \\"):
        assert part in result.stdout
    assert f"Written: {out}" in result.stdout
    with client.local() as scope:
        model = scope.load(digits_path)
        probe = scope.load_probe(out, model)
        archive = np.load(rows)
        again = model.fit_probe("other", archive["image"], archive["y"], at="relu5", kind="lda")
        assert probe.report == again.report
        assert np.mean(probe.predict(archive["image"]) == archive["y"]) > 0.9


def test_probe_says_everything_in_json(digits_path, rows):
    """The whole report, and nothing but JSON on stdout."""
    options = ["--kind", "lda", "--no-controls", "--cv", 3, "--seed", 7, "--name", "mine", "--param", "solver=svd"]
    result = onnxscope("probe", digits_path, "--at", "relu5", "-i", rows, "-y", "y", *options, "--json")
    document = json.loads(result.stdout)
    assert (document["name"], document["at"], document["kind"]) == ("mine", "relu5", "lda")
    assert document["params"]["solver"] == "svd"
    report = document["report"]
    assert (report["folds"], report["seed"], report["control_score"]) == (3, 7, None)
    assert report["interval"]["low"] <= report["score"] <= report["interval"]["high"]
    assert len(report["confusion"]) == 10


def test_sweep_prints_a_table_and_writes_picture_and_csv(digits_path, rows, tmp_path):
    """In the order of depth, with the best hook point."""
    plot, table = tmp_path / "sweep.png", tmp_path / "sweep.csv"
    options = ["--kind", "mean_difference", "--plot", plot, "--csv", table]
    result = onnxscope("sweep", digits_path, "--at", "relu4", "--at", "relu5", "-i", rows, "-y", "y", *options)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["hook", "point", "operator"]
    assert [line.split()[0] for line in lines[1:3]] == ["relu4", "relu5"]
    assert "2 hook points, the best is relu" in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    with table.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["address"] for row in found] == ["relu4", "relu5"]
    assert float(found[0]["low"]) <= float(found[0]["score"]) <= float(found[0]["high"])


def test_sweep_runs_on_a_server_and_goes_on_there(digits_path, rows, server):
    """A second sweep of the name and the data has nothing left to do; JSON has every report."""
    base = ["sweep", digits_path, "--server", server, "--at", "relu4", "--at", "relu5", "-i", rows, "-y", "y"]
    options = ["--kind", "lda", "--no-controls", "--name", "from the command line", "--json"]
    first, second = (json.loads(onnxscope(*base, *options).stdout) for _ in range(2))
    assert (first["resumed_count"], second["resumed_count"]) == (0, 2)
    assert [probe["report"] for probe in first["probes"]] == [probe["report"] for probe in second["probes"]]
    assert first["best"] in ("relu4", "relu5")


def test_a_probe_that_exists_is_replaced_with_an_option(digits_path, rows, server):
    """The error names the option of the command line, not the argument of the client."""
    fit = ["probe", digits_path, "--server", server, "--at", "relu5", "-i", rows, "-y", "y", "--kind", "lda"]
    fit += ["--no-controls", "--name", "twice from the command line"]
    assert onnxscope(*fit).exit_code == 0
    assert "--overwrite" in onnxscope(*fit).stderr
    assert onnxscope(*fit, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe", "DIGITS", "--at", "relu5", "-i", "ROWS"], "say --labels y"),
        (["probe", "DIGITS", "--at", "relu55", "-i", "ROWS", "-y", "y"], "relu5"),
        (["probe", "DIGITS", "--at", "relu5", "-i", "ROWS", "-y", "z"], "'image', 'y'"),
        (["probe", "DIGITS", "--at", "relu5", "-y", "y"], "no such file"),
        (["probe", "DIGITS", "--at", "relu5", "-i", "ROWS", "-y", "y", "--param", "C"], "NAME=VALUE"),
        (["probe", "DIGITS", "--at", "relu5", "-i", "ROWS", "-y", "y", "--class-weight", "x"], "balanced"),
        (["probe", "DIGITS", "--at", "relu5", "-i", "ROWS", "-y", "y", "--save", "no/p.onnx"], "does not exist"),
        (["sweep", "DIGITS", "--at", "relu5", "-i", "ROWS", "-y", "y", "--plot", "p.gif"], ".png"),
        (["sweep", "DIGITS", "--at", "relu5", "-i", "ROWS", "-y", "y", "--kind", "forest"], "logistic"),
    ],
)
def test_errors_of_probes_are_short_and_say_what_to_do(digits_path, rows, arguments, message):
    """Exit code 1, nothing on stdout, no traceback."""
    given = {"DIGITS": digits_path, "ROWS": rows}
    result = onnxscope(*[given.get(argument, argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["probe", "m.onnx"],
        ["probe", "m.onnx", "--at", "h", "--shuffled", "--no-controls"],
        ["sweep", "m.onnx", "--at", "h", "--cv", "1"],
    ],
)
def test_misuse_of_probes_has_its_own_exit_code(arguments):
    """2, as everywhere."""
    assert onnxscope(*arguments).exit_code == 2
