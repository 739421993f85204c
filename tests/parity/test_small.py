"""Captures that are small are asked in another way, and are what they ever were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import onnxscope
import onnxscope.aio
from onnxscope.small import SmallCaptures
from onnxscope.v1 import capture_service_pb2 as pb
from onnxscope.v1.capture_service_pb2_grpc import CaptureServiceStub

GROWING = """<ir_version: 9, opset_import: ["" : 18]>
    g (int64[1] n) => (float[rows] y) { a = ConstantOfShape <value = float[1] {1.5}> (n)  y = Neg (a) }"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each capture, whether it was known to be small."""
    found: list[bool] = []
    request = SmallCaptures.request

    def noting(self: SmallCaptures, *rest: Any) -> bytes | None:
        message = request(self, *rest)
        found.append(message is not None)
        return message

    monkeypatch.setattr(SmallCaptures, "request", noting)
    return found


@pytest.mark.parametrize("outputs", [True, "instrumented", False])
def test_values_are_the_same_bit_for_bit(
    server: str, digits_path: Path, rng: np.random.Generator, asked: list[bool], outputs: Any
) -> None:
    """With plan, timings and fidelity; threads and coroutines."""
    x = rng.random((3, 1, 8, 8), dtype=np.float32)

    async def work() -> list[Any]:
        async with onnxscope.aio.connect(server) as scope:
            model = await scope.load(digits_path)
            return [await model.capture(x, at=["relu4", "relu5"], outputs=outputs) for _ in range(3)]

    with onnxscope.connect(server) as scope:
        model = scope.load(digits_path)
        found = [model.capture(x, at=["relu4", "relu5"], outputs=outputs) for _ in range(3)]
    found += asyncio.run(work())
    assert asked == [False, True, True] * 2
    first, *others = found
    for other in others:
        assert list(other) == list(first)
        assert list(other.outputs) == list(first.outputs)
        assert other.fidelity == first.fidelity
        assert {"plan", "session", "run"} <= set(other.timings)
        for name in first:
            assert other[name].tobytes() == first[name].tobytes()
        for name in first.outputs:
            assert other.outputs[name].tobytes() == first.outputs[name].tobytes()


def test_an_answer_that_has_grown_comes_whole(server: str, parsed: Callable[[str], bytes], asked: list[bool]) -> None:
    """Though inputs of the same shape gave a small one; and it is small again afterwards."""
    with onnxscope.connect(server) as scope:
        model = scope.load(parsed(GROWING))
        for size in (3, 3, 1_000_000, 1_000_000, 3, 3):
            acts = model.capture(np.array([size]), at="a")
            np.testing.assert_array_equal(acts["a"], np.full(size, 1.5, np.float32))
            np.testing.assert_array_equal(acts.outputs["y"], np.full(size, -1.5, np.float32))
    assert asked == [False, True, True, False, False, True]


def test_what_is_wrong_is_said_as_ever(server: str, parsed: Callable[[str], bytes], asked: list[bool]) -> None:
    """The error of the run has its class and its text in both ways."""
    model_bytes = parsed(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (float[n] x, int64[2] s) => (float[a, b] y) { y = Reshape (x, s) }"""
    )
    with onnxscope.connect(server) as scope:
        model = scope.load(model_bytes)
        errors = []
        for _ in range(2):
            with pytest.raises(onnxscope.RunFailedError) as error:
                model.capture({"x": np.ones(6, np.float32), "s": np.array([4, 2])}, at="y")
            errors.append(str(error.value))
            model.capture({"x": np.ones(6, np.float32), "s": np.array([3, 2])}, at="y")
        assert errors[0] == errors[1]
    assert asked == [False, False, True, True]


def test_a_message_without_a_spec_is_refused(server: str) -> None:
    """Any client is told what the call wants."""
    with grpc.insecure_channel(server) as channel, pytest.raises(grpc.RpcError, match="must hold the spec"):
        CaptureServiceStub(channel).CaptureSmall(pb.CaptureSmallRequest())
