"""Requests with probes that run together, and within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.callers import Runs, until
from tests.served_probes import Linear

from onnxscope.v1 import capture_service_pb2 as capture_pb
from onnxscope.v1 import probe_service_pb2 as pb
from onnxscope_server.app import Services
from onnxscope_server.errors import LimitExceededError, ModelReadOnlyError
from onnxscope_server.settings import EmbeddedSettings

_SPEC = capture_pb.CaptureSpec(model="digits", probes=["wide"])
_LINEAR = Linear.drawn(64)


async def _with_probe(path: Path, **settings: float) -> Services:
    services = Services.make(EmbeddedSettings(**settings))  # type: ignore[arg-type]
    await services.models.add_file(path, "digits", "")
    await _bring_in(services, _LINEAR.onnx())
    return services


async def _bring_in(services: Services, data: bytes) -> pb.Probe:
    async def requests() -> AsyncIterator[pb.ImportProbeRequest]:
        yield pb.ImportProbeRequest(spec=pb.ImportSpec(name="wide", model="digits", address="relu5"))
        yield pb.ImportProbeRequest(data=data)

    return (await services.probes.ImportProbe(requests(), None)).probe


def test_callers_who_run_together_get_their_own_labels(digits_path: Path, rng: np.random.Generator) -> None:
    """Each its rows of labels and scores, as if it had called alone."""
    images = [{"image": rng.random((1 + index % 3, 1, 8, 8), dtype=np.float32)} for index in range(12)]
    spec = capture_pb.CaptureSpec(model="digits", probes=["wide"], selectors=["relu5"])

    async def work() -> None:
        services = await _with_probe(digits_path, max_batch_rows=8, batch_delay_seconds=0.05, run_threads=1)
        try:
            batching = services.captures._batching
            # the second request of a kind has its rows proved apart
            for _ in range(2):
                await services.captures.capture(spec, images[0], {})
            await until(lambda: not batching._is_proving)
            with Runs.noted() as runs:
                answers = await asyncio.gather(*(services.captures.capture(spec, image, {}) for image in images))
            assert len(runs.rows) < len(images)
        finally:
            await services.close()
        for image, (_, result) in zip(images, answers, strict=True):
            assert len(result.probes["wide::labels"]) == len(image["image"])
            labels, scores = _LINEAR.says(np.asarray(result.activations["relu5"]))
            np.testing.assert_array_equal(result.probes["wide::labels"], labels)
            np.testing.assert_allclose(result.probes["wide::scores"], scores, rtol=1e-4)

    asyncio.run(work())


def test_a_capture_in_groups_brings_probes_once(digits_path: Path, rng: np.random.Generator) -> None:
    """With the first group, as the outputs."""
    image = {"image": rng.random((2, 1, 8, 8), dtype=np.float32)}
    spec = capture_pb.CaptureSpec(model="digits", probes=["wide"], selectors=["conv1", "relu1", "relu5"])

    async def work() -> None:
        services = await _with_probe(digits_path, memory_budget=2 * 16 * 64 * 4)
        try:
            parts = [part async for _, part in services.captures.parts(spec, image, {})]
        finally:
            await services.close()
        assert sum("wide::labels" in part.probes for part in parts) == 1
        values = {name: value for part in parts for name, value in part.activations.items()}
        assert set(values) == {"conv1", "relu1", "relu5"}

    asyncio.run(work())


def test_a_file_above_the_limit_is_refused_while_it_comes(digits_path: Path) -> None:
    """Before all of it is there."""

    async def work() -> None:
        services = await _with_probe(digits_path, max_probe_bytes=2000)
        try:
            with pytest.raises(LimitExceededError) as refused:
                await _bring_in(services, b"x" * 2001)
            assert refused.value.metadata["setting"] == "max_probe_bytes"
        finally:
            await services.close()

    asyncio.run(work())


def test_a_restart_of_a_durable_server_finds_probes_and_an_export_serves_as_a_file_of_the_models_folder(
    digits_path: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The same labels each time; in the models folder the probe is read-only."""
    image = {"image": rng.random((2, 1, 8, 8), dtype=np.float32)}
    folder = tmp_path / "models"
    (folder / "digits" / "probes").mkdir(parents=True)
    (folder / "digits" / "model.onnx").write_bytes(digits_path.read_bytes())

    async def first() -> np.ndarray:
        services = Services.make(EmbeddedSettings(data=tmp_path / "data"))
        await services.models.add_file(digits_path, "digits", "")
        await _bring_in(services, _LINEAR.onnx())
        _, result = await services.captures.capture(_SPEC, image, {})
        pieces = services.probes.ExportProbe(pb.ExportProbeRequest(model="digits", name="wide"), None)
        (folder / "digits" / "probes" / "p.onnx").write_bytes(b"".join([piece.data async for piece in pieces]))
        await services.close()
        return np.asarray(result.probes["wide::scores"])

    async def again(settings: EmbeddedSettings) -> np.ndarray:
        services = Services.make(settings)
        try:
            await services.load_models_folder()
            _, result = await services.captures.capture(_SPEC, image, {})
            if settings.models is not None:
                with pytest.raises(ModelReadOnlyError):
                    await services.probes.DeleteProbe(pb.DeleteProbeRequest(model="digits", name="wide"), None)
        finally:
            await services.close()
        return np.asarray(result.probes["wide::scores"])

    scores = asyncio.run(first())
    for settings in (EmbeddedSettings(data=tmp_path / "data"), EmbeddedSettings(models=folder)):
        np.testing.assert_array_equal(asyncio.run(again(settings)), scores)
