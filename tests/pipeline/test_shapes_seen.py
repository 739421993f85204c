"""Memory for outputs is ready where their shapes are known, and values are right where one run misleads the next."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscope_server.domain import Array, DataType
from onnxscope_server.errors import RunFailedError
from onnxscope_server.pipeline import running
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.shapes_seen import ShapesSeen, input_shapes
from onnxscope_server.result_domain import Destination, Result
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.values import DTYPES

Make = Callable[..., Any]
_COUNTED = """(float[6] x) => (int64[1, N] y) {
    a = Neg (x)  z = NonZero (a)  f = Cast <to = 1> (z)  g = Abs (f)  y = NonZero (g) }"""
_PLAIN = "(float[N] x) => (float[N] y) { a = Neg (x)  y = Abs (a) }"
_FAILING = "(float[4] x, int64[2] n) => (float[R, C] y) { a = Neg (x)  y = Reshape (a, n) }"

# operators whose outputs' shapes depend on what is in x and k, not on their shapes
_OPERATORS = {
    "NonZero": "z = NonZero (x)",
    "Compress": "b = Cast <to = 9> (x)  z = Compress (x, b)",
    "Unique": "u, i, j, c = Unique (x)  z = Neg (u)",
    "Reshape": "a = Neg (x)  z = Reshape (a, k)",
    "Reshape of an input": "z = Reshape (x, k)",
    "Expand": "a = ReduceSum <keepdims = 0> (x)  z = Expand (a, k)",
    "ConstantOfShape": "z = ConstantOfShape (k)",
    "Loop": """i = Constant <value_int = 0> ()  n = Gather (k, i)
        s, z = Loop (n, , x) <body = trip (int64 i, bool go, float[6] v) => (bool on, float[6] w, float[6] u) {
            on = Identity (go)  w = Neg (v)  u = Abs (w) }>""",
    "If": """i = Constant <value_int = 0> ()  n = Gather (k, i)  c = Cast <to = 9> (n)
        z = If (c) <then_branch = t () => (d) { d = Concat <axis = 0> (x, x) },
                    else_branch = e () => (f) { f = Abs (x) }>""",
}
_SHAPES = [(1, 6), (6, 1), (2, 3), (3, 2)]


class Caller:
    """Offers memory full of what no value is."""

    def __init__(self) -> None:
        self.offered: list[tuple[DataType, tuple[int, ...]]] = []
        self.was_asked = threading.Event()

    def memory(self, destination: Destination) -> Array:
        """Offers an array."""
        self.offered.append((destination.data_type, destination.shape))
        self.was_asked.set()
        return np.full(destination.shape, 77, DTYPES[destination.data_type])


async def _run(runner: Runner, made: Any, inputs: dict[str, Any], seen: ShapesSeen, caller: Caller) -> list[Result]:
    async with aclosing(running.run(runner, *made, Call(inputs, {}, caller.memory), seen)) as parts:
        return [part async for part in parts]


def _ran(work: Callable[[Runner], Any]) -> None:
    async def all_of_it() -> None:
        runner = Runner(1, 8)
        try:
            await work(runner)
        finally:
            await runner.close()

    asyncio.run(all_of_it())


@settings(max_examples=25, deadline=None)
@given(patterns=st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6), min_size=2, max_size=6))
def test_shapes_that_depend_on_contents_never_give_wrong_bytes(chain_of: Make, patterns: list[list[float]]) -> None:
    """Inputs of one shape, and outputs of another one every time, none at all among them."""
    made = chain_of(_COUNTED)
    seen = ShapesSeen()

    async def work(runner: Runner) -> None:
        for pattern in patterns:
            x = np.array(pattern, np.float32)
            found: dict[str, Any] = {}
            for part in await _run(runner, made, {"x": x}, seen, Caller()):
                found |= part.activations
            places = np.nonzero(-x)
            np.testing.assert_array_equal(found["a"], -x)
            np.testing.assert_array_equal(found["z"], places)
            np.testing.assert_array_equal(found["f"], np.array(places, np.float32))
            np.testing.assert_array_equal(found["g"], np.array(places, np.float32))
            np.testing.assert_array_equal(found["y"], np.nonzero(np.array(places)))

    _ran(work)


@settings(max_examples=60, deadline=None)
@given(
    operator=st.sampled_from(sorted(_OPERATORS)),
    calls=st.lists(
        st.tuples(
            st.lists(st.sampled_from([0.0, 1.0, -3.0]), min_size=6, max_size=6),
            st.sampled_from([*_SHAPES, (0, 6)]),
        ),
        min_size=2,
        max_size=6,
    ),
)
def test_whatever_decides_shapes_a_run_gives_what_it_gives_alone(
    chain_of: Make, operator: str, calls: list[tuple[list[float], tuple[int, int]]]
) -> None:
    """Operators that read sizes from contents, of as many elements or of others; runs that fail alone fail here too."""
    made = chain_of(f"(float[6] x, int64[2] k) => (z) {{ {_OPERATORS[operator]} }}")
    seen = ShapesSeen()

    async def work(runner: Runner) -> None:
        for x, k in calls:
            inputs: dict[str, Any] = {"x": np.array(x, np.float32), "k": np.array(k, np.int64)}
            found: list[list[Result] | str] = []
            for known, caller in ((ShapesSeen(), Caller()), (seen, Caller())):
                try:
                    found.append(await _run(runner, made, inputs, known, caller))
                except RunFailedError as error:
                    found.append(error.message)
            alone, here = (
                [part.activations for part in parts] if isinstance(parts, list) else parts for parts in found
            )
            if isinstance(alone, str):
                assert here == alone
                continue
            values: Any = {name: value for part in here for name, value in part.items()}  # type: ignore[union-attr]
            wanted: Any = {name: value for part in alone for name, value in part.items()}
            assert set(values) == set(wanted)
            for name, value in wanted.items():
                if value is None:
                    assert values[name] is None
                    continue
                assert (values[name].dtype, values[name].shape) == (value.dtype, value.shape)
                assert values[name].tobytes() == value.tobytes()

    _ran(work)


def test_shapes_are_known_from_the_second_run_on_inputs_of_the_same_shapes(chain_of: Make) -> None:
    """Those of other inputs are not taken for them."""
    made = chain_of(_PLAIN)
    seen = ShapesSeen()

    async def work(runner: Runner) -> None:
        for size, known in ((3, 0), (3, 1), (5, 0), (3, 1), (5, 1)):
            caller = Caller()
            parts = await _run(runner, made, {"x": np.ones(size, np.float32)}, seen, caller)
            assert caller.offered == [(DataType.FLOAT32, (size,))] * (2 * known)
            np.testing.assert_array_equal(parts[-1].activations["y"], np.ones(size))  # type: ignore[arg-type]

    _ran(work)


def test_a_run_that_fails_with_memory_and_without_says_nothing_about_shapes(chain_of: Make) -> None:
    """The inputs were wrong: the error is onnxruntime's, and later runs are written into memory as before."""
    made = chain_of(_FAILING, "y")
    seen = ShapesSeen()
    good, bad = ({"x": np.ones(4, np.float32), "n": np.array(shape)} for shape in ([2, 2], [3, 3]))

    async def work(runner: Runner) -> None:
        await _run(runner, made, good, seen, Caller())
        with pytest.raises(RunFailedError, match="Reshape"):
            await _run(runner, made, bad, seen, Caller())
        caller = Caller()
        await _run(runner, made, good, seen, caller)
        assert caller.offered == [(DataType.FLOAT32, (2, 2))]

    _ran(work)


def test_a_run_that_was_ended_says_nothing_about_shapes(chain_of: Make) -> None:
    """Whoever leaves while onnxruntime writes into memory takes nothing from who comes next."""
    made = chain_of(
        """(float[4] x, int64 n) => (float[4] y) {
            y = Loop (n, , x) <body = trip (int64 i, bool go, float[4] s) => (bool on, float[4] t) {
                on = Identity (go)  t = Neg (s) }> }""",
        "y",
    )
    seen = ShapesSeen()
    once, forever = ({"x": np.ones(4, np.float32), "n": np.array(trips)} for trips in (1, 1 << 60))

    async def work(runner: Runner) -> None:
        await _run(runner, made, once, seen, Caller())
        caller = Caller()
        endless = asyncio.ensure_future(_run(runner, made, forever, seen, caller))
        await asyncio.to_thread(caller.was_asked.wait, 5)
        await asyncio.sleep(0.05)
        endless.cancel()
        with suppress(asyncio.CancelledError):
            await endless
        await runner.during(lambda _: None)
        caller = Caller()
        (part,) = await _run(runner, made, once, seen, caller)
        np.testing.assert_array_equal(part.outputs["y"], -np.ones(4))  # type: ignore[arg-type]
        assert len(caller.offered) == 1

    _ran(work)


def test_who_gave_wrong_shapes_once_gets_no_memory_any_more(chain_of: Make) -> None:
    """Trying it again and again would cost a run each time; other sessions of the chain still get it."""
    made = chain_of(_COUNTED, "a", "z", "f", "g")
    seen = ShapesSeen()

    async def work(runner: Runner) -> None:
        offered = []
        for ones in (3, 5, 2, 5):
            caller = Caller()
            x = np.array([1] * ones + [0] * (6 - ones), np.float32)
            await _run(runner, made, {"x": x}, seen, caller)
            offered.append(len(caller.offered))
        assert offered[0] == 0
        assert offered[1] > offered[2] == offered[3]

    _ran(work)


def test_what_is_known_is_bounded_and_goes_with_the_session(chain_of: Make) -> None:
    """However many shapes inputs have, and however many sessions there were."""
    chain, _ = chain_of(_PLAIN)
    seen = ShapesSeen()
    session = chain.session(0)
    caller = Caller()
    for size in range(1, 200):
        x: Any = np.ones(size, np.float32)
        seen.learn(session, input_shapes({"x": x}), {"a": x})
    known = [bool(seen.memory(session, (("x", (size,)),), caller.memory, ["a"])) for size in range(1, 200)]
    assert sum(known) < 100
    assert known[-1]
    del session, chain
    gc.collect()
    assert not seen._seen


def test_memory_that_there_is_not_is_done_without(chain_of: Make) -> None:
    """A caller may say so for each array."""
    chain, _ = chain_of(_PLAIN)
    seen = ShapesSeen()
    session = chain.session(0)
    given = input_shapes({"x": np.ones(3, np.float32), "text": [np.ones(2)]})
    assert given == (("x", (3,)),)
    seen.learn(session, given, {"a": np.ones(3, np.float32), "s": [np.ones(2)]})
    assert seen.memory(session, given, lambda *_: None, ["a", "s", "nothing"]) == {}
    assert list(seen.memory(session, given, Caller().memory, ["a", "s", "nothing"])) == ["a"]
    seen.forget(session)
    assert seen.memory(session, given, Caller().memory, ["a"]) == {}
