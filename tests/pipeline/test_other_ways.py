"""A plan that fails in the way in which it was rewritten runs in another: nothing comes twice, nothing is missing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser
from tests.cut_everywhere import cut_everywhere

from onnxscope_server.app import Services
from onnxscope_server.domain import CaptureSpec, OutputMode, Plan, Segment
from onnxscope_server.errors import ModelInvalidError, OutOfMemoryError, RunFailedError
from onnxscope_server.pipeline import capture as module
from onnxscope_server.pipeline.fidelity import Verdicts
from onnxscope_server.pipeline.running import Call
from onnxscope_server.result_domain import Fidelity, Result
from onnxscope_server.rewrite.build import build_segments
from onnxscope_server.run.chain import Chain
from onnxscope_server.run.session import Session
from onnxscope_server.settings import EmbeddedSettings

X = np.arange(1, 5, dtype=np.float32)
# what s is in the body has another shape in every iteration, which nothing says
_VARYING = """(float[4] x, int64 n) => (float[4] y) {
    a = Neg (x)  b = Abs (a)  c = Neg (b)
    t = Constant <value = bool {1}> ()  z = Constant <value = int64[1] {0}> ()  k = Constant <value = int64[1] {1}> ()
    l = Loop (n, t, c) <body = trip (int64 i, bool go, float[4] v) => (bool on, float[4] w) {
        on = Identity (go)  e = Add (i, k)  s = Slice (v, z, e)  r = ReduceSum <keepdims = 0> (s)  w = Add (v, r) }>
    y = Neg (l) }"""
_STRAIGHT = "(float[4] x) => (float[4] y) { a = Neg (x)  b = Abs (a)  c = Neg (b)  y = Abs (c) }"


@pytest.fixture(autouse=True)
def cut() -> Iterator[None]:
    """All plans are cut wherever that can be."""
    with cut_everywhere():
        yield


class Builds:
    """Builds of segments, some of which do not work.

    Args:
        breaks: says of a plan which of its segments to break; None for none.
    """

    def __init__(self, breaks: Callable[[Plan], int | None]) -> None:
        self.plans: list[Plan] = []
        self._breaks = breaks

    def __call__(self, model: Any, plan: Plan, files: Mapping[str, bytes]) -> Sequence[Segment]:
        """Builds."""
        self.plans.append(plan)
        segments = list(build_segments(model, plan, files))
        at = self._breaks(plan)
        if at is not None:
            segments[at] = replace(segments[at], graph=b"garbage")
        return segments


@asynccontextmanager
async def _served(folder: Path, text: str) -> AsyncIterator[tuple[Services, str]]:
    """Gives services that have a model, and its digest."""
    path = folder / "model.onnx"
    path.write_bytes(parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {text}').SerializeToString())
    services = Services.make(EmbeddedSettings(intra_op_threads=1))
    try:
        yield services, (await services.models.add_file(path, "model", "")).digest
    finally:
        await services.close()


def _capture(folder: Path, text: str, calls: Sequence[dict[str, Any]], outputs: OutputMode) -> list[list[Result]]:
    """Captures everything, once for each call."""

    async def work() -> list[list[Result]]:
        async with _served(folder, text) as (services, digest):
            spec = CaptureSpec(digest, selectors=("*",), outputs=outputs)
            return [await _parts(services, spec, inputs) for inputs in calls]

    return asyncio.run(work())


async def _parts(services: Services, spec: CaptureSpec, inputs: dict[str, Any]) -> list[Result]:
    captures = services.captures._captures
    async with aclosing(captures.parts(await captures.prepare(spec), Call(inputs, {}))) as parts:
        return [part async for part in parts]


def _once(parts: Sequence[Result]) -> dict[tuple[str, str], Any]:
    """Returns all values; each comes once, and only the last part has timings."""
    assert [bool(part.timings) for part in parts] == [False] * (len(parts) - 1) + [True]
    groups = [("activation", part.activations) for part in parts] + [("output", part.outputs) for part in parts]
    counts = Counter((kind, name) for kind, group in groups for name in group)
    assert set(counts.values()) == {1}
    return {(kind, name): value for kind, group in groups for name, value in group.items()}


def _check_straight(parts: Sequence[Result], outputs: OutputMode) -> None:
    values = _once(parts)
    wanted = {("activation", name): value for name, value in {"a": -X, "b": X, "c": -X, "y": X}.items()}
    wanted |= {("output", "y"): X} if outputs is not OutputMode.NONE else {}
    assert set(values) == set(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(values[key], value)


@pytest.mark.parametrize("broken", [1, 2, 3])
@pytest.mark.parametrize("outputs", [OutputMode.NONE, OutputMode.INSTRUMENTED])
def test_a_segment_that_fails_is_made_up_for_by_the_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: int, outputs: OutputMode
) -> None:
    """What came before is not sent again; later calls run whole at once."""
    builds = Builds(lambda plan: None if plan.whole else broken)
    monkeypatch.setattr(module, "build_segments", builds)
    first, *later = _capture(tmp_path, _STRAIGHT, [{"x": X}] * 3, outputs)
    _check_straight(first, outputs)
    assert len(first) == broken + 1
    for parts in later:
        _check_straight(parts, outputs)
        assert len(parts) == 1
    assert [plan.whole for plan in builds.plans] == [False, True]


def test_what_fails_in_every_way_fails_with_the_first_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After what came before it; and the next call tries again."""
    monkeypatch.setattr(module, "build_segments", Builds(lambda plan: 0 if plan.whole else 2))
    for _ in range(2):
        with pytest.raises(ModelInvalidError):
            _capture(tmp_path, _STRAIGHT, [{"x": X}], OutputMode.NONE)


@pytest.mark.parametrize("outputs", list(OutputMode))
def test_shapes_that_vary_in_a_body_are_found_out_while_it_runs(tmp_path: Path, outputs: OutputMode) -> None:
    """Cut, then whole, then without relying on shapes: what the first segments brought stays, the rest follows."""
    inputs = {"x": X, "n": np.array(3)}
    first, second = _capture(tmp_path, _VARYING, [inputs] * 2, outputs)
    one, two = _once(first), _once(second)
    assert set(one) == set(two)
    assert ("activation", "Loop_0::body::s") in one
    assert (("output", "y") in one) == (outputs is not OutputMode.NONE)
    for key, value in one.items():
        if isinstance(value, list):
            for mine, other in zip(value, two[key], strict=True):
                np.testing.assert_array_equal(mine, other)
        else:
            np.testing.assert_array_equal(value, two[key])
    assert [len(value) for value in one["activation", "Loop_0::body::s"]] == [1, 2, 3]
    np.testing.assert_array_equal(one["activation", "y"], -one["activation", "Loop_0::body::w"][-1])
    np.testing.assert_array_equal(one["activation", "a"], -X)


def test_a_call_with_wrong_contents_fails_and_the_next_is_served(tmp_path: Path) -> None:
    """Where the model itself fails, so do all ways; the plan is cut as before."""
    text = "(float[4] x, int64[2] n) => (float[R, C] y) { a = Neg (x)  b = Abs (a)  y = Reshape (b, n) }"
    good: dict[str, Any] = {"x": X, "n": np.array([2, 2])}
    bad = good | {"n": np.array([3, 3])}

    async def work() -> None:
        async with _served(tmp_path, text) as (services, digest):
            spec = CaptureSpec(digest, selectors=("*",))
            before = await _parts(services, spec, good)
            with pytest.raises(RunFailedError, match="Reshape"):
                await _parts(services, spec, bad)
            after = await _parts(services, spec, good)
            assert len(before) == len(after) == 4
            for key, value in _once(before).items():
                np.testing.assert_array_equal(value, _once(after)[key])

    asyncio.run(work())


@pytest.mark.parametrize("whole_too", [False, True])
def test_a_cut_that_costs_the_outputs_is_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole_too: bool
) -> None:
    """Where one segment leaves the outputs as they are and several don't; where neither does, they stay several."""

    async def verdict(_: Verdicts, plain: Chain, watched: Chain) -> Fidelity:
        assert len(plain.segments) == 1
        return Fidelity(whole_too or len(watched.segments) > 1, ("Neg",))

    monkeypatch.setattr(Verdicts, "of", verdict)

    async def work() -> None:
        async with _served(tmp_path, _STRAIGHT) as (services, digest):
            captures = services.captures._captures
            for _ in range(2):
                prepared = await captures.prepare(CaptureSpec(digest, selectors=("*",)))
                assert prepared.watched is not None
                assert (len(prepared.watched.segments) > 1) is whole_too
                assert (prepared.plain is not None) is whole_too
                assert prepared.fidelity.fusion_blocked is whole_too
                parts = await _parts(services, CaptureSpec(digest, selectors=("*",)), {"x": X})
                _check_straight(parts, OutputMode.UNMODIFIED)

    asyncio.run(work())


def test_a_lack_of_memory_is_no_matter_of_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing else is tried: the whole graph would need more."""
    builds = Builds(lambda _: None)
    monkeypatch.setattr(module, "build_segments", builds)
    original = Session.run_on

    def run_on(self: Session, *rest: Any, **more: Any) -> Any:
        if "c" in self.segment.captures:
            raise OutOfMemoryError("there is no more memory")
        return original(self, *rest, **more)

    monkeypatch.setattr(Session, "run_on", run_on)
    with pytest.raises(OutOfMemoryError):
        _capture(tmp_path, _STRAIGHT, [{"x": X}], OutputMode.NONE)
    assert [plan.whole for plan in builds.plans] == [False]


def test_what_was_prepared_before_runs_in_the_way_that_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stream prepares once: none of its later batches fails first."""
    failed: list[str] = []
    original = Session.run_on

    def run_on(self: Session, *rest: Any, **more: Any) -> Any:
        if "c" in self.segment.captures and self.segment.carried:
            failed.append("c")
            raise RunFailedError("it failed", detail="it failed")
        return original(self, *rest, **more)

    monkeypatch.setattr(Session, "run_on", run_on)

    async def work() -> None:
        async with _served(tmp_path, _STRAIGHT) as (services, digest):
            captures = services.captures._captures
            prepared = await captures.prepare(CaptureSpec(digest, selectors=("*",), outputs=OutputMode.NONE))
            for _ in range(3):
                async with aclosing(captures.parts(prepared, Call({"x": X}, {}))) as parts:
                    _check_straight([part async for part in parts], OutputMode.NONE)

    asyncio.run(work())
    assert failed == ["c"]
