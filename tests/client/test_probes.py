"""Probes that are kept, over gRPC, against a server that makes them up: catalog, files, runs and predictions."""

from __future__ import annotations

import asyncio
import inspect
import struct

import numpy as np
import pytest
from tests.client.fake_probes import DIGEST, ROWS, Y, probe

import onnxscope
from onnxscope.probes.aio_probe import AsyncProbe
from onnxscope.probes.probe import Probe


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
    with pytest.raises(onnxscope.ValueInvalidError, match="not None"):
        echo.run(ROWS, probes=None)
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
