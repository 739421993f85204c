"""Where activations come from: a model that runs, or the caller."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import numpy as np

from onnxscope_server.domain import Value
from onnxscope_server.errors import DataInvalidError
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures, Prepared
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.running import Call
from onnxscope_server.plan.inputs import check

ACTIVATIONS = "activations"


class ModelSource:
    """Runs a model.

    Args:
        captures: runs the architecture with shuffled weights.
        batching: runs the model.
        prepared: the plan of all hook points.
        shuffled: the same of the architecture with shuffled weights; None where that is not wanted.
        axes: the batch axis of each input that has rows; empty where that is not known.
        caller: whose rows they are.
    """

    def __init__(
        self,
        captures: Captures,
        batching: Batching,
        prepared: Prepared,
        shuffled: Prepared | None,
        axes: Mapping[str, int],
        caller: str,
    ) -> None:
        self._captures = captures
        self._batching = batching
        self._prepared = prepared
        self._shuffled = shuffled
        self._axes = axes
        self._caller = caller

    @property
    def is_shuffled(self) -> bool:
        """Whether `shuffled` brings something."""
        return self._shuffled is not None

    async def activations(self, batch: ProbeBatch) -> AsyncGenerator[tuple[str, Value], None]:
        """Runs the model."""
        parts = self._batching.parts(self._prepared, Call(batch.inputs, batch.masks), self._caller)
        async with aclosing(parts):
            async for part in parts:
                for item in part.activations.items():
                    yield item

    async def shuffled(self, batch: ProbeBatch) -> AsyncGenerator[tuple[str, Value], None]:
        """Runs the architecture with shuffled weights."""
        if self._shuffled is None:
            return
        parts = self._captures.parts(self._shuffled, Call(batch.inputs, batch.masks))
        async with aclosing(parts):
            async for part in parts:
                for item in part.activations.items():
                    yield item

    def extent(self, inputs: Mapping[str, Value]) -> int:
        """Returns the number of rows of inputs, filling included."""
        check(self._prepared.model, inputs)
        for name, value in inputs.items():
            axis = self._axes.get(name, None if self._axes else 0)
            if axis is not None and isinstance(value, np.ndarray) and value.ndim > axis:
                return int(value.shape[axis])
        raise DataInvalidError(
            "None of the inputs has rows: no axis of them is the batch's. A probe learns from rows.", what="rows"
        )


class GivenSource:
    """Takes the activations that the caller has at hand."""

    is_shuffled = False

    async def activations(self, batch: ProbeBatch) -> AsyncGenerator[tuple[str, Value], None]:
        """Takes the one input there is."""
        # a caller in this process may write to its array afterwards
        yield ACTIVATIONS, np.array(batch.inputs[ACTIVATIONS])

    async def shuffled(self, batch: ProbeBatch) -> AsyncGenerator[tuple[str, Value], None]:  # noqa: ARG002  # as ModelSource
        """Has none."""
        return
        yield

    def extent(self, inputs: Mapping[str, Value]) -> int:
        """Returns the number of rows."""
        value = inputs.get(ACTIVATIONS)
        if not isinstance(value, np.ndarray) or not value.ndim or len(inputs) > 1:
            raise DataInvalidError(
                f"Without a model each batch has one input {ACTIVATIONS!r}, an array [row, feature].", what=ACTIVATIONS
            )
        return len(value)
