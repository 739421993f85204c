"""Many rows in batches, and their activations in one piece again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.cli.captured import Captured
from onnxscope.cli.console import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from onnxscope.model import Model
    from onnxscope.results import HookPoint
    from onnxscope.v1.codec import Value

_SAME_FOR_ALL_ROWS = ("constant", "weight")


def row_count(values: Mapping[str, Any]) -> int:
    """Returns the number of rows of the inputs: the longest first axis."""
    return max((len(value) for value in values.values() if np.ndim(value)), default=1)


def capture(
    model: Model,
    values: Mapping[str, Any],
    selectors: Sequence[str],
    progress: Callable[[str, int, int], None],
    *,
    batch_size: int,
    reduce: Any = None,
    outputs: bool | str = True,
    exact: bool = False,
    expand: bool = False,
    dequantize: bool = False,
) -> Captured:
    """Streams rows through a model and joins what comes back.

    Args:
        model: loaded.
        values: inputs by name, rows along their first axis.
        selectors: of the hook points to watch.
        progress: is told how many rows are done.
        batch_size: rows at once.
        reduce: as in `Model.capture`.
        outputs: as in `Model.capture`.
        exact: as in `Model.capture`.
        expand: as in `Model.capture`.
        dequantize: as in `Model.capture`.

    Returns:
        Values with the rows of all batches, and the seconds of all batches together.

    Raises:
        CommandError: a value has no rows, and so cannot be joined.
    """
    total = row_count(values)
    watched = [*selectors, *(spec.name for spec in model.outputs)]
    points = {point.address: point for point in model.hook_points(watched, expand=expand)}
    activations: dict[str, list[Value]] = {}
    results: dict[str, list[Value]] = {}
    timings: dict[str, float] = {}
    fidelity = []
    stream = model.stream(
        values,
        at=list(selectors),
        reduce=reduce,
        outputs=outputs,
        exact=exact,
        expand=expand,
        dequantize=dequantize,
        batch_size=batch_size,
        progress=lambda done, rows: progress("running", done, rows or total),
    )
    for acts in stream:
        for into, arrived in ((activations, acts), (results, acts.outputs)):
            for name, value in arrived.items():
                into.setdefault(name, []).append(value)
        for stage, seconds in acts.timings.items():
            timings[stage] = timings.get(stage, 0.0) + seconds
        fidelity.append(acts.fidelity)
    is_reduced = reduce is not None
    return Captured(
        {
            name: join(name, parts, points.get(name), total, is_reduced=is_reduced)
            for name, parts in activations.items()
        },
        {name: join(name, parts, points.get(name), total) for name, parts in results.items()},
        timings,
        fidelity,
    )


def join(name: str, parts: Sequence[Value], point: HookPoint | None, total: int, *, is_reduced: bool = False) -> Value:
    """Joins what batches brought along the axis of rows.

    Args:
        name: of the value.
        parts: one a batch.
        point: what is known of its hook point.
        total: number of rows of all batches.
        is_reduced: whether a reduction moved the rows to the first axis.

    Returns:
        One value; the first part where the value is the same for all rows.

    Raises:
        CommandError: the value has no axis of rows, and differs from batch to batch.
    """
    if len(parts) == 1 or (point is not None and point.kind in _SAME_FOR_ALL_ROWS):
        return parts[0]
    if all(part is None for part in parts):
        return None
    if all(isinstance(part, list) for part in parts):
        items = [item for part in parts if isinstance(part, list) for item in part]
        if len(items) == total:
            return items
    arrays = [part for part in parts if isinstance(part, np.ndarray) and part.ndim]
    if len(arrays) == len(parts):
        if point is not None and point.batch_axis is not None and not is_reduced:
            return np.concatenate(arrays, axis=point.batch_axis)
        count = sum(len(array) for array in arrays)
        # a reduction may make every position a row
        if count == total or (is_reduced and count % total == 0):
            return np.concatenate(arrays)
        if all(np.array_equal(array, arrays[0]) for array in arrays):
            return arrays[0]
    raise CommandError(
        f"{name} has no axis of rows, so that its batches cannot be joined; leave it out with '!' or drop --batch-size"
    )
