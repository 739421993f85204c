"""Runs that the event loop does itself, as long as they are brief."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxscope_server.app import Services
from onnxscope_server.domain import CaptureSpec
from onnxscope_server.errors import InputMismatchError, RunFailedError
from onnxscope_server.pipeline.brief import BriefRuns
from onnxscope_server.pipeline.running import Call
from onnxscope_server.result_domain import Result
from onnxscope_server.run.session import Session
from onnxscope_server.settings import EmbeddedSettings

LEARNING = 12
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _model(folder: Path, *nodes: onnx.NodeProto) -> Path:
    graph = helper.make_graph(
        [*nodes, helper.make_node("Mul", ["h", "h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("three", TensorProto.INT64, [2], [3, 3])],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    """A model whose runs take some microseconds."""
    return _model(tmp_path, helper.make_node("Relu", ["x"], ["h"]))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes of each run whether the loop did it; the tests' loops run in the main thread."""
    seen: list[bool] = []
    run_on = Session.run_on

    def noted(self: Session, *args: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return run_on(self, *args)

    monkeypatch.setattr(Session, "run_on", noted)
    # nor does anything run beside these
    monkeypatch.setattr(BriefRuns, "wants_single", lambda *_: False)
    return seen


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes runs take what its only entry says, by all clocks that runs are measured with."""
    taken = [0.0]
    elapsed = [0.0]

    def clock() -> float:
        elapsed[0] += taken[0]
        return elapsed[0]

    monkeypatch.setattr(
        "onnxscope_server.pipeline.running.time", SimpleNamespace(perf_counter=clock, thread_time=clock)
    )
    return taken


def _with(path: Path, work: Callable[[Callable[[Any], Any]], Any]) -> None:
    """Does work with a function that captures `h` once."""

    async def begin() -> None:
        services = Services.make(EmbeddedSettings())
        try:
            digest = (await services.models.add_file(path, "model", "")).digest
            captures = services.captures._captures
            prepared = await captures.prepare(CaptureSpec(digest, selectors=("h",)))

            async def capture(x: Any) -> Result:
                return await captures.run(prepared, Call({"x": x}, {}))

            await work(capture)
        finally:
            await services.close()

    asyncio.run(begin())


@pytest.mark.usefixtures("seconds")
def test_brief_runs_need_no_thread(relu: Path, threads: list[bool]) -> None:
    """After a few brief runs the loop does them, with the same result; other shapes have to be learned anew."""

    async def work(capture: Any) -> None:
        results = [await capture(X) for _ in range(LEARNING)]
        assert not threads[0]
        assert threads[-1]
        assert all(np.array_equal(one.activations["h"], X) for one in results)
        assert results[-1].timings.keys() == results[0].timings.keys()
        await capture(X[:1])
        assert not threads[-1]

    _with(relu, work)


def test_a_session_whose_runs_turn_slow_goes_back_to_threads(
    relu: Path, threads: list[bool], seconds: list[float]
) -> None:
    """One slow run is enough to have the next in a thread, and a few brief ones bring it back."""

    async def work(capture: Any) -> None:
        for _ in range(LEARNING):
            await capture(X)
        assert threads[-1]
        seconds[0] = 0.01
        await capture(X)
        assert threads[-1]
        for _ in range(LEARNING):
            await capture(X)
        assert not any(threads[-LEARNING:])
        seconds[0] = 0.0
        for _ in range(LEARNING):
            await capture(X)
        assert threads[-1]

    _with(relu, work)


def test_one_run_that_was_held_up(relu: Path, threads: list[bool], seconds: list[float]) -> None:
    """A thread does the next run; where that is brief, the loop does those behind it."""

    async def work(capture: Any) -> None:
        for _ in range(LEARNING):
            await capture(X)
        seconds[0] = 0.01
        await capture(X)
        seconds[0] = 0.0
        await capture(X)
        await capture(X)
        assert threads[-3:] == [True, False, True]

    _with(relu, work)


def test_slow_runs_stay_in_threads(relu: Path, threads: list[bool], seconds: list[float]) -> None:
    """The loop never does a run of a kind that was not brief."""
    seconds[0] = 0.001

    async def work(capture: Any) -> None:
        for _ in range(LEARNING):
            await capture(X)
        assert not any(threads)

    _with(relu, work)


@pytest.mark.usefixtures("seconds")
def test_values_may_not_say_how_long_a_run_takes(tmp_path: Path, threads: list[bool]) -> None:
    """However brief its runs were, the next run of a model may take for ever where values say how much it computes."""
    path = _model(tmp_path, helper.make_node("Tile", ["x", "three"], ["h"]))

    async def work(capture: Any) -> None:
        for _ in range(LEARNING):
            await capture(X)
        assert not any(threads)

    _with(path, work)


@pytest.mark.usefixtures("seconds")
def test_large_results_stay_in_threads(relu: Path, threads: list[bool]) -> None:
    """They are best written into memory of the caller's, which may have to be made."""

    async def work(capture: Any) -> None:
        for _ in range(LEARNING):
            await capture(np.zeros((10_000, 3), np.float32))
        assert not any(threads)

    _with(relu, work)


@pytest.mark.usefixtures("seconds")
def test_a_brief_run_fails_as_others_do(relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the run's own error."""

    async def work(capture: Any) -> None:
        for _ in range(LEARNING):
            await capture(X)

        def fail(*_: Any) -> Any:
            raise RunFailedError("it failed", detail="it failed")

        with monkeypatch.context() as patched:
            patched.setattr(Session, "run_on", fail)
            with pytest.raises(RunFailedError, match="it failed"):
                await capture(X)

    _with(relu, work)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The session of each run."""
    seen: list[Session] = []
    run_on = Session.run_on

    def noted(self: Session, *args: Any) -> Any:
        seen.append(self)
        return run_on(self, *args)

    monkeypatch.setattr(Session, "run_on", noted)
    return seen


async def _until(capture: Any, done: Callable[[], bool]) -> None:
    for _ in range(500):
        await capture(X)
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


@pytest.mark.usefixtures("seconds")
def test_brief_runs_come_to_wake_no_other_threads(relu: Path, sessions: list[Session]) -> None:
    """A session that computes in one thread, and gives the same bits, does them then."""

    async def work(capture: Any) -> None:
        first = (await capture(X)).activations["h"]
        one = sessions[0]
        # it is tried once beside the first before it serves anybody
        await _until(capture, lambda: sessions[-1] is not one and sum(found is not one for found in sessions) > 3)
        result = await capture(X)
        np.testing.assert_array_equal(result.activations["h"], first)
        assert sessions[-1] is not one

    _with(relu, work)


@pytest.mark.usefixtures("seconds")
def test_other_bits_are_not_taken(tmp_path: Path, sessions: list[Session]) -> None:
    """Where the two don't agree to the last bit, as where chance decides, the first session goes on."""
    path = _model(tmp_path, helper.make_node("RandomNormalLike", ["x"], ["h"]))

    async def work(capture: Any) -> None:
        await capture(X)
        one = sessions[0]
        await _until(capture, lambda: any(found is not one for found in sessions))
        for _ in range(10):
            await capture(X)
            await asyncio.sleep(0.005)
        assert sum(found is not one for found in sessions) == 1

    _with(path, work)


@pytest.mark.usefixtures("seconds")
def test_one_session_without_threads_serves_all_shapes(relu: Path, sessions: list[Session]) -> None:
    """However many shapes inputs have; it counts among the chain's sessions, whose memory is bounded."""

    async def work(capture: Any) -> None:
        one = (await capture(X), sessions[0])[1]
        for rows in (1, 2, 3):
            x = np.ones((rows, 3), np.float32)
            for _ in range(500):
                await capture(x)
                if sessions[-1] is not one:
                    break
                await asyncio.sleep(0.005)
            assert sessions[-1] is not one
        assert len({id(found) for found in sessions}) == 2

    _with(relu, work)


def test_a_wrong_type_is_told_in_the_words_of_any_run(relu: Path) -> None:
    """Inputs of a kind that has run are not checked again before they run."""

    async def begin() -> None:
        services = Services.make(EmbeddedSettings())
        try:
            digest = (await services.models.add_file(relu, "model", "")).digest
            servicer = services.captures
            prepared = await servicer._captures.prepare(CaptureSpec(digest, selectors=("h",)))

            async def told(x: Any) -> str:
                with pytest.raises(InputMismatchError) as error:
                    await servicer._batching.run(prepared, Call({"x": x}, {}), "a")
                return error.value.message

            wrong = X.astype(np.float64)
            before = await told(wrong)
            for _ in range(LEARNING):
                await servicer._batching.run(prepared, Call({"x": X}, {}), "a")
            assert await told(wrong) == before
            assert "its dtype is float64, not float32" in before
        finally:
            await services.close()

    asyncio.run(begin())
