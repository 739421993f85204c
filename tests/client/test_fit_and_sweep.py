"""Fits and sweeps over gRPC, against a server that makes its reports up."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import numpy as np
import pytest
from tests.client.fake_probes import DIGEST, ROWS, Y, probe

import onnxscope
from onnxscope.probes.described import DescribedProbe
from onnxscope.probes.sweep import Sweep
from onnxscope.v1 import model_service_pb2 as model_pb
from onnxscope.v1 import probe_service_pb2 as pb


def test_fit_probe_sends_rows_with_labels_and_gives_the_probe(fake, echo):
    """Batches have what belongs to their rows; the spec what was asked."""
    found = echo.fit_probe(
        "parity",
        ROWS,
        Y,
        at="h1",
        kind="ridge",
        params={"alpha": np.float32(0.5)},
        groups=list("aabbccddee"),
        sample_weight=np.ones(10),
        test=[8, 9],
        class_weight={True: 2.0},
        metric="macro_f1",
        controls=False,
        overwrite=True,
        seed=3,
        batch_size=4,
        reduce="flatten",
    )
    (spec,) = fake.probes.specs
    assert (spec.name, spec.model, list(spec.selectors), spec.kind) == ("parity", DIGEST, ["h1"], "ridge")
    assert (spec.metric, spec.seed, spec.overwrite, spec.without_controls) == ("macro_f1", 3, True, True)
    assert json.loads(spec.params_json) == {"alpha": 0.5}
    assert json.loads(spec.class_weight_json) == {"1": 2.0}
    assert spec.reductions[0].selector == "*"
    assert [len(batch["x"]) for batch in fake.probes.batches] == [4, 4, 2]
    joined = {name: np.concatenate([b[name] for b in fake.probes.batches]) for name in fake.probes.batches[0]}
    np.testing.assert_array_equal(joined["x"], ROWS)
    np.testing.assert_array_equal(joined["labels"], Y)
    np.testing.assert_array_equal(joined["groups"], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    np.testing.assert_array_equal(joined["weights"], np.ones(10))
    np.testing.assert_array_equal(joined["test"], [False] * 8 + [True] * 2)
    assert isinstance(found, onnxscope.Probe)
    assert (found.name, found.at, found.kind, found.classes) == ("parity", "h1", "ridge", (0, 1))
    np.testing.assert_array_equal(found.coef_, [[1, 2, 3]])
    np.testing.assert_array_equal(found.intercept_, [0.5])


def test_a_report_has_the_contracts_names(echo):
    """All numbers, the interval by name, and a dict that is JSON."""
    report = echo.fit_probe("p", ROWS, Y, at="h1").report
    assert (report.metric, report.score, report.baseline, report.train_score) == ("accuracy", 0.98, 0.1, 1.0)
    assert (report.interval.low, report.interval.high) == (0.966, 0.991)
    assert (report.control_score, report.selectivity, report.input_score) == (0.326, 0.654, 0.972)
    assert (report.codelength_bits, report.compression, report.shuffled_score) == (277.4, 15.1, None)
    assert report.baseline_compression == 0.99
    assert (report.n_train, report.n_test, report.seed) == (1257, 540, 3)
    assert report.confusion == ((50, 1), (2, 47))
    assert report.gap == pytest.approx(0.02)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["interval"] == {"low": 0.966, "high": 0.991}
    assert plain["learning_curve"][0] == {"row_count": 100, "score": 0.9}
    assert plain["scores"][1]["metric"] == "macro_f1"


def test_a_printed_probe_is_its_report(echo):
    """Score with interval, baseline, input, control, selectivity, code length, gap, curve, confusion, notes."""
    text = repr(echo.fit_probe("parity", ROWS, Y, at="h1"))
    assert text.startswith("probe 'parity' at 'h1': logistic, 2 classes: 0, 1\naccuracy ")
    for part in (
        "0.980  95 % interval 0.966 to 0.991; 540 rows held out, 1257 to learn from, seed 3",
        "0.100  always the most frequent label",
        "0.972  the same probe on the model's input",
        "0.326  a random label for each type of input, types are k-means of the input",
        "0.654  accuracy less",
        "277  bits",
        "15.10  times shorter than a uniform code; 0.99 comes of the labels' frequencies alone",
        "gap 0.020",
        "learned from      100   1257",
        "gives accuracy  0.900  0.980",
        "macro_f1 0.979",
        "note: measured on a part of the rows",
    ):
        assert part in text, part
    assert re.search(r"true \\ given +0 +1\n.*\n0 +50 +1\n1 +2 +47", text)


def test_labels_of_every_kind_travel_in_their_type(fake, echo):
    """Bools, text, numbers, several a row, and one for each position."""
    several = np.stack([Y, 1 - Y], axis=1)
    positions = np.where(np.arange(30).reshape(10, 3) % 4, 1, -100)
    for y, reduce, expected in (
        (Y.astype(bool), None, np.bool_),
        ([f"class {label}" for label in Y], None, object),
        (Y.astype(np.uint8), None, np.int64),
        (Y / 2, None, np.float64),
        (several, None, np.bool_),
        (ROWS, None, np.float64),
        (positions, "positions", np.int64),
    ):
        fake.probes.batches.clear()
        echo.fit_probe("p", ROWS, y, at="h1", reduce=reduce, batch_size=10)
        sent = fake.probes.batches[0]["labels"]
        assert sent.dtype == expected
        np.testing.assert_array_equal(sent, np.asarray(y, object) if expected is object else y)


def test_batches_may_come_with_their_labels(fake, echo):
    """A generator of pairs, a list of pairs, and batches beside whole labels give the same."""
    pairs = [(ROWS[:4], Y[:4]), (ROWS[4:], Y[4:])]
    for data, y in ((iter(pairs), None), (pairs, None), ([x for x, _ in pairs], Y), ((x for x, _ in pairs), Y)):
        fake.probes.batches.clear()
        echo.fit_probe("p", data, y, at="h1")
        assert [len(batch["x"]) for batch in fake.probes.batches] == [4, 6]
        np.testing.assert_array_equal(np.concatenate([b["labels"] for b in fake.probes.batches]), Y)


def test_a_test_set_of_its_own_is_appended_and_marked(fake, echo):
    """Its rows are held out, weigh one, and belong to no group of the others."""
    echo.fit_probe(
        "p", ROWS, Y, at="h1", test=(ROWS[:3], Y[:3]), groups=Y, sample_weight=np.full(10, 2.0), batch_size=32
    )
    train, held_out = fake.probes.batches
    assert not train["test"].any()
    assert held_out["test"].all()
    np.testing.assert_array_equal(held_out["labels"], Y[:3])
    np.testing.assert_array_equal(held_out["groups"], [2, 3, 4])
    np.testing.assert_array_equal(held_out["weights"], np.ones(3))


def test_a_fixed_batch_is_filled_and_its_filling_has_no_labels(fake, scope, make_model, make_spec):
    """Four rows run, three have labels; without labels the rows are counted by groups."""
    fake.models["fixed"] = make_model(make_spec("x", shape=(4, 3)), name="fixed")
    model = scope.load("fixed")
    model.fit_probe("p", ROWS[:7], Y[:7], at="h1")
    assert [(len(b["x"]), len(b["labels"])) for b in fake.probes.batches] == [(4, 4), (4, 3)]
    fake.probes.batches.clear()
    model.fit_probe("p", (rows for rows in (ROWS[:4], ROWS[4:7])), None, at="h1", kind="pca")
    assert [(len(b["x"]), b["groups"].tolist()) for b in fake.probes.batches] == [(4, [0, 1, 2, 3]), (4, [4, 5, 6])]


@pytest.mark.parametrize(
    ("data", "y", "options", "error", "match"),
    [
        (ROWS, Y[:9], {}, "DataInvalidError", r"y has 9 rows, and the data set 10"),
        (ROWS, Y, {"groups": [1]}, "DataInvalidError", r"groups has 1 rows"),
        (ROWS, Y, {"test": Y[:4] > 0}, "DataInvalidError", r"test has 4 rows"),
        (ROWS, Y, {"test": [10]}, "DataInvalidError", r"test names row 10, of 10 rows"),
        (ROWS, Y, {"test": (ROWS[:2], Y[:3])}, "DataInvalidError", r"y has 3 rows, and the data set 2"),
        (ROWS, Y, {"sample_weight": -np.ones(10)}, "DataInvalidError", r"sample_weight holds a negative"),
        (ROWS, None, {}, "DataInvalidError", r"labels are missing"),
        (ROWS, Y, {"kind": "pca"}, "DataInvalidError", r"leave y out"),
        (ROWS, np.full((10, 3), 7), {}, "DataInvalidError", r"need reduce='positions'"),
        (ROWS, np.full(10, np.nan), {}, "DataInvalidError", r"NaN"),
        (ROWS, ["a"] * 9 + [None], {}, "DataInvalidError", r"None \(NoneType\) beside text"),
        ([(ROWS, Y[:2])], None, {}, "DataInvalidError", r"y has|10 rows and 2 labels"),
        (iter([ROWS]), None, {}, "DataInvalidError", r"gives ndarray: give y, or pairs"),
        (ROWS, Y, {"cv": 1}, "ValueInvalidError", r"number of folds from 2"),
        (ROWS, Y, {"cv": 5, "test": [1]}, "ValueInvalidError", r"give one of them"),
        (ROWS, Y, {"test_size": 30}, "ValueInvalidError", r"between 0 and 1"),
        (ROWS, Y, {"controls": "all"}, "ValueInvalidError", r"'shuffled'"),
        (ROWS, Y, {"class_weight": "even"}, "ValueInvalidError", r"'balanced' or a dict"),
        (ROWS, Y, {"params": {"C": object()}}, "ValueInvalidError", r"params must be plain"),
        (ROWS, Y, {"params": ["C"]}, "ValueInvalidError", r"params is a dict"),
        (ROWS, Y, {"metric": 3}, "ValueInvalidError", r"metric is the name of a score"),
        (ROWS, Y, {"seed": 0.5}, "ValueInvalidError", r"whole number"),
        (ROWS, Y, {"seed": -1}, "ValueInvalidError", r"whole number from 0 to 4294967295, not -1"),
        (ROWS, Y, {"seed": 1 << 80}, "ValueInvalidError", r"whole number from 0 to"),
        (ROWS, Y, {"cv": 1 << 40}, "ValueInvalidError", r"number of folds"),
        (ROWS, Y, {"at": 3}, "SelectorInvalidError", r"selector"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(fake, echo, data, y, options, error, match):
    """Lengths and meanings; the message says what to do."""
    with pytest.raises(getattr(onnxscope, error), match=match):
        echo.fit_probe("p", data, y, **({"at": "h1"} | options))
    assert not fake.probes.batches


def test_a_probe_that_exists_or_an_answer_that_is_cut(echo):
    """The server's reason arrives; an answer without the probe is none."""
    with pytest.raises(onnxscope.ProbeExistsError, match="taken"):
        echo.fit_probe("taken", ROWS, Y, at="h1")
    with pytest.raises(onnxscope.StreamCutError):
        echo.fit_probe("cut", ROWS, Y, at="h1")
    with pytest.raises(onnxscope.StreamCutError):
        echo.sweep(ROWS, Y, "h1", name="cut")


def test_progress_is_told_of_rows(echo):
    """A function hears of rows done and rows in all, as of a stream."""
    told = []
    echo.fit_probe("p", ROWS, Y, at="h1", progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 10)]


def test_a_fit_ends_when_its_time_is_up_or_its_task_is_cancelled(fake, echo):
    """The call is cancelled at the server."""
    with pytest.raises(onnxscope.DeadlineExceededError):
        echo.fit_probe("slow", ROWS, Y, at="h1", timeout=0.3)
    assert fake.probes.cancelled.wait(5)
    fake.probes.cancelled.clear()

    async def use():
        async with onnxscope.aio.connect(fake.target) as scope:
            model = await scope.load("echo")
            task = asyncio.create_task(model.sweep(ROWS, Y, "h1", name="slow"))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(fake.probes.cancelled.wait, 5)

    asyncio.run(use())


def test_a_sweep_is_a_mapping_in_the_order_of_depth(fake, echo):
    """Whatever order the probes arrive in; the best is by the metric."""
    fake.points = [model_pb.HookPoint(address=f"h{i}", op_type="Relu", depth=i / 2) for i in range(3)]
    scores = {"h0": 0.3, "h1": 0.9, "h2": 0.9}
    sweep = echo.sweep(ROWS, Y, ["h2", "h0", "h1"], "lda", "mine", params=scores)
    assert list(sweep) == ["h0", "h1", "h2"]
    assert sweep["h2"].name == "mine/h2"
    assert (sweep.name, sweep.kind, sweep.data_digest, sweep.resumed_count) == ("mine", "lda", "abc", 1)
    assert sweep.best().at == "h1"
    assert echo.sweep(ROWS, Y, ["h2", "h0", "h1"], metric="mae", params=scores).best().at == "h0"
    with pytest.raises(KeyError, match=r"no hook point of this sweep 'h11' here; the closest are 'h1'"):
        sweep["h11"]
    assert "shuffled" not in sweep.table().columns
    assert "h1          Relu      0.50   0.900" in repr(sweep)
    code = "a compression of 0.99 comes of the labels' frequencies alone"
    assert sweep.notes == (code, "measured on a part of the rows")
    assert repr(sweep).endswith(f"\nnote: {code}\nnote: measured on a part of the rows")
    frame = sweep.to_pandas()
    assert frame.loc["h1", "score"] == 0.9
    assert list(frame.index) == ["h0", "h1", "h2"]
    assert len(sweep.plot().axes) == 2


def test_a_note_of_some_hook_points_names_them():
    """What is the same everywhere is said once."""
    reports = [pb.ProbeReport(metric="accuracy", notes=notes) for notes in (["all", "some"], ["all"], ["all", "some"])]
    probes = {f"h{i}": DescribedProbe(probe(report=report)) for i, report in enumerate(reports)}
    assert Sweep("s", "mlp", probes, []).notes == ("all", "h0, h2: some")


def test_a_sweep_tells_where_it_has_no_probe(fake, echo):
    """By address, and in print."""
    sweep = echo.sweep(ROWS, Y, ["h0", "bad"])
    assert list(sweep) == ["h0"]
    assert sweep.failures == {"bad": "At 'bad': NaN"}
    assert repr(sweep).endswith("no probe: At 'bad': NaN")


def test_a_sweep_without_a_name_has_the_one_that_the_server_chose(fake, echo):
    """Two of them never touch each other's probes."""
    first, second = (echo.sweep(ROWS, Y, "h1") for _ in range(2))
    assert (first.name, second.name) == ("sweep-1", "sweep-2")
    assert second["h1"].name == "sweep-2/h1"


def test_labels_beside_a_generator_that_are_too_few_or_too_many(echo):
    """What could not be counted before is found on the way, and the call is ended."""
    before = threading.active_count()
    for y, match in ((Y[:6], "the data set more"), (np.tile(Y, 2), "y has 20 rows, and the data set 10")):
        with pytest.raises(onnxscope.DataInvalidError, match=match):
            echo.fit_probe("p", (rows for rows in (ROWS[:5], ROWS[5:])), y, at="h1")
    assert threading.active_count() <= before + 4
