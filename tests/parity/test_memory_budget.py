"""A capture that is larger than the memory budget: in groups, with the same arrays, or refused with numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

import onnxscope
from onnxscope_server.domain import Plan
from onnxscope_server.pipeline.capture import Captures

KIB = 1 << 10
Within = Callable[[int], AbstractContextManager[Any]]


@pytest.fixture(params=["embedded", "remote"])
def within(request: pytest.FixtureRequest, running_server: Any) -> Within:
    """Opens a scope with a memory budget in bytes."""

    @contextmanager
    def opened(budget: int) -> Iterator[Any]:
        if request.param == "embedded":
            with onnxscope.local(memory_budget=budget) as scope:
                yield scope
        else:
            with running_server(memory_budget=budget) as target, onnxscope.connect(target) as scope:
                yield scope

    return opened


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The addresses of every group that runs, in order."""
    seen: list[list[str]] = []
    original = Captures.run_group

    def noting(self: Captures, prepared: Any, group: Plan, *rest: Any) -> Any:
        seen.append([capture.address for capture in group.captures])
        return original(self, prepared, group, *rest)

    monkeypatch.setattr(Captures, "run_group", noting)
    return seen


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    """float32 [row, channel, height, width]."""
    return rng.random((16, 1, 8, 8), dtype=np.float32)


@pytest.fixture
def whole(digits_path: Path, images: np.ndarray) -> Any:
    """All values of the demo's model, with no limit."""
    with onnxscope.local() as scope:
        yield scope.load(digits_path).capture(images, at="*", exact=True)


def test_groups_give_what_one_run_gives(
    within: Within, run: list[list[str]], digits_path: Path, images: np.ndarray, whole: Any
) -> None:
    """Every activation and output, to the bit, in the order of the plan."""
    run.clear()
    with within(130 * KIB) as scope:
        acts = scope.load(digits_path).capture(images, at="*", exact=True)
    assert len(run) > 2
    assert [address for group in run for address in group] == list(acts) == list(whole)
    for address, array in whole.items():
        assert acts[address].dtype == array.dtype
        np.testing.assert_array_equal(acts[address], array)
    np.testing.assert_array_equal(acts.outputs["logits"], whole.outputs["logits"])


def test_with_optimisation_outputs_stay_the_unmodified_models(
    within: Within, run: list[list[str]], digits_path: Path, images: np.ndarray, whole: Any
) -> None:
    """Outputs come once, with the first group, and are bit-equal; activations agree as closely as kernels do."""
    run.clear()
    with within(130 * KIB) as scope:
        model = scope.load(digits_path)
        plain = model.run(images).outputs["logits"]
        acts = model.capture(images, at="*")
        bare = model.capture(images, at="*", outputs=False)
    assert len(run) > 4
    np.testing.assert_array_equal(acts.outputs["logits"], plain)
    assert not bare.outputs
    for address, array in whole.items():
        np.testing.assert_allclose(acts[address], array, rtol=1e-4, atol=1e-4)


def test_every_verb_keeps_to_the_budget(
    within: Within, run: list[list[str]], digits_path: Path, images: np.ndarray, whole: Any
) -> None:
    """One by one and batch by batch, the arrays are those of one run."""
    run.clear()
    with within(130 * KIB) as scope:
        model = scope.load(digits_path)
        one_by_one = list(model.capture_iter(images, at="*", exact=True))
        assert len(run) > 2
        assert [address for address, _ in one_by_one] == list(whole)
        for address, array in one_by_one:
            np.testing.assert_array_equal(array, whole[address])
        run.clear()
        parts = list(model.stream(images, at="*", exact=True, batch_size=8))
        assert len(run) > 2
    for address, array in whole.items():
        assert len(parts) == 2
        np.testing.assert_allclose(np.concatenate([part[address] for part in parts]), array, rtol=1e-5, atol=1e-6)
    assert [len(part.outputs["logits"]) for part in parts] == [8, 8]


def test_carry_works_in_groups(within: Within, run: list[list[str]], parsed: Any) -> None:
    """What is carried comes from the first group, also where the caller wants no outputs."""
    text = """<ir_version: 9, opset_import: ["" : 18]>
        total (float[row, 8] x, float[row, 8] state) => (float[row, 8] stateN)
        { a = Neg (x)  b = Neg (a)  stateN = Add (b, state) }"""
    x = np.ones((4, 8), np.float32)
    with within(x.nbytes) as scope:
        model = scope.load(parsed(text))
        batches = [{"x": x, "state": x}, {"x": x}, {"x": 2 * x}]
        found = list(model.stream(batches, at=["a", "b"], outputs=False, carry={"stateN": "state"}))
        assert run == [["a"], ["b"]] * 3
        assert [not acts.outputs for acts in found] == [True] * 3
        run.clear()
        sums = [acts["stateN"][0, 0] for acts in model.stream(batches, at="stateN", carry={"stateN": "state"})]
    assert sums == [2, 3, 5]


def test_a_value_over_the_budget_is_refused_and_the_next_call_served(
    within: Within, digits_path: Path, images: np.ndarray
) -> None:
    """The error holds the numbers; a reduction, fewer rows or another value are served."""
    with within(20 * KIB) as scope:
        model = scope.load(digits_path)
        with pytest.raises(onnxscope.LimitExceededError, match=r"20\.0 KiB, and relu1 64\.0 KiB") as refused:
            model.capture(images, at=["relu1", "logits"])
        assert refused.value.metadata == {"setting": "memory_budget", "limit": "20480", "got": "65536"}
        with pytest.raises(onnxscope.LimitExceededError):
            list(model.stream(images, at="relu1"))
        assert model.capture(images, at="logits")["logits"].shape == (16, 10)
        assert model.capture(images, at="relu1", reduce="mean")["relu1"].shape == (16, 16)
        assert [len(acts["relu1"]) for acts in model.stream(images, at="relu1", batch_size=4)] == [4] * 4


def test_a_size_that_is_not_known_before_is_asked_of_the_model(
    within: Within, run: list[list[str]], parsed: Any
) -> None:
    """Where only the run tells a shape, it counts; a reduction of such a value counts as what it leaves."""
    text = """<ir_version: 9, opset_import: ["" : 18]>
        picked (float[row, 64] x, bool[row] keep) => (float[kept, 64] y)
        { y = Compress <axis = 0> (x, keep)  z = Neg (y) }"""
    x = np.ones((64, 64), np.float32)
    few, all_ = np.arange(64) < 16, np.ones(64, bool)
    with within(8 * KIB) as scope:
        model = scope.load(parsed(text))
        acts = model.capture({"x": x, "keep": few}, at=["y", "z"])
        assert run == [["y", "z"]]
        np.testing.assert_array_equal(acts["z"], -x[:16])
        with pytest.raises(onnxscope.LimitExceededError):
            model.capture({"x": x, "keep": all_}, at=["y", "z"])
        run.clear()
        reduced = model.capture({"x": x, "keep": all_}, at=["y", "z"], reduce=onnxscope.reduce.mean(axis=1))
        np.testing.assert_array_equal(reduced["z"], -x[:, 0])
        assert run == [["y", "z"]]


def test_text_goes_alone_where_it_may_not_fit(within: Within, run: list[list[str]], parsed: Any) -> None:
    """Nobody knows how long text is: it is not refused, but nothing runs beside it."""
    text = """<ir_version: 9, opset_import: ["" : 18]>
        text (string[row] x) => (string[row] y) { a = Identity (x)  b = Identity (x)  y = Identity (b) }"""
    words = np.array(["a", "ä", ""], object)
    with within(64) as scope:
        acts = scope.load(parsed(text)).capture(words, at="*", exact=True)
    assert run == [["a"], ["b"], ["y"]]
    assert acts["a"].tolist() == acts["y"].tolist() == words.tolist()


def test_values_inside_of_nodes_are_grouped_too(within: Within, run: list[list[str]], parsed: Any) -> None:
    """A branch that is not taken gives None, in whatever group it runs."""
    text = """<ir_version: 9, opset_import: ["" : 18]>
        inside (float[row, 8] x, bool c) => (y) { z = Neg (x)  y = If (c) <
            then_branch = t () => (a) { q = Exp (z)  a = Abs (q) }, else_branch = e () => (b) { b = Sin (z) }> }"""
    x = np.ones((4, 8), np.float32)
    with within(x.nbytes) as scope:
        acts = scope.load(parsed(text)).capture({"x": x, "c": np.array(True)}, at="*", exact=True)
    assert len(run) == 5
    assert acts["If_0::else_branch::b"] is None
    np.testing.assert_array_equal(acts["If_0::then_branch::a"], acts["y"])
    np.testing.assert_array_equal(acts["z"], -x)


def test_real_numbers_count_with_the_size_that_they_come_in(
    within: Within, run: list[list[str]], parsed: Any, rng: np.random.Generator
) -> None:
    """Eight bits fit where their float32 do not; each group brings the scales of its own values."""
    text = """<ir_version: 9, opset_import: ["" : 21]>
        quantised (float[row, 8] x) => (uint8[row, 8] r)
        <float s = {0.1}, uint8 z = {3}>
        { q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  e = Neg (d)  r = QuantizeLinear (e, s, z) }"""
    x = rng.random((16, 8), dtype=np.float32)
    with within(256) as scope:
        model = scope.load(parsed(text))
        both = model.capture(x, at=["q", "r"])
        assert len(run) == 1
        assert both["q"].dtype == np.uint8
        with pytest.raises(onnxscope.LimitExceededError):
            model.capture(x, at=["q", "r"], dequantize=True)
    run.clear()
    with within(512) as scope:
        acts = scope.load(parsed(text)).capture(x, at=["q", "r"], dequantize=True)
    assert run == [["q"], ["r"]]
    assert acts["q"].dtype == np.float32
    np.testing.assert_allclose(acts["q"], (both["q"].astype(np.float32) - 3) * np.float32(0.1), rtol=1e-6)
    for quantization in (acts.quantization["q"], acts.quantization["r"]):
        assert quantization.scale == np.float32(0.1)
        assert quantization.zero_point == 3


def test_sessions_of_groups_are_given_back(digits_path: Path, images: np.ndarray) -> None:
    """Their memory is for the next group: after a capture in groups no more sessions are kept than after one run."""
    kept = []
    for budget in (1 << 30, 130 * KIB):
        with onnxscope.local(memory_budget=budget) as scope:
            scope.load(digits_path).capture(images, at="*")
            kept.append(len(scope._caller.link._host._services.sessions))
    assert kept[0] == kept[1]


def test_values_of_unknown_size_are_planned_with_what_they_were(within: Within, run: list[list[str]]) -> None:
    """Nothing tells how long a Loop runs; after the first run its values come in groups that fit."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[3] x, int64 n) => (float[3] y) {
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[3] s) => (bool co, float[3] so) {
            co = Identity (c)  a = Neg (s)  so = Neg (a) }> }"""
    feeds = {"x": np.ones(3, np.float32), "n": np.array(1000)}
    names = ["Loop_0::body::a", "Loop_0::body::so"]
    with within(20 * KIB) as scope:
        model = scope.load(parser.parse_model(text))
        first, again = (model.capture(feeds, at=names) for _ in range(2))
    assert run == [names, [names[0]], [names[1]]]
    for address, value in first.items():
        assert value.shape == (1000, 3)
        np.testing.assert_array_equal(again[address], value)
