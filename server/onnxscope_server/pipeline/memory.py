"""Keeps captures within a budget of memory: what would not fit runs in groups of hook points, or is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import Array, Capture, OutputMode, Plan, TensorType, Value, ValueType
from onnxscope_server.errors import LimitExceededError, OnnxscopeServerError
from onnxscope_server.pipeline.shapes_seen import input_shapes
from onnxscope_server.plan.cost import bytes_of, cost
from onnxscope_server.plan.reductions import reduced
from onnxscope_server.result_domain import bytes_held
from onnxscope_server.rewrite.shapes import shape_probe
from onnxscope_server.run.readings import outputs_read, read
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Sessions

# what a value of unknown size is taken for, as a multiple of the inputs, before the model is asked
_GROWTH = 64
_GROWN_KEPT = 4096
_FITS_KEPT = 1024
_KIB = 1 << 10
_MIB = 1 << 20
_SHOWN = 3


class Budget:
    """Plans captures in groups that fit.

    Args:
        limit: bytes of activations that one run may bring.
        sessions: where the session comes from that finds out sizes.
        runner: runs it.
    """

    def __init__(self, limit: int, sessions: Sessions, runner: Runner) -> None:
        self._limit = limit
        self._sessions = sessions
        self._runner = runner
        # plans and shapes of inputs that are known to fit; the values mean nothing
        self._fits: OrderedDict[tuple[Plan, tuple[tuple[str, tuple[int, ...]], ...]], None] = OrderedDict()
        self._grown: OrderedDict[tuple[str, Capture], float] = OrderedDict()

    def learn(self, plan: Plan, inputs: Mapping[str, Value], activations: Mapping[str, Value]) -> None:
        """Keeps how large values were whose sizes nothing else tells; the next run of them is planned with that."""
        if self.fits(plan, inputs):
            return
        given = max(1, sum(map(bytes_held, inputs.values())))
        if sum(map(bytes_held, activations.values())) <= given * _GROWTH:
            return
        for capture in plan.captures:
            growth = bytes_held(activations.get(capture.address)) / given
            if growth > self._grown.get((plan.digest, capture), _GROWTH):
                self._grown[plan.digest, capture] = growth
        while len(self._grown) > _GROWN_KEPT:
            self._grown.popitem(last=False)

    def fits(self, plan: Plan, inputs: Mapping[str, Value]) -> bool:
        """Tells whether a plan is known to fit as it is, for inputs of these shapes."""
        return (plan, input_shapes(inputs)) in self._fits

    async def groups(self, model: CatalogModel, plan: Plan, inputs: Mapping[str, Value]) -> tuple[Plan, ...]:
        """Splits a plan where all of it would not fit.

        Args:
            model: the model.
            plan: what is asked.
            inputs: of this run.

        Returns:
            The plan itself, or plans for some of its hook points each; the first brings outputs and probes.

        Raises:
            LimitExceededError: a single activation of known size is larger than the budget.
        """
        if self.fits(plan, inputs):
            return (plan,)
        arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
        shapes = {name: value.shape for name, value in arrays.items()}
        values = cost(model, plan, shapes, 0).values[: len(plan.captures)]
        sizes = {value.name: value.byte_count for value in values}
        given = max(1, sum(map(bytes_held, inputs.values())))
        guesses = {
            capture.address: int(given * self._grown.get((plan.digest, capture), _GROWTH)) for capture in plan.captures
        }
        unknown = [name for name, size in sizes.items() if size is None]
        if sum(guesses[name] if size is None else size for name, size in sizes.items()) <= self._limit:
            if not unknown:
                self._fits[plan, tuple(shapes.items())] = None
                while len(self._fits) > _FITS_KEPT:
                    self._fits.popitem(last=False)
            return (plan,)
        if unknown:
            seen = await self._seen(model, plan, arrays)
            for capture, value in zip(plan.captures, values, strict=True):
                if value.byte_count is None and isinstance(value.type, TensorType) and value.name in seen:
                    whole = TensorType(value.type.data_type, seen[value.name])
                    sizes[value.name] = bytes_of(_left(capture, whole))
        known = {name: guesses[name] if size is None else size for name, size in sizes.items()}
        too_large = [name for name, size in sizes.items() if size is not None and size > self._limit]
        if too_large:
            raise self._refusal({name: known[name] for name in too_large}, sum(known.values()))
        return self._split(plan, known)

    def _split(self, plan: Plan, sizes: Mapping[str, int]) -> tuple[Plan, ...]:
        groups: list[list[str]] = [[]]
        room = self._limit
        for capture in plan.captures:
            size = sizes[capture.address]
            if size > room and groups[-1]:
                groups.append([])
                room = self._limit
            groups[-1].append(capture.address)
            room -= size
        if len(groups) == 1:
            return (plan,)
        by_address = {capture.address: capture for capture in plan.captures}
        plans = [replace(plan, captures=tuple(by_address[address] for address in group)) for group in groups]
        return plans[0], *(replace(one, outputs=OutputMode.NONE, probes=()) for one in plans[1:])

    async def _seen(self, model: CatalogModel, plan: Plan, inputs: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Returns the shapes that values of the main graph have for these inputs."""
        try:
            chain = await self._sessions.get(
                ("shapes", model.digest, frozenset(), plan.expand),
                model.digest,
                lambda: [shape_probe(model, expand=plan.expand)],
                exact=True,
            )
            session = chain.session(0)
            captures = session.segment.captures
            feeds: dict[str, Value] = {name: inputs[name] for name in session.segment.inputs if name in inputs}
            fetches = [name for reading in captures.values() for name in outputs_read(reading)]
            values = await self._runner.run(session, feeds, fetches)
        except OnnxscopeServerError:
            return {}
        return {
            address: tuple(np.asarray(read(reading, values, None)).tolist()) for address, reading in captures.items()
        }

    def _refusal(self, too_large: Mapping[str, int], total: int) -> LimitExceededError:
        named = ", ".join(f"{name} {_shown(size)}" for name, size in list(too_large.items())[:_SHOWN])
        more = ", ..." if len(too_large) > _SHOWN else ""
        return LimitExceededError(
            f"The memory budget is {_shown(self._limit)}, and {named}{more} would not fit it (all that is asked: "
            f"{_shown(total)}). Reduce them in the graph (reduce=), send fewer rows at a time, leave them out, or "
            "start the server with a larger --memory-budget.",
            setting="memory_budget",
            limit=str(self._limit),
            got=str(max(too_large.values())),
        )


def _left(capture: Capture, type_: TensorType) -> ValueType | None:
    """Returns the type of what a capture brings of a value of this type."""
    return type_ if capture.reduction is None else reduced(capture.address, capture.reduction, type_)


def _shown(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB" if size >= _MIB else f"{size / _KIB:,.1f} KiB"
