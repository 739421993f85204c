"""Runs that write into memory of the caller's, who may write there too as soon as it has a value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from onnxscope_server.app import Services
from onnxscope_server.domain import Array, CaptureSpec
from onnxscope_server.pipeline.running import Call
from onnxscope_server.result_domain import Destination, Fidelity, Result
from onnxscope_server.run.values import DTYPES
from onnxscope_server.settings import EmbeddedSettings

ROWS = 100_000


class Caller:
    """Offers memory, and overwrites what lies in it as soon as a part has come."""

    def __init__(self) -> None:
        self.offered: list[Array] = []

    def memory(self, destination: Destination) -> Array:
        """Offers an array."""
        self.offered.append(np.zeros(destination.shape, DTYPES[destination.data_type]))
        return self.offered[-1]

    def take(self, part: Result) -> dict[tuple[str, str], Any]:
        """Returns copies of a part's values; what lies in the memory is no more."""
        groups = {"activation": part.activations, "output": part.outputs}
        values = {(kind, name): value for kind, group in groups.items() for name, value in group.items()}
        copies: dict[tuple[str, str], Any] = {key: np.copy(value) for key, value in values.items()}  # type: ignore[arg-type]
        for array in self.offered:
            if any(np.may_share_memory(array, value) for value in values.values()):  # type: ignore[arg-type]
                array[:] = np.nan
        return copies


class Captured(NamedTuple):
    """What a capture brought, and into how many arrays it was written."""

    values: dict[tuple[str, str], Any]
    fidelity: Fidelity
    written: int


def _captured(path: Path, selectors: tuple[str, ...], inputs: dict[str, Any]) -> list[Captured]:
    """Captures once without memory, and three times with some."""

    async def capture(services: Services, model: str, caller: Caller | None) -> Captured:
        captures = services.captures._captures
        prepared = await captures.prepare(CaptureSpec(model, selectors=selectors))
        values: dict[tuple[str, str], Any] = {}
        taker = caller or Caller()
        async with aclosing(captures.parts(prepared, Call(inputs, {}, caller.memory if caller else None))) as parts:
            async for part in parts:
                values |= taker.take(part)
        return Captured(values, part.fidelity, len(taker.offered))

    async def work() -> list[Captured]:
        services = Services.make(EmbeddedSettings())
        try:
            model = (await services.models.add_file(path, "model", "")).digest
            return [await capture(services, model, caller) for caller in (None, Caller(), Caller(), Caller())]
        finally:
            await services.close()

    return asyncio.run(work())


@pytest.fixture
def rows(rng: np.random.Generator) -> dict[str, Any]:
    """An input of 100,000 rows."""
    return {"x": rng.standard_normal((ROWS, 4), dtype=np.float32)}


def _check(plain: Captured, *others: Captured) -> None:
    for other in others:
        assert set(other.values) == set(plain.values)
        for key, value in plain.values.items():
            np.testing.assert_array_equal(other.values[key], value, str(key))
        assert other.fidelity == plain.fidelity


def test_the_unmodified_models_outputs_are_compared_with_what_was_computed(
    tmp_path: Path, gelu: bytes, rows: dict[str, Any]
) -> None:
    """Not with what the caller has made of it meanwhile, where the output is an activation too."""
    (tmp_path / "model.onnx").write_bytes(gelu)
    plain, *others = _captured(tmp_path / "model.onnx", ("*",), rows)
    assert plain.fidelity.max_output_difference is not None
    assert np.isfinite(plain.fidelity.max_output_difference)
    _check(plain, *others)
    assert [other.written for other in others] == [0, 4, 4]


def test_segments_hand_on_what_the_caller_cannot_reach(
    tmp_path: Path, parsed: Callable[[str], bytes], rows: dict[str, Any]
) -> None:
    """Values that a later segment takes, or that are read together with later ones, are as they were computed."""
    lines = "".join(f"v{index} = Add(v{index - 1}, one)  " for index in range(1, 12))
    model = parsed(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        long (float[{ROWS}, 4] x) => (float[{ROWS}, 4] y) <float one = {{1.0}}>
        {{ v0 = Neg(x)  {lines} y = Add(v11, v5) }}"""
    )
    (tmp_path / "model.onnx").write_bytes(model)
    plain, *others = _captured(tmp_path / "model.onnx", ("*",), rows)
    _check(plain, *others)
    first, *later = [other.written for other in others]
    assert first == 0
    assert all(0 < count < len(plain.values) for count in later)
