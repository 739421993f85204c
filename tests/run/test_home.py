"""The core that a run is kept on."""

from __future__ import annotations

import asyncio
import os
import platform
import threading
from typing import Any

import pytest

from onnxscope_server.run import home
from onnxscope_server.run.environment import ort
from onnxscope_server.run.home import Home, first_core
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.runner import Runner

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no threads")


def _mine() -> set[int]:
    return os.sched_getaffinity(0)


@pytest.fixture
def one() -> frozenset[int]:
    """A processor of this process's."""
    return frozenset({min(_mine())})


def test_one_run_at_a_time_is_at_home(one: frozenset[int]) -> None:
    """Those beside it go where they did before; behind it so does its thread, and the next has the place."""
    before = _mine()

    async def work() -> None:
        runner = Runner(2, 10, Home(one))
        both = threading.Barrier(2)

        def run(_: Any) -> set[int]:
            both.wait(10)
            where = _mine()
            both.wait(10)
            return where

        for _ in range(3):
            places = await asyncio.gather(*(runner.during(run) for _ in range(2)))
            assert sorted(map(sorted, places)) == sorted(map(sorted, [one, before]))
        assert await runner.during(lambda _: _mine()) == one
        assert await runner.call(_mine) == before
        with pytest.raises(ZeroDivisionError):
            await runner.during(lambda _: 1 // 0)
        assert await runner.during(lambda _: _mine()) == one
        await runner.close()

    asyncio.run(work())
    assert _mine() == before


def test_without_such_a_core_nobody_is_kept() -> None:
    """Nor where the system takes the processors away."""
    before = _mine()
    for kept in (Home(), Home([max(before) + 1000])):
        with kept.taken():
            assert _mine() == before
        assert _mine() == before


def test_the_first_core_is_one_of_several(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """With all of its processors; on a machine of one core, nothing is left for the others."""
    monkeypatch.setattr(home, "_SIBLINGS", tmp_path)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    folder = tmp_path / "cpu2" / "topology"
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 4, 10, 11})
    for text, expected in {"2,10": {2, 10}, "2-3": {2, 3}, "2,66": {2}, "?": {2}}.items():
        (folder / "thread_siblings_list").write_text(f"{text}\n")
        assert first_core() == expected
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert first_core() == set()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2})
    assert first_core() == set()


def test_only_threads_that_onnxruntime_pins_leave_a_core() -> None:
    """Not those of a count that was given, nor those of an application's own options."""
    assert Opening().threads_are_pinned
    assert not Opening(intra_op_threads=2).threads_are_pinned
    assert not Opening(session_options=ort.SessionOptions()).threads_are_pinned
