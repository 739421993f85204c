"""A named sweep goes on where it ended, for the same rows and settings only; cancelled, it leaves nothing half done."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from onnxscope.v1.model_service_pb2 import UnloadModelRequest
from onnxscope_server.errors import DataInvalidError, LimitExceededError, OnnxscopeServerError, ProbeExistsError
from onnxscope_server.pipeline.probes import Failure, Finished, Progress
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.probing.fitting import Fitting
from onnxscope_server.probe_domain import KeptProbe, ProbeKind
from onnxscope_server.store import shards

from .conftest import Fits, given, left_in, same_sign, until

Serve = Callable[..., Any]
POINTS = ("h1", "h2", "y")


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that something was fitted at."""
    found: list[str] = []
    original = Fitting.fit

    def noting(self: Fitting, spec: Any, subject: Any, *rest: Any) -> KeptProbe:
        found.append(subject.place.address)
        return original(self, spec, subject, *rest)

    monkeypatch.setattr(Fitting, "fit", noting)
    return found


async def until_a_probe(fits: Fits, batches: Sequence[ProbeBatch]) -> str:
    """Ends a sweep behind its first probe; returns the probe's address."""
    async with aclosing(fits.probing.sweep(fits.spec(*POINTS, name="s"), given(batches), "test")) as events:
        async for event in events:
            if isinstance(event, KeptProbe):
                return event.info.address
    raise AssertionError


def test_a_sweep_goes_on_after_a_restart(fitting: Serve, tmp_path: Path, fitted: list[str]) -> None:
    """Neither the model runs again nor what is finished is fitted again; in the end its activations are deleted."""
    data, batches = tmp_path / "data", same_sign()

    async def main() -> None:
        async with fitting(data=data, max_fits=1) as fits:
            first = await until_a_probe(fits, batches)
            assert fits.runs == 4
            assert any(name.startswith("shard-") for name in left_in(data / "sweeps"))
        fitted.clear()
        async with fitting(data=data, max_fits=1) as fits:
            probes, over = await fits.sweep(fits.spec(*POINTS, name="s"), batches)
            assert fits.runs == 0
            assert set(probes) == set(POINTS)
            assert first not in fitted
            assert over.resumed_count == len(POINTS) - len(fitted) >= 1
            assert left_in(data / "sweeps") == ["sweep.json"]
            before = over.data_digest
        fitted.clear()
        async with fitting(data=data) as fits:
            probes, over = await fits.sweep(fits.spec(*POINTS, name="s"), batches)
            assert (set(probes), over.resumed_count, fits.runs, fitted) == (set(POINTS), 3, 0, [])
            assert over.data_digest == before

    asyncio.run(main())


def test_batches_that_were_captured_are_not_run_again(fitting: Serve, tmp_path: Path) -> None:
    """A sweep that ended in its third batch runs from there on."""
    data, batches = tmp_path / "data", same_sign()

    async def main() -> None:
        async with fitting(data=data) as fits:
            sweep = partial(fits.probing.sweep, fits.spec(*POINTS, name="s"))
            async with aclosing(given(batches)) as rows, aclosing(sweep(rows, "test")) as events:
                async for event in events:
                    if isinstance(event, Progress) and event.row_count == 200:
                        break
        async with fitting(data=data) as fits:
            probes, over = await fits.sweep(fits.spec(*POINTS, name="s"), batches)
            assert set(probes) == set(POINTS)
            assert over.resumed_count == 0
            assert 1 <= fits.runs <= 2
            assert probes["h1"].info.report.scores[0].value > 0.95

    asyncio.run(main())


_KILLED = """
import asyncio, sys
from contextlib import aclosing
from pathlib import Path
from onnxscope_server.app import Services
from onnxscope_server.probe_domain import KeptProbe, ProbeSpec
from onnxscope_server.settings import EmbeddedSettings
from tests.pipeline.probing.conftest import given, same_sign

async def main():
    services = Services.make(EmbeddedSettings(data=Path(sys.argv[1]), max_fits=1))
    digest = (await services.models.add_file(Path(sys.argv[2]), "model", "")).digest
    spec = ProbeSpec("s", model=digest, selectors=("h1", "h2", "y"), controls=False)
    async with aclosing(services.probing.sweep(spec, given(same_sign()), "test")) as events:
        async for event in events:
            if isinstance(event, KeptProbe):
                print(event.info.address, flush=True)
                # whoever started this kills it now
                await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_sweep_goes_on_after_a_kill(fitting: Serve, tmp_path: Path, fitted: list[str]) -> None:
    """What was finished is there, and nothing else needs to be written."""
    data = tmp_path / "data"

    async def written() -> None:
        async with fitting():
            pass

    async def main() -> None:
        async with fitting(data=data) as fits:
            probes, over = await fits.sweep(fits.spec(*POINTS, name="s"), same_sign())
            assert (set(probes), fits.runs) == (set(POINTS), 0)
            assert over.resumed_count == len(POINTS) - len(fitted) >= 1
            assert first not in fitted

    asyncio.run(written())
    command = [sys.executable, "-c", _KILLED, str(data), str(tmp_path / "model.onnx")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        first = child.stdout.readline().strip()
        child.kill()
    assert first in POINTS
    asyncio.run(main())


def test_other_rows_under_the_same_name_are_refused(fitting: Serve, tmp_path: Path, fitted: list[str]) -> None:
    """Unless they may overwrite: then all is done anew."""
    batches, others = same_sign(), same_sign(seed=1)

    async def main() -> None:
        async with fitting(data=tmp_path / "data") as fits:
            await fits.sweep(fits.spec(*POINTS, name="s"), batches)
            for wrong in (others, batches[:-1], [*batches, batches[0]], [batches[0], *others[1:]]):
                with pytest.raises(ProbeExistsError, match="it was for other data"):
                    await fits.sweep(fits.spec(*POINTS, name="s"), wrong)
            for other in (("h1", "h2"), (*POINTS, "x")):
                with pytest.raises(ProbeExistsError, match="other hook points or settings"):
                    await fits.sweep(fits.spec(*other, name="s"), batches)
            with pytest.raises(ProbeExistsError, match="other hook points or settings"):
                await fits.sweep(fits.spec(*POINTS, name="s", kind=ProbeKind.LDA), batches)
            fitted.clear()
            _, over = await fits.sweep(fits.spec(*POINTS, name="s", overwrite=True), others)
            assert (over.resumed_count, sorted(fitted)) == (0, sorted(POINTS))
            fitted.clear()
            _, over = await fits.sweep(fits.spec(*POINTS, name="s", overwrite=True), others)
            assert (over.resumed_count, sorted(fitted)) == (0, sorted(POINTS))
            assert left_in(tmp_path / "data" / "sweeps") == ["sweep.json"]

    asyncio.run(main())


def test_a_probe_that_was_deleted_is_fitted_again(fitting: Serve, tmp_path: Path, fitted: list[str]) -> None:
    """And only that."""
    batches = same_sign()

    async def main() -> None:
        async with fitting(data=tmp_path / "data") as fits:
            await fits.sweep(fits.spec(*POINTS, name="s"), batches)
            fits.services.catalog.probes.delete(fits.digest, "s/h2")
            fitted.clear()
            probes, over = await fits.sweep(fits.spec(*POINTS, name="s"), batches)
            assert (set(probes), over.resumed_count, fitted) == (set(POINTS), 2, ["h2"])

    asyncio.run(main())


def test_a_cancelled_fit_ends_soon_and_keeps_nothing(
    fitting: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is told, and no probe comes of it."""
    begun, ended = threading.Event(), threading.Event()

    def endless(self: Fitting, spec: Any, subject: Any, data_set: Any, tell: Any, stopped: Callable[[], bool]) -> None:
        begun.set()
        while not stopped():
            ended.wait(0.001)
        ended.set()
        raise DataInvalidError("stopped")

    monkeypatch.setattr(Fitting, "fit", endless)

    async def main() -> None:
        async with fitting(data=tmp_path / "data") as fits:
            for verb, name in ((fits.fit, ""), (fits.sweep, ""), (fits.sweep, "s")):
                begun.clear()
                ended.clear()
                spec = fits.spec("h1", name=name or ("p" if verb == fits.fit else ""))
                task = asyncio.create_task(verb(spec, same_sign()))
                await until(begun)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(ended)
            assert not fits.kept()
            # what has a name stays, to go on with
            left = left_in(tmp_path / "data" / "sweeps")
            assert "sweep.json" in left
            assert len(list((tmp_path / "data" / "sweeps").glob("*"))) == 1

    asyncio.run(main())


def test_a_server_that_closes_ends_its_fits(fitting: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a call that goes on."""
    begun = threading.Event()

    def endless(self: Fitting, spec: Any, subject: Any, data_set: Any, tell: Any, stopped: Callable[[], bool]) -> None:
        begun.set()
        while not stopped():
            threading.Event().wait(0.001)
        raise DataInvalidError("stopped")

    monkeypatch.setattr(Fitting, "fit", endless)

    async def main() -> None:
        async with fitting() as fits:
            task = asyncio.create_task(fits.fit(fits.spec("h1", name="p"), same_sign()))
            await until(begun)
            await fits.close()
            with pytest.raises(OnnxscopeServerError):
                await task

    asyncio.run(main())


def test_a_hook_point_that_nothing_is_learned_at_stops_no_other(fitting: Serve, tmp_path: Path) -> None:
    """It is told of, the others' probes are kept, and a second sweep of this name goes on with what is left."""
    text = """(float[r, 4] x) => (float[r, 4] y)
        <float zero = {0}> { h1 = Tanh (x)  a = Mul (x, zero)  bad = Div (h1, a)  y = Neg (h1) }"""
    data = tmp_path / "data"

    async def main() -> None:
        async with fitting(text, data=data) as fits:
            spec = fits.spec("h1", "bad", "y", name="s")
            for resumed in (0, 2):
                events = [event async for event in fits.probing.sweep(spec, given(same_sign()), "test")]
                (failure,) = [event for event in events if isinstance(event, Failure)]
                assert failure.address == "bad"
                assert "At 'bad': activations hold NaN" in failure.error.message
                assert {event.info.address for event in events if isinstance(event, KeptProbe)} == {"h1", "y"}
                assert isinstance(events[-1], Finished)
                assert events[-1].resumed_count == resumed
                # nobody is waited for any more
                assert left_in(data / "sweeps") == ["sweep.json"]
            with pytest.raises(DataInvalidError, match="At 'bad'"):
                await fits.sweep(fits.spec("bad", name="t"), same_sign())

    asyncio.run(main())


def test_a_hook_point_that_is_too_wide_stops_no_other(fitting: Serve) -> None:
    """What learns from all rows at once must have them in memory: where there are few features it does."""

    async def main() -> None:
        async with fitting(probe_memory_bytes=16_000) as fits:
            spec = fits.spec("x", "h1", kind=ProbeKind.KNN)
            events = [event async for event in fits.probing.sweep(spec, given(same_sign()), "test")]
            assert [event.address for event in events if isinstance(event, Failure)] == ["x"]
            assert [event.info.address for event in events if isinstance(event, KeptProbe)] == ["h1"]

    asyncio.run(main())


def test_a_failure_at_all_hook_points_is_told(fitting: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one wins."""

    def failing(self: Fitting, spec: Any, subject: Any, *rest: Any) -> KeptProbe:
        raise DataInvalidError(f"nothing at {subject.place.address}")

    monkeypatch.setattr(Fitting, "fit", failing)

    async def main() -> None:
        async with fitting(max_fits=1) as fits:
            with pytest.raises(DataInvalidError, match="nothing at h1"):
                await fits.sweep(fits.spec(*POINTS, name="s"), same_sign())

    asyncio.run(main())


@pytest.mark.parametrize("settings", [{"unfinished_sweep_bytes": 1000}, {"unfinished_sweep_hours": 0}])
def test_activations_that_nobody_goes_on_with_are_bounded(
    fitting: Serve, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """In bytes and in time; the sweep then goes on with the probes that it has, and runs the model again."""
    data = tmp_path / "data"

    async def main() -> None:
        async with fitting(data=data, max_fits=1, **settings) as fits:
            await until_a_probe(fits, same_sign())
            assert left_in(data / "sweeps") == ["sweep.json"]
            _, over = await fits.sweep(fits.spec(*POINTS, name="s"), same_sign())
            assert over.resumed_count >= 1
            assert fits.runs == 8

    asyncio.run(main())


@pytest.mark.parametrize("write", [(shards, "write"), (Path, "write_bytes")])
def test_a_full_disk_is_said_and_holds_nothing(
    fitting: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: tuple[Any, str]
) -> None:
    """Also where the sweep is cancelled meanwhile: when there is room again it goes on."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    async def cancelled(call: AsyncGenerator[Any, None]) -> None:
        await anext(call)
        await call.aclose()

    async def main() -> None:
        async with fitting(data=tmp_path / "data") as fits:
            spec = fits.spec(*POINTS, name="s")
            with monkeypatch.context() as patch:
                patch.setattr(*write, full)
                with pytest.raises(LimitExceededError, match="is full"):
                    await fits.sweep(spec, same_sign())
                with pytest.raises(LimitExceededError, match="is full"):
                    await cancelled(fits.probing.sweep(spec, given(same_sign()), "test"))
            probes, _ = await fits.sweep(spec, same_sign())
            assert set(probes) == set(POINTS)

    asyncio.run(main())


def test_a_model_that_is_unloaded_takes_its_sweeps_along(fitting: Serve, tmp_path: Path) -> None:
    """Their activations and what was known of them."""
    data = tmp_path / "data"

    async def main() -> None:
        async with fitting(data=data, max_fits=1) as fits:
            await until_a_probe(fits, same_sign())
            assert "sweep.json" in left_in(data / "sweeps")
            await fits.services.models.UnloadModel(UnloadModelRequest(model="model"), None)
            assert not left_in(data / "sweeps")

    asyncio.run(main())


def test_rows_come_one_batch_ahead_and_no_further(fitting: Serve) -> None:
    """A caller's data set is never read into memory whole."""

    async def main() -> None:
        async with fitting() as fits:
            read = 0

            async def counted() -> AsyncIterator[ProbeBatch]:
                nonlocal read
                for batch in same_sign(1000, batch=10):
                    read += 1
                    yield batch

            async with aclosing(fits.probing.fit(fits.spec("h1", name="p"), counted(), "test")) as events:
                async for event in events:
                    if isinstance(event, Progress) and event.stage == "capture":
                        await asyncio.sleep(0.001)
                        assert read <= event.row_count // 10 + 1

    asyncio.run(main())
