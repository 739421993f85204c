"""Values leave while later ones are computed, and nothing else shows that a plan runs in segments."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from tests.cut_everywhere import cut_everywhere

import onnxscope
import onnxscope.aio

SIDE = 512
_LINES = " ".join(f"v{index} = Neg (v{index - 1})" for index in range(1, 12))
# 13 values of 1 MiB, the last of which takes as long as n says
_SLOW_AT_THE_END = f"""<ir_version: 9, opset_import: ["" : 18]>
    g (float[{SIDE}, {SIDE}] x, int64 n) => (float[{SIDE}, {SIDE}] y) {{
        v0 = Abs (x)  {_LINES}
        y = Loop (n, , v11) <body = trip (int64 i, bool go, float[{SIDE}, {SIDE}] s)
            => (bool on, float[{SIDE}, {SIDE}] t) {{ on = Identity (go)  t = Neg (s) }}> }}"""
_AT = [*(f"v{index}" for index in range(12)), "y"]
_FOREVER = np.array(1 << 60)


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    """A square of 1 MiB."""
    return rng.random((SIDE, SIDE), dtype=np.float32)


@pytest.mark.parametrize("outputs", [True, "instrumented", False])
def test_the_first_values_are_there_before_the_last_is_computed(
    scope: Any, parsed: Callable[[str], bytes], x: np.ndarray, outputs: Any
) -> None:
    """The last takes for ever here; who leaves ends its run, more often than there are threads for it."""
    model = scope.load(parsed(_SLOW_AT_THE_END))
    for _ in range(3):
        arriving = model.capture_iter({"x": x, "n": _FOREVER}, at=_AT, outputs=outputs, timeout=20)
        found = dict(itertools.islice(arriving, 8))
        arriving.close()
        assert list(found) == _AT[:8]
        for index, value in enumerate(found.values()):
            np.testing.assert_array_equal(value, -x if index % 2 else x)
    acts = model.capture({"x": x, "n": np.array(1)}, at=_AT, outputs=outputs)
    assert list(acts) == _AT
    np.testing.assert_array_equal(acts["y"], x)


def test_the_same_for_coroutines(server: str, parsed: Callable[[str], bytes], x: np.ndarray) -> None:
    """Over gRPC."""

    async def work() -> list[str]:
        async with onnxscope.aio.connect(server) as scope:
            model = await scope.load(parsed(_SLOW_AT_THE_END))
            found = []
            arriving = model.capture_iter({"x": x, "n": _FOREVER}, at=_AT, timeout=20)
            async for address, _ in arriving:
                found.append(address)
                if len(found) == 8:
                    break
            await arriving.aclose()
            return found

    assert asyncio.run(work()) == _AT[:8]


def test_a_stream_brings_batches_whole_and_in_order(scope: Any, parsed: Callable[[str], bytes], x: np.ndarray) -> None:
    """However many segments each takes."""
    model = scope.load(parsed(_SLOW_AT_THE_END))
    batches = [{"x": x + index, "n": np.array(2)} for index in range(3)]
    found = list(model.stream(batches, at=_AT, outputs="instrumented"))
    assert [list(acts) for acts in found] == [_AT] * 3
    for index, acts in enumerate(found):
        np.testing.assert_array_equal(acts["v2"], x + index)
        np.testing.assert_array_equal(acts["y"], -(x + index))
        np.testing.assert_array_equal(acts.outputs["y"], acts["y"])


def test_an_error_of_the_last_segment_comes_behind_the_first_values(
    scope: Any, parsed: Callable[[str], bytes], x: np.ndarray
) -> None:
    """They stay valid, the error is onnxruntime's own, and the next call is served."""
    text = _SLOW_AT_THE_END.replace("int64 n)", "int64[2] n)").replace(_SLOW_AT_THE_END.split(_LINES)[1], "@")
    text = text.replace("@", "y = Reshape (v11, n) }").replace(f"=> (float[{SIDE}, {SIDE}] y)", "=> (float[R, C] y)")
    model = scope.load(parsed(text))
    arriving = model.capture_iter({"x": x, "n": np.array([3, 3])}, at=_AT, timeout=20)
    found = dict(itertools.islice(arriving, 8))
    with pytest.raises(onnxscope.errors.RunFailedError, match="Reshape"):
        list(arriving)
    np.testing.assert_array_equal(found["v7"], -x)
    good = {"x": x, "n": np.array([SIDE * SIDE, 1])}
    assert model.capture(good, at="y")["y"].shape == (SIDE * SIDE, 1)


def _another(path: Path, name: str) -> bytes:
    """Returns a model that no other test has sessions of."""
    model = onnx.load(path)
    model.doc_string = name
    return model.SerializeToString()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exact": True},
        {"outputs": "instrumented"},
        {"outputs": False},
        {"reduce": {"op:Relu": "flatten"}},
        {"expand": True},
    ],
    ids=str,
)
def test_cutting_shows_nowhere(scope: Any, digits_path: Path, rng: np.random.Generator, options: Any) -> None:
    """Activations, outputs, their order and what is said of fidelity are those of one segment, to the bit."""
    images = rng.random((3, 1, 8, 8), dtype=np.float32)
    with cut_everywhere():
        cut = scope.load(_another(digits_path, f"cut {options}"))
        many = [cut.capture(images, at="*", **options) for _ in range(3)]
    whole = scope.load(_another(digits_path, f"whole {options}"))
    one = whole.capture(images, at="*", **options)
    for acts in many:
        assert list(acts) == list(one)
        for address, value in one.items():
            assert acts[address].tobytes() == value.tobytes()
        assert {name: value.tobytes() for name, value in acts.outputs.items()} == {
            name: value.tobytes() for name, value in one.outputs.items()
        }
        assert acts.fidelity == one.fidelity


def test_a_quantised_model_in_segments_brings_its_scales(scope: Any, rng: np.random.Generator) -> None:
    """Each with its value, stored or real."""
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[4, 6] x) => (float[4, 6] y)
        <float s = {0.1}, uint8 z = {7}> {
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  r = Relu (d)
            q2, s2, z2 = DynamicQuantizeLinear (r)  y = DequantizeLinear (q2, s2, z2) }"""
    x = rng.standard_normal((4, 6), dtype=np.float32)
    model = scope.load(parser.parse_model(text))
    with cut_everywhere():
        stored = model.capture(x, at=["q", "r", "q2"])
        real = model.capture(x, at=["q", "r", "q2"], dequantize=True)
    for name in ("q", "q2"):
        assert stored[name].dtype == np.uint8
        scale = stored.quantization[name]
        shifted = stored[name].astype(np.float32) - np.float32(scale.zero_point)
        np.testing.assert_array_equal(real[name], shifted * np.float32(scale.scale))


def test_shapes_that_change_from_call_to_call_give_the_right_bytes(
    scope: Any, parsed: Callable[[str], bytes], rng: np.random.Generator
) -> None:
    """What a call has written where the one before had more, less or nothing is what was computed."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[64] x) => (int64[2, N] y) {
        a = Relu (x)  z = NonZero (a)  f = Cast <to = 1> (z)  b = Sqrt (f)  y = NonZero (b) }"""
    model = scope.load(parsed(text))
    shares = [0.5, 0.5, 0.0, 1.0, 1.0, 0.0, 0.0, 0.9, 0.1]
    inputs = [np.where(rng.random(64) < share, 1, -1).astype(np.float32) for share in shares]
    with cut_everywhere():
        captured = [model.capture(x, at="*") for x in inputs]
    streamed = list(model.stream(({"x": x} for x in inputs), at="*"))
    for found in (captured, streamed):
        for x, acts in zip(inputs, found, strict=True):
            places = np.stack(np.nonzero(np.maximum(x, 0)))
            np.testing.assert_array_equal(acts["a"], np.maximum(x, 0))
            np.testing.assert_array_equal(acts["z"], places)
            np.testing.assert_array_equal(acts["f"], places.astype(np.float32))
            np.testing.assert_array_equal(acts["b"], np.sqrt(places.astype(np.float32)))
            np.testing.assert_array_equal(acts["y"], np.stack(np.nonzero(places)))
            np.testing.assert_array_equal(acts.outputs["y"], acts["y"])
