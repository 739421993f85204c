"""Fits and sweeps: what the model knows is said, whatever way its activations went."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxscope_server.domain import CaptureSpec, OutputMode, Reduction, ReductionKind
from onnxscope_server.errors import (
    DataInvalidError,
    LimitExceededError,
    ModelNotFoundError,
    ProbeExistsError,
    SelectorInvalidError,
    ValueInvalidError,
)
from onnxscope_server.pipeline.probes import Progress
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.probing.fitting import Fitting
from onnxscope_server.pipeline.running import Call
from onnxscope_server.probe_domain import KeptProbe, ProbeKind, ProbeSpec, Task

from .conftest import Fits, cut, given, same_sign, until

Serve = Callable[..., Any]
TOKENS = """(int64[r, s] ids, int64[r, s] mask) => (float[r, s, 2] y)
    <float[6, 2] table = {0, 0, 1, 5, -1, 5, 2, 5, -2, 5, 3, 5}> { h = Gather (table, ids)  y = Neg (h) }"""


def test_a_sweep_says_at_every_layer_what_is_known_by_construction(fitting: Serve) -> None:
    """The feature is not linear in x, is at h1, and is gone at h2 and y: there the interval covers chance."""

    async def main() -> None:
        async with fitting() as fits:
            probes, over = await fits.sweep(fits.spec("x", "h1", "h2", "y", name="s", controls=True), same_sign(800))
            assert over.resumed_count == 0
            scores = {address: probe.info.report.scores[0] for address, probe in probes.items()}
            assert scores["h1"].value > 0.98
            for address in ("x", "h2", "y"):
                assert scores[address].low < 0.55, address
                assert scores[address].high > 0.45, address
                assert scores[address].value < 0.6, address
            report = probes["h1"].info.report
            assert report.input_score is not None
            assert report.input_score < 0.6
            assert fits.kept() == ["s/h1", "s/h2", "s/x", "s/y"]
            # one pass, however many hook points
            assert fits.runs == 8

    asyncio.run(main())


@pytest.mark.parametrize("kind", [kind for kind in ProbeKind if kind not in (ProbeKind.ONNX, ProbeKind.PCA)])
def test_every_kind_says_so(fitting: Serve, kind: ProbeKind) -> None:
    """Also at h2, where nothing varies any more."""

    async def main() -> None:
        async with fitting() as fits:
            batches = same_sign()
            probes, _ = await fits.sweep(fits.spec("h1", "h2", name="s", kind=kind), batches)
            if kind is not ProbeKind.KMEANS:
                found, lost = (probes[address].info.report.scores[0] for address in ("h1", "h2"))
                assert found.low > 0.9
                assert lost.low < 0.55
                assert lost.high > 0.45

    asyncio.run(main())


def test_a_fit_is_kept_and_told_of(fitting: Serve) -> None:
    """Rows are counted as they come, then stages, and last the probe, which the catalog has."""

    async def main() -> None:
        async with fitting() as fits:
            spec = fits.spec("h1", name="sign")
            async with aclosing(fits.probing.fit(spec, given(same_sign()), "test")) as events:
                told = [event async for event in events]
            counts = [event.row_count for event in told if isinstance(event, Progress) and event.stage == "capture"]
            assert counts == [100, 200, 300, 400]
            probe = told[-1]
            assert isinstance(probe, KeptProbe)
            assert (probe.info.address, probe.info.task, probe.info.classes) == ("h1", Task.CLASSES, (0, 1))
            assert fits.services.catalog.probes.get(fits.digest, "sign").onnx == probe.onnx

    asyncio.run(main())


def test_wrong_requests_are_refused_before_a_row_is_read(fitting: Serve) -> None:
    """A name that is taken, none or several hook points, an unknown parameter, a hook point without rows."""

    async def unread() -> AsyncIterator[ProbeBatch]:
        raise AssertionError("a row was read")
        yield

    async def refused(fits: Fits, spec: ProbeSpec, error: type[Exception], text: str, *, sweep: bool = False) -> None:
        verb = fits.probing.sweep if sweep else fits.probing.fit
        with pytest.raises(error, match=text):
            await anext(verb(spec, unread(), "test"))

    async def main() -> None:
        async with fitting() as fits:
            await fits.fit(fits.spec("h1", name="sign"), same_sign())
            await fits.fit(fits.spec("h1", name="s/h1"), same_sign())
            await refused(fits, fits.spec("h1", name="sign"), ProbeExistsError, "has a probe 'sign' already")
            await refused(fits, fits.spec("h1", "h2", name="s"), ProbeExistsError, "sweep 's' already", sweep=True)
            await refused(fits, fits.spec("h1", "h2", name="p"), SelectorInvalidError, "name 2: h1, h2")
            await refused(fits, fits.spec(name="p"), SelectorInvalidError, "no selector")
            await refused(fits, fits.spec("h1"), ValueInvalidError, "name must have 1 to")
            await refused(fits, fits.spec("h1", name=" "), ValueInvalidError, "name must have 1 to", sweep=True)
            await refused(fits, fits.spec("h1", name="p", params={"c": 1}), DataInvalidError, "no parameter c")
            await refused(fits, fits.spec("A", name="p"), DataInvalidError, "A has none")
            await refused(fits, fits.spec("h1", name="p", kind=ProbeKind.ONNX), DataInvalidError, "load_probe")
            assert fits.kept() == ["s/h1", "sign"]

    asyncio.run(main())


def test_rows_of_a_model_of_one_batch_size_lie_along_the_first_axis(fitting: Serve) -> None:
    """Also behind a Reshape that only knows that size: the model can't run with another, to see which axis grows."""
    text = """(float[4, 6] x) => (float[4, 6] y) <int64[3] split = {4, 2, 3}, int64[2] whole = {4, 6}>
        { a = Relu (x)  b = Reshape (a, split)  h = Transpose <perm = [0, 2, 1]> (b)  y = Reshape (h, whole) }"""
    x = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)

    async def main() -> None:
        async with fitting(text) as fits:
            probes, _ = await fits.sweep(fits.spec("a", "h", "y", name="s"), cut({"x": x}, (x[:, 2] > 0) * 1, 4))
            assert {address: probe.info.row_axis for address, probe in probes.items()} == {"a": 0, "h": 0, "y": 0}
            assert min(probe.info.report.scores[0].value for probe in probes.values()) > 0.9

    asyncio.run(main())


def test_activations_on_disk_teach_the_same(fitting: Serve) -> None:
    """With no memory to speak of, everything goes through the store, which is gone afterwards."""

    async def main(folder: Path, memory: int) -> float:
        async with fitting(data=folder, probe_memory_bytes=memory) as fits:
            probe = await fits.fit(fits.spec("h1", name="sign", kind=ProbeKind.LDA), same_sign())
            assert not [*(folder / "sweeps").glob("*")]
            return float(probe.info.report.scores[0].value)

    async def both(folder: Path) -> None:
        assert await main(folder / "a", 1 << 30) == pytest.approx(await main(folder / "b", 1), abs=0.02)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(both(Path(folder)))


def test_positions_are_examples_and_their_tokens_control_types(fitting: Serve) -> None:
    """Of each unmasked position with a label; the mask is an input of the model."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 6, (60, 5))
    mask = (np.arange(5) < rng.integers(1, 6, 60)[:, None]).astype(np.int64)
    labels = np.where(rng.random((60, 5)) < 0.1, -100, ids % 2)
    reduction = Reduction(ReductionKind.POSITIONS, mask_input="mask")

    async def main() -> None:
        async with fitting(TOKENS) as fits:
            spec = fits.spec("h", name="odd", reductions=(("h", reduction),), controls=True)
            probe = await fits.fit(spec, cut({"ids": ids, "mask": mask}, labels, 20))
            report = probe.info.report
            wanted = int(((mask > 0) & (labels != -100)).sum())
            assert report.control_types == "token ids"
            assert report.scores[0].value == 1.0
            assert report.input_score == 1.0
            assert probe.info.reduction == reduction
            assert report.train_count + report.test_count == 60
            assert wanted > 100

    asyncio.run(main())


def test_rows_behind_the_last_label_are_no_rows(fitting: Serve) -> None:
    """A fixed batch of 100 of which the last 60 only fill: they hold what would spoil the fit."""

    async def main() -> None:
        async with fitting() as fits:
            batches = same_sign(300)
            last = batches[-1]
            spoilt = last.inputs["x"].copy()
            spoilt[40:] = 1e6
            batches[-1] = last._replace(inputs={"x": spoilt}, labels=last.labels[:40])
            spec = fits.spec("h1", name="sign")
            async with aclosing(fits.probing.fit(spec, given(batches), "test")) as events:
                told = [event async for event in events]
            assert max(event.row_count for event in told if isinstance(event, Progress)) == 240
            assert told[-1].info.report.scores[0].value > 0.95

    asyncio.run(main())


def test_rows_along_another_axis_are_found(fitting: Serve) -> None:
    """An RNN's values have rows in the middle."""
    text = """(float[3, row, 2] x) => (float[3, row, 2] y) { h = Tanh (x)  y = Neg (h) }"""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 200, 2)).astype(np.float32)
    y = (x[1, :, 0] > 0).astype(np.int64)

    async def main() -> None:
        async with fitting(text) as fits:
            axes = {"h": 1}
            found = await fits.services.probing._targets.of(fits.spec("h"), "test", None)
            assert {place.address: place.axis for place in found.places} == axes
            probe = await fits.fit(fits.spec("h", name="p", controls=True), [ProbeBatch({"x": x}, labels=y)])
            assert probe.info.report.scores[0].value > 0.9
            # and grafted on to the model it reads them there
            captures = fits.services.captures._captures
            prepared = await captures.prepare(CaptureSpec(fits.digest, probes=("p",), outputs=OutputMode.NONE))
            result = await captures.run(prepared, Call({"x": x}, {}))
            assert (result.probes["p::labels"] == y).mean() > 0.9

    asyncio.run(main())


def test_without_a_model_rows_are_activations(fitting: Serve) -> None:
    """The probe comes back whole and is kept nowhere."""
    rng = np.random.default_rng(0)
    activations = rng.normal(size=(200, 6)).astype(np.float32)
    labels = (activations[:, 0] > 0).astype(np.int64)

    async def main() -> None:
        async with fitting() as fits:
            probe = await fits.fit(ProbeSpec("mine"), cut({"activations": activations}, labels, 64))
            report = probe.info.report
            assert report.scores[0].value > 0.9
            assert report.input_score is None
            assert report.control_types == "k-means of the activations"
            assert probe.onnx
            assert not fits.kept()
            with pytest.raises(DataInvalidError, match="one input 'activations'"):
                await fits.fit(ProbeSpec("mine"), cut({"x": activations}, labels, 64))
            with pytest.raises(ValueInvalidError, match="needs a model"):
                await fits.sweep(ProbeSpec("mine"), cut({"activations": activations}, labels, 64))

    asyncio.run(main())


def test_shuffled_weights_are_a_second_control(fitting: Serve) -> None:
    """The same probe on the same architecture, in the same pass, and nothing of the copy is left."""

    async def main() -> None:
        async with fitting() as fits:
            spec = fits.spec("h1", "y", name="s", shuffled_control=True, seed=2)
            probes, _ = await fits.sweep(spec, same_sign())
            assert all(probe.info.report.shuffled_score is not None for probe in probes.values())
            assert probes["h1"].info.report.shuffled_score < probes["h1"].info.report.scores[0].value - 0.1
            assert all(item.digest == fits.digest for item in fits.services.sessions._kept.values())

    asyncio.run(main())


def test_kinds_without_labels_need_none(fitting: Serve) -> None:
    """Others say so."""

    async def main() -> None:
        async with fitting() as fits:
            batches = [batch._replace(labels=None) for batch in same_sign()]
            probe = await fits.fit(fits.spec("h1", name="p", kind=ProbeKind.PCA, params={"n_components": 1}), batches)
            assert probe.info.task is Task.UNSUPERVISED
            with pytest.raises(DataInvalidError, match="has no labels"):
                await fits.fit(fits.spec("h1", name="q"), batches)

    asyncio.run(main())


def test_what_does_not_fit_together_is_said(fitting: Serve) -> None:
    """Weights in some batches only, rows of other length, no rows at all."""
    varying = """(float[r, s] x) => (float[r, s] y) { h = Tanh (x)  y = Neg (h) }"""

    async def main() -> None:
        async with fitting() as fits:
            first, second, *_ = same_sign()
            with pytest.raises(DataInvalidError, match="Some batches have weights and others have not"):
                await fits.fit(fits.spec("h1", name="p"), [first._replace(weights=np.ones(100)), second])
            with pytest.raises(DataInvalidError, match="There are no rows"):
                await fits.fit(fits.spec("h1", name="p"), [])
            assert not fits.kept()
        async with fitting(varying) as fits:
            batches = [ProbeBatch({"x": np.zeros((4, size), np.float32)}, labels=np.arange(4) % 2) for size in (3, 5)]
            with pytest.raises(DataInvalidError, match="Rows of 'h' have 3 features in one batch and 5 in another"):
                await fits.fit(fits.spec("h", name="p"), batches)

    asyncio.run(main())


def test_calls_are_bounded(fitting: Serve) -> None:
    """One too many is refused, and one that ended makes room."""

    async def main() -> None:
        async with fitting(max_fit_calls=1) as fits:
            waits = asyncio.Event()

            async def slow() -> AsyncIterator[ProbeBatch]:
                await waits.wait()
                for batch in same_sign():
                    yield batch

            first = asyncio.create_task(anext(fits.probing.fit(fits.spec("h1", name="a"), slow(), "test")))
            await asyncio.sleep(0.05)
            with pytest.raises(LimitExceededError, match="max_fit_calls"):
                await fits.fit(fits.spec("h1", name="b"), same_sign())
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await fits.fit(fits.spec("h1", name="b"), same_sign())

    asyncio.run(main())


def test_fits_leave_the_loop_and_captures_alone(fitting: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a fit computes, the model runs for another caller."""
    begun, go_on = threading.Event(), threading.Event()
    original = Fitting.fit

    def held(*args: Any) -> KeptProbe:
        begun.set()
        assert go_on.wait(10)
        return original(*args)

    monkeypatch.setattr(Fitting, "fit", held)

    async def main() -> None:
        async with fitting() as fits:
            fit = asyncio.create_task(fits.fit(fits.spec("h1", name="a"), same_sign()))
            await until(begun)
            captures = fits.services.captures._captures
            prepared = await captures.prepare(CaptureSpec(fits.digest, selectors=("h1",)))
            result = await captures.run(prepared, Call({"x": np.ones((1, 4), np.float32)}, {}))
            assert result.activations["h1"].tolist() == [[1, -1]]
            go_on.set()
            await fit

    asyncio.run(main())


def test_a_model_that_is_unloaded_takes_its_probes_along(
    fitting: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are still being fitted: the call says so, and neither probe nor activations are left."""
    begun, unloaded = threading.Event(), threading.Event()
    original = Fitting.fit

    def late(self: Fitting, *args: Any) -> KeptProbe:
        begun.set()
        assert unloaded.wait(10)
        return original(self, *args)

    monkeypatch.setattr(Fitting, "fit", late)

    async def main() -> None:
        async with fitting(data=tmp_path / "data") as fits:
            for verb, spec in ((fits.fit, fits.spec("h1", name="p")), (fits.sweep, fits.spec("h1", "h2", name="s"))):
                begun.clear()
                unloaded.clear()
                call = asyncio.create_task(verb(spec, same_sign()))
                await until(begun)
                await fits.services.runner.call(fits.services.catalog.unload, "model")
                unloaded.set()
                with pytest.raises(ModelNotFoundError, match="was unloaded meanwhile"):
                    await call
                assert not fits.kept()
                assert not list((tmp_path / "data" / "probes").rglob("*.onnx"))
                assert not list((tmp_path / "data" / "sweeps").rglob("shard-*"))
                await fits.services.models.add_file(tmp_path / "model.onnx", "model", "")

    asyncio.run(main())
