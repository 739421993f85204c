"""The same verbs as coroutines, against the server that echoes."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing
from itertools import count

import numpy as np
import pytest

import onnxscope
from onnxscope.aio import AsyncScope
from onnxscope.aio_model import AsyncModel
from onnxscope.client import Scope
from onnxscope.model import Model
from onnxscope.v1 import model_service_pb2 as model_pb

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_names_and_arguments_are_those_of_the_synchronous_client():
    """Every public method has its twin, with the same parameters and defaults."""
    for waits, twin in ((Scope, AsyncScope), (Model, AsyncModel)):
        for name in (name for name in dir(waits) if not name.startswith("_")):
            member = getattr(waits, name)
            if callable(member):
                ours = {p.name: (p.kind, p.default) for p in inspect.signature(member).parameters.values()}
                theirs = inspect.signature(getattr(twin, name)).parameters.values()
                assert ours == {p.name: (p.kind, p.default) for p in theirs}, name


def test_the_verbs(fake):
    """Load, list, capture, run, plan and unload, over one channel."""

    async def use():
        async with onnxscope.aio.connect(fake.target, token="secret", timeout=10) as scope:
            assert [item.name for item in await scope.models()] == ["echo"]
            model = await scope.load("echo")
            acts = await model.capture(ROWS, ["b", "a"])
            result = await model.run(ROWS)
            planned = await model.plan(ROWS, "a")
            arrived = [name async for name, _ in model.capture_iter(ROWS, ["a", "b"])]
            points = await model.hook_points()
            assert await scope.unload(model) == 1
            return acts, result, planned, arrived, points

    fake.points = [model_pb.HookPoint(address=f"h{index}") for index in range(3)]
    acts, result, planned, arrived, points = asyncio.run(use())
    assert list(acts) == ["b", "a"]
    np.testing.assert_array_equal(acts["a"], ROWS + 1)
    np.testing.assert_array_equal(result.outputs["y"], ROWS + 1)
    assert planned.known_byte_count == 6
    assert arrived == ["a", "b"]
    assert points.addresses == ("h0", "h1", "h2")
    assert set(fake.tokens) == {"Bearer secret"}


def test_a_stream_takes_any_batches(fake):
    """An asynchronous iterator, an iterator and an array give the same results."""

    async def arrive():
        for step in range(3):
            await asyncio.sleep(0)
            yield ROWS + step

    async def use():
        async with onnxscope.aio.connect(fake.target, timeout=10) as scope:
            model = await scope.load("echo")
            whole = np.concatenate([ROWS + step for step in range(3)])
            sources = (arrive(), (ROWS + step for step in range(3)), whole)
            return [[acts["a"] async for acts in model.stream(source, "a", batch_size=2)] for source in sources]

    first, second, third = asyncio.run(use())
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert len(first) == 3


def test_a_fixed_batch_is_padded_here_too(fake, make_model, make_spec):
    """The rows come back without the padding."""
    fake.models["fixed"] = make_model(make_spec("x", shape=(4, 3)), name="fixed")
    fake.points = [model_pb.HookPoint(address="a", batch_axis=0), model_pb.HookPoint(address="y")]

    async def use():
        async with onnxscope.aio.connect(fake.target, timeout=10) as scope:
            model = await scope.load("fixed")
            return [acts["a"] async for acts in model.stream([ROWS], "a")]

    (only,) = asyncio.run(use())
    np.testing.assert_array_equal(only, ROWS + 1)
    assert len(fake.received[0]["x"]) == 4


def test_back_pressure_and_leaving(fake):
    """A reader that stops stops the pulling; leaving the loop ends it."""
    pulled = []

    def endless():
        for step in count():
            pulled.append(step)
            yield np.zeros((100_000, 3), np.float32)

    async def use():
        async with onnxscope.aio.connect(fake.target, timeout=20) as scope:
            model = await scope.load("echo")
            async with aclosing(model.stream(endless(), "a", outputs=False)) as results:
                await anext(results)
                seen = -1
                while seen != len(pulled):
                    seen = len(pulled)
                    await asyncio.sleep(0.3)
                assert seen < 40
            await asyncio.sleep(0.1)
            ended = len(pulled)
            await asyncio.sleep(0.2)
            assert len(pulled) == ended

    asyncio.run(use())


def test_errors_are_the_same(fake):
    """Deadline, cut, refusal, a batch that fails, a closed scope."""

    def failing():
        yield ROWS
        raise KeyError("mine")

    async def use():
        scope = onnxscope.aio.connect(fake.target, timeout=10)
        model = await scope.load("echo")
        with pytest.raises(onnxscope.DeadlineExceededError):
            await model.capture(ROWS, "slow", timeout=0.1)
        with pytest.raises(onnxscope.StreamCutError):
            await model.capture(ROWS, "cut")
        with pytest.raises(onnxscope.RunFailedError):
            await model.capture(ROWS, "refused")
        with pytest.raises(KeyError, match="mine"):
            [acts async for acts in model.stream(failing(), "a")]
        with pytest.raises(onnxscope.NotImplementedYet):
            await model.capture(ROWS, "a", interventions=["p"])
        with pytest.raises(onnxscope.NotImplementedYet):
            await model.health(ROWS)
        with pytest.raises(onnxscope.ModelNotFoundError, match="nor is there a file"):
            await scope.load("nowhere")
        await scope.close()
        with pytest.raises(onnxscope.UnavailableError, match="closed"):
            await model.run(ROWS)

    asyncio.run(use())


def test_a_cancelled_task_ends_its_call(fake):
    """Cancelling the coroutine cancels the RPC."""

    async def use():
        async with onnxscope.aio.connect(fake.target) as scope:
            model = await scope.load("echo")
            task = asyncio.create_task(model.capture(ROWS, "slow"))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(fake.cancelled.wait, 5)

    asyncio.run(use())


def test_upload_with_external_data(fake, tmp_path):
    """The conversation is the same; a file that must not be sent is not."""
    (tmp_path / "m.onnx").write_bytes(b"graph weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"w" * 2_500_000)

    async def use():
        async with onnxscope.aio.connect(fake.target, timeout=10) as scope:
            fake.wanted_files = ["weights.bin"]
            await scope.load(tmp_path / "m.onnx", name="mine")
            fake.wanted_files = ["../secret"]
            with pytest.raises(onnxscope.ExternalDataMissingError):
                await scope.load(tmp_path / "m.onnx", name="mine")
            fake.wanted_files = []
            with pytest.raises(onnxscope.StreamCutError):
                await scope.load(b"x", name="cut")

    asyncio.run(use())
    assert fake.files["weights.bin"] == b"w" * 2_500_000
