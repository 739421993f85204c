"""Outputs that onnxruntime writes into memory of the caller's."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TypeProto, helper, numpy_helper

from onnxscope_server.domain import DataType, Segment
from onnxscope_server.errors import BoundRunFailedError, RunCancelledError
from onnxscope_server.run.opening import Opening
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Session
from onnxscope_server.run.values import DTYPES

Make = Callable[..., Any]
Tensor = Callable[..., TypeProto]
X = np.arange(6, dtype=np.float32).reshape(2, 3)
# onnxruntime computes nothing with the others
COMPUTED = [
    kind for kind in DataType if kind < DataType.UINT4 and kind not in (DataType.COMPLEX64, DataType.COMPLEX128)
]


@pytest.fixture(scope="module")
def shapes(parsed: Callable[[str], bytes]) -> Any:
    """Gives outputs whose shapes depend on the contents of x [n] and on flag, with a scalar beside them."""
    graph = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        shapes (float[n] x, bool flag, int64 trips) =>
            (float[m] y, int64[one, k] places, float sum, float[i, n] steps, float[o, n] scanned) {
            places = NonZero(x)
            sum = ReduceSum<keepdims = 0>(x)
            y = If(flag) <
                then_branch = doubled () => (float[m] p) { p = Add(x, x) },
                else_branch = twice () => (float[m] q) { q = Concat<axis = 0>(x, x) }>
            on = Constant<value = bool {1}>()
            last, steps = Loop(trips, on, x) <body = step (int64 i, bool go, float[n] a)
                => (bool more, float[n] b, float[n] kept) { more = Identity(go) b = Add(a, a) kept = Identity(b) }>
            end, scanned = Scan<num_scan_inputs = 1, body = add (float[n] c, float[n] d)
                => (float[n] e, float[n] f) { e = Add(c, d) f = Identity(e) }>(x, steps)
        }"""
    )
    outputs = ("y", "places", "sum", "steps", "scanned")
    segment = Segment(graph, None, {}, outputs, ("x", "flag", "trips"), {}, 6)
    return Session(segment, Opening(intra_op_threads=1), exact=False)


def _feeds(*, flag: bool = True) -> dict[str, Any]:
    return {"x": np.array([1, 0, 3], np.float32), "flag": np.array(flag), "trips": np.array(2)}


def _plain(shapes: Any) -> dict[str, Any]:
    return dict(shapes.run(_feeds(), shapes.segment.outputs))


@pytest.mark.parametrize("data_type", COMPUTED, ids=lambda kind: kind.name.lower())
def test_every_type_is_written_into_the_callers_array(make_session: Make, tensor: Tensor, data_type: DataType) -> None:
    """Bit for bit what comes without; text comes in an array of its own."""
    session = make_session([helper.make_node("Identity", ["x"], ["y"])], {"x": tensor(data_type, ["n"])}, {"y": None})
    if data_type is DataType.STRING:
        text = np.array(["a", "ü"], object)
        own = np.empty(2, object)
        got = session.run({"x": text}, ["y"], into={"y": own})["y"]
        assert got.tolist() == text.tolist()
        assert got is not own
        return
    given = (np.arange(5) % 2).astype(DTYPES[data_type])
    own = np.zeros(5, DTYPES[data_type])
    assert session.run({"x": given}, ["y"], into={"y": own})["y"] is own
    assert own.tobytes() == given.tobytes()


@pytest.mark.parametrize("data_type", [DataType.INT4, DataType.UINT4], ids=lambda kind: kind.name.lower())
def test_packed_types_are_never_bound(make_session: Make, tensor: Tensor, data_type: DataType) -> None:
    """They come in arrays of their own, an element a byte."""
    node = helper.make_node("Cast", ["x"], ["y"], to=int(data_type))
    session = make_session([node], {"x": tensor(DataType.FLOAT32, [3])}, {"y": None})
    own = np.zeros(3, DTYPES[data_type])
    got = session.run({"x": np.array([1, 2, 3], np.float32)}, ["y"], into={"y": own})["y"]
    assert got is not own
    assert got.tolist() == [1, 2, 3]


def test_what_cannot_be_bound_comes_as_ever(make_session: Make, tensor: Tensor) -> None:
    """Sequences, optionals, arrays of another type, strided or read-only ones, and those without elements."""
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("SequenceConstruct", ["y"], ["list"]),
        helper.make_node("Optional", ["y"], ["maybe"]),
    ]
    session = make_session(nodes, {"x": tensor(1, ["r", "c"])}, {"y": None, "list": None, "maybe": None})
    fixed = np.zeros((2, 3), np.float32)
    fixed.flags.writeable = False
    for own in (np.zeros((2, 3)), np.zeros((2, 6), np.float32)[:, ::2], fixed):
        wanted = {"y": own, "list": np.zeros((2, 3), np.float32), "maybe": np.zeros((2, 3), np.float32)}
        got = session.run({"x": X}, ["y", "list", "maybe"], into=wanted)
        assert got["y"] is not own
        np.testing.assert_array_equal(got["y"], -X)
        np.testing.assert_array_equal(got["list"][0], -X)
        np.testing.assert_array_equal(got["maybe"], -X)
    own = np.zeros((2, 3), np.float32)
    got = session.run({"x": X}, ["y", "list", "maybe"], into={"y": own, "unknown": own})
    assert got["y"] is own
    np.testing.assert_array_equal(got["list"][0], own)
    empty = np.zeros((0, 3), np.float32)
    assert session.run({"x": X[:0]}, ["y"], into={"y": empty})["y"].shape == (0, 3)


def test_text_among_the_inputs_leaves_all_unbound(make_session: Make, tensor: Tensor) -> None:
    """Such a run goes another way; its values are right."""
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
    session = make_session(nodes, {"x": tensor(1, [2, 3]), "t": tensor(8, [1])}, {"y": None, "u": None})
    own = np.zeros((2, 3), np.float32)
    got = session.run({"x": X, "t": np.array(["a"], object)}, ["y", "u"], into={"y": own})
    assert got["y"] is not own
    np.testing.assert_array_equal(got["y"], -X)


def test_an_output_that_is_an_input_or_a_weight(make_session: Make, tensor: Tensor) -> None:
    """The input passed through comes as a copy, as onnxruntime leaves the array unwritten; the weight is written."""
    weight = numpy_helper.from_array(np.full((2, 3), 5, np.float32), "w")
    kinds = {"x": tensor(1, [2, 3])}
    session = make_session([], kinds, {"x": tensor(1, [2, 3]), "w": tensor(1, [2, 3])}, [weight])
    into = {"x": np.zeros((2, 3), np.float32), "w": np.zeros((2, 3), np.float32)}
    got = session.run({"x": X}, ["x", "w"], into=into)
    np.testing.assert_array_equal(got["x"], X)
    assert not np.may_share_memory(got["x"], X)
    assert got["w"] is into["w"]
    np.testing.assert_array_equal(got["w"], np.full((2, 3), 5, np.float32))


def test_shapes_that_the_run_finds_out(shapes: Any) -> None:
    """Outputs of If, Loop, Scan and NonZero are written where their arrays fit."""
    plain = shapes.run(_feeds(), shapes.segment.outputs)
    into = {name: np.zeros_like(value) for name, value in plain.items()}
    got = shapes.run(_feeds(), shapes.segment.outputs, into=into)
    for name, value in plain.items():
        assert got[name] is into[name]
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("name", ["y", "places", "steps", "scanned"])
@pytest.mark.parametrize("change", [-1, 1], ids=["too small", "too large"])
def test_a_wrong_shape_fails_and_harms_nothing(shapes: Any, name: str, change: int) -> None:
    """Nothing is written beside the array, and the run succeeds without it."""
    plain = shapes.run(_feeds(), shapes.segment.outputs)
    right = plain[name].shape
    around = np.full(4096, 77, plain[name].dtype)
    wrong = (*right[:-1], right[-1] + change)
    own = around[1024 : 1024 + int(np.prod(wrong))].reshape(wrong)
    with pytest.raises(BoundRunFailedError):
        shapes.run(_feeds(), shapes.segment.outputs, into={name: own})
    assert (around[:1024] == 77).all()
    assert (around[1024 + own.size :] == 77).all()
    again = shapes.run(_feeds(), shapes.segment.outputs)
    np.testing.assert_array_equal(again[name], plain[name])


def test_the_branch_decides_the_shape(shapes: Any) -> None:
    """An array that fits one branch fails in the other."""
    own = np.zeros(3, np.float32)
    assert shapes.run(_feeds(), ["y"], into={"y": own})["y"] is own
    with pytest.raises(BoundRunFailedError, match="6"):
        shapes.run(_feeds(flag=False), ["y"], into={"y": own})


async def test_a_runner_passes_the_arrays_on(shapes: Any, endless: Session) -> None:
    """And says of a run that was ended that it was ended."""
    runner = Runner(1, 4)
    own = np.zeros((), np.float32)
    got = await runner.run(shapes, _feeds(), ["sum"], {"sum": own})
    assert got["sum"] is own
    assert own == 4
    forever = {"n": np.array(1 << 60), "x": np.eye(2, dtype=np.float32)}
    task = asyncio.create_task(runner.run(endless, forever, ["y"], {"y": np.zeros((2, 2), np.float32)}))
    await asyncio.sleep(0.1)
    runner.terminate()
    with pytest.raises(RunCancelledError):
        await task
    await runner.close()


def test_runs_that_write_into_the_same_arrays_or_others(shapes: Any) -> None:
    """What one run was told says nothing of where the next writes, whatever other runs go on; inputs are let go of."""
    first, second = ({name: np.zeros_like(value) for name, value in _plain(shapes).items()} for _ in range(2))
    names = list(shapes.segment.outputs)
    for into in (first, first, second, first, {}):
        for array in (*first.values(), *second.values()):
            array[...] = 0
        x: Any = np.array(_feeds()["x"])
        held = weakref.ref(x)
        got, handles = shapes.run_on({**_feeds(), "x": x}, names, None, into, names)
        del x
        gc.collect()
        assert held() is None
        for name, want in _plain(shapes).items():
            np.testing.assert_array_equal(got[name], want)
            np.testing.assert_array_equal(handles[name].ort_value.numpy(), want)
            assert not into or got[name] is into[name]


def test_what_a_run_handed_over_is_its_own(shapes: Any) -> None:
    """Another run that writes elsewhere, with what the first was bound with, does not move it."""
    names = list(shapes.segment.outputs)
    first, second = ({name: np.zeros_like(value) for name, value in _plain(shapes).items()} for _ in range(2))
    _, handles = shapes.run_on(_feeds(), names, None, first, names)
    _, others = shapes.run_on(_feeds(), names, None, second, names)
    for name in names:
        assert handles[name].ort_value.data_ptr() == first[name].ctypes.data
        assert others[name].ort_value.data_ptr() == second[name].ctypes.data
