"""Probes over gRPC, against a server that makes its reports up."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import struct
import threading

import numpy as np
import pytest
from tests.client.fake_probes import DIGEST, probe

import onnxscope
from onnxscope.probes.aio_probe import AsyncProbe
from onnxscope.probes.probe import Probe
from onnxscope.v1 import model_service_pb2 as model_pb

ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)
Y = np.arange(10) % 2


@pytest.fixture
def scope(fake):
    """A scope on the server that echoes."""
    with onnxscope.connect(fake.target, timeout=20) as opened:
        yield opened


@pytest.fixture
def echo(scope):
    """Its model."""
    return scope.load("echo")


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
        "15.10  times shorter",
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
        (ROWS, Y, {"cv": 1}, "ValueInvalidError", r"at least 2"),
        (ROWS, Y, {"cv": 5, "test": [1]}, "ValueInvalidError", r"give one of them"),
        (ROWS, Y, {"test_size": 30}, "ValueInvalidError", r"between 0 and 1"),
        (ROWS, Y, {"controls": "all"}, "ValueInvalidError", r"'shuffled'"),
        (ROWS, Y, {"class_weight": "even"}, "ValueInvalidError", r"'balanced' or a dict"),
        (ROWS, Y, {"params": {"C": object()}}, "ValueInvalidError", r"params must be plain"),
        (ROWS, Y, {"seed": 0.5}, "ValueInvalidError", r"whole number"),
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
    frame = sweep.to_pandas()
    assert frame.loc["h1", "score"] == 0.9
    assert list(frame.index) == ["h0", "h1", "h2"]
    assert len(sweep.plot().axes) == 2


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


def test_probes_are_listed_got_and_deleted(fake, echo):
    """Over pages, as a table; a name that is not there is said."""
    fake.probes.kept["other"] = probe("other", kind="onnx", outputs=["features"], report=None, task=0, classes=None)
    listed = echo.probes()
    assert [item.name for item in listed] == ["other", "parity"]
    assert "parity  h1          logistic  classes  accuracy  0.980" in str(listed)
    assert listed["parity"].params == {"C": 0.5}
    with pytest.raises(KeyError, match="closest are 'parity'"):
        listed["party"]
    assert repr(listed["other"]) == "probe 'other' at 'h1': onnx, gives features"
    echo.delete_probe(echo.probe("parity"))
    with pytest.raises(onnxscope.ProbeNotFoundError):
        echo.probe("parity")


def test_arrays_that_a_list_left_out_are_fetched(fake, echo):
    """`coef_` of a probe of a sweep asks for them; a probe that is not linear has none."""
    fake.probes.kept["s/h1"] = fake.probes.kept["parity"]
    np.testing.assert_array_equal(echo.sweep(ROWS, Y, "h1", name="s")["h1"].coef_, [[1, 2, 3]])
    fake.probes.kept["s/h1"] = probe(kind="knn")
    with pytest.raises(onnxscope.ValueInvalidError, match="not linear"):
        _ = echo.sweep(ROWS, Y, "h1", name="s")["h1"].coef_


def test_a_probe_is_saved_whole(fake, echo, tmp_path):
    """The pieces are joined; a file that could not be fetched leaves what was there."""
    path = echo.probe("parity").save(tmp_path / "parity.onnx")
    assert path.read_bytes() == fake.probes.file
    kept = echo.probe("parity")
    echo.delete_probe("parity")
    with pytest.raises(onnxscope.ProbeNotFoundError):
        kept.save(path)
    assert path.read_bytes() == fake.probes.file
    assert list(tmp_path.iterdir()) == [path]


def test_load_probe_sends_files_bytes_and_autoencoders(fake, scope, echo, tmp_path):
    """An ONNX file as it is; of an autoencoder's arrays a safetensors file is made."""
    (tmp_path / "p.onnx").write_bytes(b"x" * 3_000_000)
    loaded = scope.load_probe(tmp_path / "p.onnx", echo, at="h2", name="mine", reduce="mean", overwrite=True)
    assert (loaded.name, loaded.at, loaded.kind) == ("mine", "h2", "onnx")
    spec, data = fake.probes.imports.pop()
    assert (spec.model, spec.address, spec.overwrite, spec.reduction.kind) == (DIGEST, "h2", True, 1)
    assert data == b"x" * 3_000_000
    assert not spec.HasField("autoencoder")

    assert scope.load_probe(b"abc", "echo").name == "from-metadata"
    spec, data = fake.probes.imports.pop()
    assert (data, spec.address, spec.HasField("reduction")) == (b"abc", "", False)

    arrays = {"W_enc": np.ones((3, 5), np.float64), "b_enc": np.zeros(5, np.float32), "threshold": np.arange(5)}
    scope.load_probe(arrays, echo, at="h1", name="sae")
    spec, data = fake.probes.imports.pop()
    assert spec.autoencoder.activation == "jumprelu"
    from safetensors.numpy import load

    for name, array in load(data).items():
        np.testing.assert_array_equal(array, arrays[name])
    scope.load_probe(arrays, echo, at="h1", name="sae", k=4, subtract_decoder_bias=True)
    spec, data = fake.probes.imports.pop()
    assert (spec.autoencoder.activation, spec.autoencoder.k, spec.autoencoder.subtract_decoder_bias) == (
        "topk",
        4,
        True,
    )
    (tmp_path / "relu-sae.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    scope.load_probe(tmp_path / "relu-sae.safetensors", echo, at="h1")
    spec, _ = fake.probes.imports.pop()
    assert (spec.name, spec.autoencoder.activation) == ("relu-sae", "relu")


@pytest.mark.parametrize(
    ("source", "options", "error", "match"),
    [
        ("nowhere.onnx", {}, "ProbeInvalidError", "cannot be read"),
        (3, {}, "ValueInvalidError", "not int"),
        (b"x", {"name": "taken"}, "ProbeExistsError", "taken"),
        (b"x", {"activation": "gelu"}, "ValueInvalidError", "relu, jumprelu, topk"),
        (b"x", {"activation": "topk"}, "ValueInvalidError", "give both"),
        (b"x", {"k": 0}, "ValueInvalidError", "from 1 up"),
        (b"x", {"at": ["a", "b"]}, "ValueInvalidError", "one hook point"),
        (b"x", {"reduce": onnxscope.reduce.mean(mask=[[1]])}, "ReductionInvalidError", "name that"),
    ],
)
def test_load_probe_says_what_it_cannot_take(scope, echo, source, options, error, match):
    """Files that are not there, arguments that have no meaning, names that are taken."""
    with pytest.raises(getattr(onnxscope, error), match=match):
        scope.load_probe(source, echo, **options)


def test_probes_run_with_the_model(fake, echo):
    """In a capture, one by one, in a stream and in a run; by name and as objects."""
    parity = echo.probe("parity")
    for given in ("parity", ["parity"], parity, [parity]):
        result = echo.run(ROWS, probes=given, outputs=False)
        np.testing.assert_array_equal(result.probes["parity"].labels, Y)
        np.testing.assert_array_equal(result.probes["parity"].scores, ROWS[:, :2] + 1)
        assert result.probes["parity"].classes == (0, 1)
        assert list(fake.specs[-1].probes) == ["parity"]
    with pytest.raises(KeyError, match="no probe 'x' here; the closest are 'parity'"):
        result.probes["x"]
    assert "parity  logistic  h1          labels [10], scores [10, 2]" in repr(result)
    acts = echo.capture(ROWS, "a", probes=["parity"])
    assert list(acts) == ["a"]
    assert set(acts.probes["parity"].outputs) == {"labels", "scores"}
    arrived = dict(echo.capture_iter(ROWS, "a", probes=["parity"]))
    np.testing.assert_array_equal(arrived["parity"].labels, Y)
    parts = [acts.probes["parity"].labels for acts in echo.stream(ROWS, probes=["parity"], batch_size=4)]
    assert [len(part) for part in parts] == [4, 4, 2]
    with pytest.raises(onnxscope.InternalError, match="forgotten"):
        echo.run(ROWS, probes=["forgotten"])


def test_a_probe_of_another_model_is_refused(fake, echo):
    """Before anything is sent."""
    fake.probes.kept["other"] = probe("other", model_digest="e" * 64)
    fake.specs.clear()
    with pytest.raises(onnxscope.ProbeInvalidError, match=r"of the model eeeeeeeeeeee, and this is the model dddd"):
        echo.run(ROWS, probes=[echo.probe("other")])
    with pytest.raises(onnxscope.ValueInvalidError, match="names or probes"):
        echo.run(ROWS, probes=[3])
    assert not fake.specs


def test_a_probe_predicts_on_data_sets(fake, echo):
    """In batches; kinds without probabilities say so."""
    parity = echo.probe("parity")
    np.testing.assert_array_equal(parity.predict(ROWS, batch_size=4), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(parity.predict_proba(ROWS), ROWS[:, :2] + 1)
    assert [len(batch["x"]) for batch in fake.received][:3] == [4, 4, 2]
    fake.probes.kept["svm"] = probe("svm", kind="svm")
    with pytest.raises(onnxscope.ValueInvalidError, match=r"decision_function"):
        echo.probe("svm").predict_proba(ROWS)
    np.testing.assert_array_equal(echo.probe("svm").decision_function(ROWS), ROWS[:, :2] + 1)
    with pytest.raises(onnxscope.ValueInvalidError, match="what PCA does"):
        parity.transform(ROWS)
    with pytest.raises(onnxscope.DataInvalidError, match="no rows"):
        parity.predict(iter(()))


def test_a_probe_whose_mask_was_an_array_says_that_it_cannot_run(fake, echo):
    """Before anything is sent, and what to do instead."""
    fake.probes.kept["masked"] = probe("masked", reduction={"kind": "REDUCTION_KIND_MEAN", "mask_value": "mask_0"})
    with pytest.raises(onnxscope.ReductionInvalidError, match="an input of the model"):
        echo.probe("masked").predict(ROWS)
    assert not fake.specs


def test_padding_is_taken_out_of_probes_too(fake, scope, make_model, make_spec):
    """A fixed batch dimension: as many labels as rows."""
    fake.models["fixed"] = make_model(make_spec("x", shape=(4, 3)), name="fixed")
    labels = scope.load("fixed").probe("parity").predict(ROWS)
    np.testing.assert_array_equal(labels, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1])


def test_coroutines_do_the_same(fake, tmp_path):
    """Fit, sweep, list, get, delete, load, run, predict, save; batches may arrive asynchronously."""

    async def pairs():
        for start in (0, 4):
            await asyncio.sleep(0)
            yield ROWS[start : start + 4], Y[start : start + 4]

    async def use():
        async with onnxscope.aio.connect(fake.target, timeout=20) as scope:
            model = await scope.load("echo")
            found = await model.fit_probe("parity", pairs(), None, at="h1")
            sent = [batch["labels"].tolist() for batch in fake.probes.batches]
            sweep = await model.sweep(ROWS, Y, ["h1"], name="s")
            listed = await model.probes()
            labels = await found.predict(ROWS, batch_size=4)
            scores = await found.predict_proba(ROWS)
            await found.save(tmp_path / "p.onnx")
            with pytest.raises(onnxscope.ValueInvalidError, match=r"await model\.probe"):
                _ = sweep["h1"].coef_
            loaded = await scope.load_probe(b"x", model, at="h2", name="mine")
            result = await model.run(ROWS, probes=[found])
            await model.delete_probe("parity")
            with pytest.raises(onnxscope.ProbeNotFoundError):
                await model.probe("parity")
            return found, sent, sweep, listed, labels, scores, loaded, result

    found, sent, sweep, listed, labels, scores, loaded, result = asyncio.run(use())
    assert sent == [[0, 1, 0, 1], [0, 1, 0, 1]]
    np.testing.assert_array_equal(found.coef_, [[1, 2, 3]])
    assert list(sweep) == ["h1"]
    assert listed["parity"].report.score == 0.98
    np.testing.assert_array_equal(labels, Y)
    np.testing.assert_array_equal(scores, ROWS[:, :2] + 1)
    assert (tmp_path / "p.onnx").read_bytes() == fake.probes.file
    assert loaded.at == "h2"
    np.testing.assert_array_equal(result.probes["parity"].labels, Y)


def test_names_and_arguments_of_probes_are_the_same_for_coroutines():
    """Every public method has its twin, `fit_probe` of the package too."""
    for name in (name for name in dir(Probe) if not name.startswith("_") and callable(getattr(Probe, name))):
        ours = inspect.signature(getattr(Probe, name)).parameters
        theirs = inspect.signature(getattr(AsyncProbe, name)).parameters
        assert {n: (p.kind, p.default) for n, p in ours.items()} == {n: (p.kind, p.default) for n, p in theirs.items()}
    ours = inspect.signature(onnxscope.fit_probe).parameters
    theirs = inspect.signature(onnxscope.aio.fit_probe).parameters
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}


def test_labels_beside_a_generator_that_are_too_few_or_too_many(echo):
    """What could not be counted before is found on the way, and the call is ended."""
    before = threading.active_count()
    for y, match in ((Y[:6], "the data set more"), (np.tile(Y, 2), "y has 20 rows, and the data set 10")):
        with pytest.raises(onnxscope.DataInvalidError, match=match):
            echo.fit_probe("p", (rows for rows in (ROWS[:5], ROWS[5:])), y, at="h1")
    assert threading.active_count() <= before + 4
