"""Where rows are: found by running a model on two made-up batches of different size and comparing shapes.

Only shapes leave the graph, so this costs no memory beyond the run's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from onnxscope_server.catalog.description import HookPoint
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import DataType, Segment, Shape, TensorType, Value
from onnxscope_server.errors import ModelInvalidError, OnnxscopeServerError
from onnxscope_server.rewrite.shapes import shape_probe
from onnxscope_server.run.readings import outputs_read, read
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.session import Session
from onnxscope_server.run.sessions import Sessions

_BATCHES = (2, 3)
_BATCH_SYMBOLS = ("b", "n", "row", "rows")
_SIZES = (8, 32, 1, 64, 224, 16, 128)
_DTYPES = {
    DataType.FLOAT32: np.float32,
    DataType.FLOAT64: np.float64,
    DataType.FLOAT16: np.float16,
    DataType.INT8: np.int8,
    DataType.INT16: np.int16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.UINT8: np.uint8,
    DataType.UINT16: np.uint16,
    DataType.UINT32: np.uint32,
    DataType.UINT64: np.uint64,
    DataType.BOOL: np.bool_,
    DataType.STRING: object,
}
_log = logging.getLogger(__name__)

Shapes = dict[str, tuple[int, ...]]


class BatchAxes:
    """Finds batch axes, once per model."""

    def __init__(self, sessions: Sessions, runner: Runner) -> None:
        self._sessions = sessions
        self._runner = runner
        self._found: dict[tuple[str, bool], asyncio.Task[Mapping[str, int]]] = {}

    async def annotate(
        self, model: CatalogModel, points: tuple[HookPoint, ...], *, expand: bool = False
    ) -> tuple[HookPoint, ...]:
        """Returns the hook points with their batch axis, None where there is none or it was not found.

        Args:
            model: whose they are.
            points: hook points.
            expand: parts of operators may be among them.
        """
        key = (model.digest, expand)
        task = self._found.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._found[key] = asyncio.create_task(self._find(model, expand=expand))
        axes = await asyncio.shield(task)
        return tuple(replace(point, batch_axis=axes.get(point.address)) for point in points)

    def forget(self, digest: str) -> None:
        """Drops what was found of a model."""
        for expand in (False, True):
            self._found.pop((digest, expand), None)

    async def _find(self, model: CatalogModel, *, expand: bool) -> Mapping[str, int]:
        for batch_dims in _batch_dims(model):
            free = _fixed(model, batch_dims)
            try:
                chain = await self._sessions.get(
                    ("shapes", model.digest, free, expand),
                    model.digest,
                    partial(_probe, model, free, expand=expand),
                    exact=True,
                )
            except ModelInvalidError:
                # onnxruntime lacks a kernel for some part in this type; the model itself loads
                if not expand:
                    raise
                break
            for size in _sizes(model, batch_dims):
                axes = await self._compare(model, chain.session(0), batch_dims, size)
                if axes is not None:
                    inner = partial(_of_inner, model, batch_dims, size, expand=expand)
                    return {**await self._runner.call(inner), **axes}
        _log.info("model %s ran on no made-up batch; its batch axes are inferred", model.digest)
        return await self._runner.call(partial(_first_inferred, model, expand=expand))

    async def _compare(
        self,
        model: CatalogModel,
        session: Session,
        batch_dims: frozenset[tuple[str, int]],
        size: int,
    ) -> Mapping[str, int] | None:
        seen: list[Shapes] = []
        for batch in _BATCHES:
            feeds = _made_up(model, batch_dims, batch, size)
            if feeds is None:
                return None
            try:
                values = await self._runner.run(
                    session,
                    {name: value for name, value in feeds.items() if name in session.segment.inputs},
                    [name for reading in session.segment.captures.values() for name in outputs_read(reading)],
                )
            except OnnxscopeServerError:
                return None
            seen.append(
                {
                    address: tuple(np.asarray(read(reading, values, None)).tolist())
                    for address, reading in session.segment.captures.items()
                }
            )
        return _axes(*seen)


def _probe(model: CatalogModel, free: frozenset[tuple[str, int]], *, expand: bool) -> list[Segment]:
    return [shape_probe(model, free, expand=expand)]


def _axes(first: Shapes, second: Shapes) -> Mapping[str, int]:
    """Returns the axis of each value that has one entry a row; none where other axes change too."""
    found = {}
    for address, shape in first.items():
        other = second.get(address, ())
        if len(shape) != len(other):
            continue
        grown = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
        if len(grown) == 1:
            (axis,) = grown
            if (shape[axis], other[axis]) == _BATCHES:
                found[address] = axis
    return found


def _batch_dims(model: CatalogModel) -> Iterator[frozenset[tuple[str, int]]]:
    """Yields guesses at the input axes that rows lie along, likeliest first; a run tells which holds."""
    shapes: dict[str, Shape] = {
        spec.name: spec.type.shape for spec in model.inputs if isinstance(spec.type, TensorType) and spec.type.shape
    }
    if not shapes:
        return
    first = next((name for name, shape in shapes.items() if not isinstance(shape[0], int)), None)
    tried = set()
    guesses = []
    if first is not None:
        symbol = shapes[first][0]
        if symbol is not None:
            guesses.append({(n, axis) for n, s in shapes.items() for axis, d in enumerate(s) if d == symbol})
        guesses.append({(n, 0) for n, s in shapes.items() if not isinstance(s[0], int)})
        guesses.append({(first, 0)})
    second = {
        (name, axis)
        for name, shape in shapes.items()
        for axis, extent in list(enumerate(shape))[:2]
        if not isinstance(extent, int) and all(isinstance(d, int) for d in shape[:axis])
    }
    # a declared size may be no more than the size of the example that the model was exported with
    fixed = next(iter(shapes))
    shared = {(n, 0) for n, s in shapes.items() if s[0] == shapes[fixed][0]}
    # text models are exported as [1, positions], recurrent ones as [positions, batch, feature]
    is_batch = any(_names_batch(shapes[name][axis]) for name, axis in second)
    guesses += [shared, second] if len(shared) == len(shapes) and not is_batch else [second, shared]
    guesses.append({(fixed, 0)})
    for guess in guesses:
        frozen = frozenset(guess)
        if frozen and frozen not in tried:
            tried.add(frozen)
            yield frozen


def _names_batch(extent: int | str | None) -> bool:
    """Says whether an extent is a symbol that people write for the number of rows."""
    return isinstance(extent, str) and ("batch" in extent.lower() or extent.lower() in _BATCH_SYMBOLS)


def _sizes(model: CatalogModel, batch_dims: frozenset[tuple[str, int]]) -> tuple[int, ...]:
    """Returns the sizes to try for the axes that are neither fixed nor rows."""
    open_axes = {
        (spec.name, axis)
        for spec in model.inputs
        if isinstance(spec.type, TensorType)
        for axis, extent in enumerate(spec.type.shape or ())
        if not isinstance(extent, int)
    }
    return _SIZES if open_axes - batch_dims else _SIZES[:1]


def _first_inferred(model: CatalogModel, *, expand: bool) -> Mapping[str, int]:
    """Returns the axes that shape inference moves with the batch: for graphs that run with one size only."""
    for batch_dims in _batch_dims(model):
        axes = _inferred(model, batch_dims, _SIZES[1], expand=expand)
        if axes:
            return axes
    return {}


def _inferred(
    model: CatalogModel, batch_dims: frozenset[tuple[str, int]], size: int, *, expand: bool
) -> Mapping[str, int]:
    """Returns the axes that shape inference moves with the batch; the number of iterations need not be known."""
    places = model.contents.places(expand=expand)
    seen: list[Shapes] = []
    for batch in _BATCHES:
        types = model.typed(_shapes(model, batch_dims, batch, size), expand=expand)
        seen.append({})
        for address, type_ in types.items():
            if isinstance(type_, TensorType) and type_.shape is not None:
                repeats = places[address].repeats
                sizes = [0] * repeats + [extent for extent in type_.shape[repeats:] if isinstance(extent, int)]
                if len(sizes) == len(type_.shape):
                    seen[-1][address] = tuple(sizes)
    return _axes(*seen)


def _of_inner(
    model: CatalogModel, batch_dims: frozenset[tuple[str, int]], size: int, *, expand: bool
) -> Mapping[str, int]:
    """Returns the axes of values in bodies and functions: runs show those of the main graph only."""
    places = model.contents.places(expand=expand)
    if not any(place.path for place in places.values()):
        return {}
    axes = _inferred(model, batch_dims, size, expand=expand)
    return {address: axis for address, axis in axes.items() if places[address].path}


def _shapes(
    model: CatalogModel, batch_dims: frozenset[tuple[str, int]], batch: int, size: int
) -> dict[str, tuple[int, ...]]:
    """Returns shapes for all inputs that are arrays of known rank."""
    return {
        spec.name: tuple(
            batch if (spec.name, axis) in batch_dims else extent if isinstance(extent, int) else size
            for axis, extent in enumerate(spec.type.shape or ())
        )
        for spec in model.inputs
        if isinstance(spec.type, TensorType)
    }


def _fixed(model: CatalogModel, axes: frozenset[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    """Returns those of the axes that the model declares with a fixed size."""
    shapes = {spec.name: spec.type.shape for spec in model.inputs if isinstance(spec.type, TensorType)}
    return frozenset((name, axis) for name, axis in axes if isinstance((shapes[name] or ())[axis], int))


def _made_up(
    model: CatalogModel, batch_dims: frozenset[tuple[str, int]], batch: int, size: int
) -> dict[str, Value] | None:
    """Returns inputs of ones for a batch; None where an input is of a type that can't be made up."""
    feeds: dict[str, Value] = {}
    shapes = _shapes(model, batch_dims, batch, size)
    for spec in model.inputs:
        if not isinstance(spec.type, TensorType) or spec.type.data_type not in _DTYPES:
            return None
        shape = shapes[spec.name]
        if spec.type.data_type is DataType.STRING:
            feeds[spec.name] = np.full(shape, "a", dtype=object)
        else:
            feeds[spec.name] = np.ones(shape, _DTYPES[spec.type.data_type])
    return feeds
