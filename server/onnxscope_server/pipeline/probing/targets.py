"""What a spec asks to probe: hook points, where their rows lie, and what brings their activations."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnxscope_server.catalog.description import HookPoint, Kind
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import CaptureSpec, OutputMode, TensorType
from onnxscope_server.errors import SelectorInvalidError
from onnxscope_server.pipeline.batch_axes import BatchAxes
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures, Prepared
from onnxscope_server.pipeline.probing.passing import Source
from onnxscope_server.pipeline.probing.places import Place, places_of
from onnxscope_server.pipeline.probing.sources import ACTIVATIONS, GivenSource, ModelSource
from onnxscope_server.probe_domain import ProbeSpec
from onnxscope_server.rewrite.shuffle import shuffled
from onnxscope_server.run.runner import Runner

_PART = "::expand::"
_WITHOUT = (Kind.CONSTANT, Kind.WEIGHT)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What is probed.

    Attributes:
        digest: of the model; empty for none.
        places: hook points, and where their rows lie.
        source: brings their activations.
        axes: the batch axis of each input that has rows.
    """

    digest: str
    places: tuple[Place, ...]
    source: Source
    axes: Mapping[str, int]


class Targets:
    """Finds out what specs ask for.

    Args:
        captures: runs models.
        batching: runs them together with other callers' where that can be.
        batch_axes: finds where rows are.
        runner: lends threads.
    """

    def __init__(self, captures: Captures, batching: Batching, batch_axes: BatchAxes, runner: Runner) -> None:
        self._captures = captures
        self._batching = batching
        self._batch_axes = batch_axes
        self._runner = runner

    async def of(self, spec: ProbeSpec, caller: str, stack: AsyncExitStack) -> Target:
        """Returns what a spec asks for, ready to run.

        Args:
            spec: what is asked for.
            caller: who asks.
            stack: gives back, when it is closed, what was made for this call alone.

        Raises:
            DataInvalidError: a hook point has no rows.
            And what preparing a capture raises.
        """
        if not spec.model:
            return Target("", (Place(ACTIVATIONS, None, 0),), GivenSource(), {})
        if not spec.selectors:
            raise SelectorInvalidError("Say at which hook points to probe: there is no selector.", selector="")
        expand = any(_PART in selector for selector in spec.selectors)
        prepared = await self._captures.prepare(
            CaptureSpec(
                model=spec.model,
                version=spec.version,
                selectors=spec.selectors,
                reductions=spec.reductions,
                outputs=OutputMode.NONE,
                expand=expand,
            )
        )
        model = prepared.model
        all_points = await self._batch_axes.annotate(model, model.points(expand=expand), expand=expand)
        by_address = {point.address: point for point in _assumed(all_points)}
        where = model.contents.places(expand=expand)
        captures = prepared.plan.captures
        places = places_of(
            [by_address[capture.address] for capture in captures],
            {capture.address: capture.reduction for capture in captures},
            {capture.address: where[capture.address].repeats for capture in captures},
        )
        axes = {
            point.address: point.batch_axis
            for point in all_points
            if point.kind is Kind.INPUT and point.batch_axis is not None
        }
        copy = await self._copy(prepared, spec.seed, stack) if spec.shuffled_control else None
        source = ModelSource(self._captures, self._batching, prepared, copy, axes, caller)
        return Target(model.digest, places, source, axes)

    async def _copy(self, prepared: Prepared, seed: int, stack: AsyncExitStack) -> Prepared:
        """Makes the architecture with shuffled weights ready to run."""
        folder = Path(tempfile.mkdtemp(prefix="onnxscope-"))
        stack.push_async_callback(self._runner.call, partial(shutil.rmtree, folder, ignore_errors=True))
        copy: CatalogModel = await self._runner.call(shuffled, prepared.model, seed, folder)
        stack.push_async_callback(self._captures.forget, copy)
        return await self._captures.prepare_as(prepared, copy)


def _assumed(points: Sequence[HookPoint]) -> Sequence[HookPoint]:
    """Returns hook points with the first axis as that of the rows where nothing could be found out.

    That is so of a model that runs with one number of rows only, of every value that has so many along its first axis.
    The pass still checks that there are as many as in the input.
    """
    if all(point.batch_axis is None for point in points):
        return [point if point.kind in _WITHOUT else replace(point, batch_axis=0) for point in points]
    declared = {_extent(point, point.batch_axis) for point in points if point.kind is Kind.INPUT}
    fixed = declared - {None}
    return [
        replace(point, batch_axis=0)
        if point.batch_axis is None
        and point.kind not in _WITHOUT
        and (not isinstance(point.type, TensorType) or _extent(point, 0) in fixed)
        else point
        for point in points
    ]


def _extent(point: HookPoint, axis: int | None) -> int | None:
    """Returns the declared extent of an axis; None where it is not fixed."""
    shape = point.type.shape if isinstance(point.type, TensorType) else None
    if axis is None or shape is None or axis >= len(shape):
        return None
    extent = shape[axis]
    return extent if isinstance(extent, int) else None
