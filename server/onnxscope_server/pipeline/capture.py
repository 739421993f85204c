"""The verb capture: spec -> plan -> rewrite -> session -> run -> result.

`run` without hook points is the same verb: it then reads only the outputs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.domain import (
    Array,
    CaptureSpec,
    Fidelity,
    ModelEntry,
    OutputMode,
    Plan,
    PlanCost,
    Result,
    Segment,
    Value,
)
from onnxscope_server.errors import ModelInvalidError, NotImplementedYetError, ReductionInvalidError, RunFailedError
from onnxscope_server.pipeline import unused_slots
from onnxscope_server.pipeline.fidelity import Verdicts, max_difference
from onnxscope_server.pipeline.memory import Budget
from onnxscope_server.plan.cost import cost
from onnxscope_server.plan.inputs import check
from onnxscope_server.plan.planner import plan as make_plan
from onnxscope_server.rewrite.build import build, unmodified
from onnxscope_server.run.readings import outputs_read, read
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Session, Sessions

_PLANS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the sessions that serve it.

    Attributes:
        entry: the catalog's entry that the spec named.
        model: the model.
        plan: the resolved spec.
        watched: session of the rewritten graph; None where only outputs are asked for.
        plain: session of the unmodified model; None where it need not run.
        fidelity: what rewriting does to the outputs, as far as known without running.
        timings: seconds per stage so far.
    """

    entry: ModelEntry
    model: CatalogModel
    plan: Plan
    watched: Session | None
    plain: Session | None
    fidelity: Fidelity
    timings: Mapping[str, float]

    @property
    def iterates(self) -> bool:
        """Whether some of what is captured lies in a body that iterates."""
        places = self.model.contents.places(expand=self.plan.expand)
        return any(places[capture.address].repeats for capture in self.plan.captures)


class Captures:
    """Runs captures of the models in a catalog."""

    def __init__(self, catalog: Catalog, sessions: Sessions, runner: Runner, budget: Budget) -> None:
        self._catalog = catalog
        self._sessions = sessions
        self._runner = runner
        self._budget = budget
        self._verdicts = Verdicts(runner)
        self._plans: OrderedDict[tuple[str, CaptureSpec], Plan] = OrderedDict()
        # plans that fail where shapes are relied on; the values mean nothing
        self._varying: OrderedDict[Plan, None] = OrderedDict()

    async def cost(self, spec: CaptureSpec, input_shapes: Mapping[str, tuple[int, ...]]) -> PlanCost:
        """Returns what a capture would bring, without running the model."""

        def work() -> PlanCost:
            _, model = self._catalog.resolve(spec.model, spec.version)
            plan = make_plan(model, spec)
            return cost(model, plan, input_shapes, _segment(model, plan).node_count)

        return await self._runner.call(work)

    async def prepare(self, spec: CaptureSpec) -> Prepared:
        """Resolves a spec and makes its sessions ready."""
        start = time.perf_counter()
        found = self._at_hand(spec)
        entry, model, plan = await self._runner.call(self._resolve, spec) if found is None else found
        return await self._ready(entry, model, self._best(plan), time.perf_counter() - start)

    async def _ready(self, entry: ModelEntry, model: CatalogModel, plan: Plan, planning: float) -> Prepared:
        start = time.perf_counter()
        plain = watched = None
        fidelity = Fidelity()
        if plan.captures:
            slots = unused_slots.filled(model, plan)
            with unused_slots.blamed(slots):
                watched = await self._watched(model, plan)
            if _is_compared(model, plan):
                plain = await self._plain(model, exact=plan.exact, compared=True)
                fidelity = await self._verdicts.of(plain, watched)
                if not fidelity.fusion_blocked:
                    plain = None
            elif plan.outputs is OutputMode.UNMODIFIED:
                fidelity = unused_slots.verdict(model, slots)
                plain = await self._plain(model, exact=True) if slots else None
        elif plan.outputs is not OutputMode.NONE:
            plain = await self._plain(model, exact=plan.exact)
        timings = {"plan": planning, "session": time.perf_counter() - start}
        return Prepared(entry, model, plan, watched, plain, fidelity, timings)

    def planned(self, prepared: Prepared, shapes: Mapping[str, tuple[int, ...]]) -> PlanCost:
        """Returns what a prepared plan brings for inputs of these shapes."""
        session = prepared.watched or prepared.plain
        nodes = session.segment.node_count if session else 0
        return cost(prepared.model, prepared.plan, shapes, nodes)

    async def run(self, prepared: Prepared, inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> Result:
        """Runs a prepared plan on one batch, in groups where it would not fit the memory budget.

        Raises:
            InputMismatchError: the inputs are not what the model declares.
            LimitExceededError: an activation is larger than the memory budget.
            ReductionInvalidError: masks and reductions don't pair.
            RunFailedError: onnxruntime failed on these inputs.
            OutOfMemoryError: the run needed more memory than there is.
        """
        groups = await self.groups(prepared, inputs)
        return joined([await self.run_group(prepared, group, inputs, masks) for group in groups])

    async def groups(self, prepared: Prepared, inputs: Mapping[str, Value]) -> tuple[Plan, ...]:
        """Returns what to run one after the other for a batch; who lets go of each result holds one at a time.

        Raises:
            InputMismatchError: the inputs are not what the model declares.
            LimitExceededError: an activation is larger than the memory budget.
        """
        check(prepared.model, inputs)
        return await self._budget.groups(prepared.model, prepared.plan, inputs)

    async def run_group(
        self, prepared: Prepared, group: Plan, inputs: Mapping[str, Value], masks: Mapping[str, Array]
    ) -> Result:
        """Runs one group; results of all of them make one when `joined`."""
        if group is prepared.plan:
            result = await self._run_either(prepared, inputs, masks)
            self._budget.learn(group, inputs, result.activations)
            return result
        ready = await self._ready_as(prepared, self._best(group))
        try:
            return await self._run_either(ready, inputs, masks)
        finally:
            # its memory is for the next one
            for plan in (group, _varying(group)):
                self._sessions.release(plan, exact=group.exact)

    async def _run_either(self, prepared: Prepared, inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> Result:
        """Runs a plan; where that fails for values in bodies, once more without relying on their shapes."""
        plan = self._best(prepared.plan)
        if plan is not prepared.plan:
            return await self._run(await self._ready_as(prepared, plan), inputs, masks)
        try:
            return await self._run(prepared, inputs, masks)
        except RunFailedError as error:
            if plan.varying or not prepared.iterates:
                raise
            first = error
        try:
            result = await self._run(await self._ready_as(prepared, _varying(plan)), inputs, masks)
        except (RunFailedError, ModelInvalidError, NotImplementedYetError):
            raise first from None
        self._varying[plan] = None
        while len(self._varying) > _PLANS_KEPT:
            self._varying.popitem(last=False)
        return result

    async def _ready_as(self, prepared: Prepared, plan: Plan) -> Prepared:
        return await self._ready(prepared.entry, prepared.model, plan, 0.0)

    def _best(self, plan: Plan) -> Plan:
        """Returns the plan as it is known to run."""
        return _varying(plan) if plan in self._varying else plan

    async def _run(self, prepared: Prepared, inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> Result:
        start = time.perf_counter()
        activations: dict[str, Value] = {}
        scalings: dict[str, Value] = {}
        outputs: dict[str, Value] = {}
        fidelity = prepared.fidelity
        names = [spec.name for spec in prepared.model.outputs]
        if prepared.watched is not None:
            segment = prepared.watched.segment
            feeds = _feeds(segment, inputs, masks)
            wanted = (*segment.captures.values(), *segment.scalings.values())
            needed = [name for reading in wanted for name in outputs_read(reading)]
            fetches = list(dict.fromkeys([*needed, *segment.outputs]))
            slots = unused_slots.filled(prepared.model, prepared.plan)
            with unused_slots.blamed(slots):
                values = await self._runner.run(prepared.watched, feeds, fetches)
            activations = {
                capture.address: read(segment.captures[capture.address], values, capture.type)
                for capture in prepared.plan.captures
            }
            scalings = {address: read(reading, values, None) for address, reading in segment.scalings.items()}
            unused_slots.check_made(prepared.model, prepared.plan, activations)
            outputs = {name: values[name] for name in segment.outputs}
        if prepared.plain is not None:
            feeds = _feeds(prepared.plain.segment, inputs, {})
            plain = await self._runner.run(prepared.plain, feeds, list(dict.fromkeys(names)))
            if prepared.watched is not None:
                fidelity = max_difference(fidelity, plain, outputs)
            outputs = plain
        timings = {**prepared.timings, "run": time.perf_counter() - start}
        return Result(activations, outputs, scalings, timings, fidelity)

    def _at_hand(self, spec: CaptureSpec) -> tuple[ModelEntry, CatalogModel, Plan] | None:
        """Resolves a spec that was resolved before: to hand that to a thread takes longer than to do it."""
        found = self._catalog.at_hand(spec.model, spec.version)
        plan = self._plans.get((found[1].digest, spec)) if found is not None else None
        return None if found is None or plan is None else (*found, plan)

    def _resolve(self, spec: CaptureSpec) -> tuple[ModelEntry, CatalogModel, Plan]:
        entry, model = self._catalog.resolve(spec.model, spec.version)
        key = (model.digest, spec)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = make_plan(model, spec)
            while len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        return entry, model, plan

    async def _watched(self, model: CatalogModel, plan: Plan) -> Session:
        return await self._sessions.get(
            plan,
            plan.digest,
            lambda: build(model, plan),
            exact=plan.exact,
            keep_optimised=_is_compared(model, plan),
        )

    async def _plain(self, model: CatalogModel, *, exact: bool, compared: bool = False) -> Session:
        return await self._sessions.get(
            ("unmodified", model.digest, exact),
            model.digest,
            lambda: unmodified(model),
            exact=exact,
            keep_optimised=compared or not exact,
        )


def joined(results: Sequence[Result]) -> Result:
    """Returns the results of groups as one."""
    first, *others = results
    for other in others:
        timings = {stage: seconds + other.timings.get(stage, 0.0) for stage, seconds in first.timings.items()}
        first = replace(
            first,
            activations={**first.activations, **other.activations},
            scalings={**first.scalings, **other.scalings},
            timings=timings,
        )
    return first


def _varying(plan: Plan) -> Plan:
    return replace(plan, varying=True)


def _is_compared(model: CatalogModel, plan: Plan) -> bool:
    """Tells whether the graphs that run say whether the outputs are still the unmodified model's.

    Without optimisation they are, but for half precision: there onnxruntime removes casts between nodes at any level.
    """
    return plan.outputs is OutputMode.UNMODIFIED and (not plan.exact or model.contents.has_half_precision)


def _segment(model: CatalogModel, plan: Plan) -> Segment:
    return build(model, plan) if plan.captures else unmodified(model)


def _feeds(segment: Segment, inputs: Mapping[str, Value], masks: Mapping[str, Array]) -> dict[str, Value]:
    wanted = set(segment.masks)
    if wanted - set(masks):
        missing = ", ".join(sorted(wanted - set(masks)))
        raise ReductionInvalidError(
            f"the reduction's mask {missing} was not sent; send it with VALUE_ROLE_MASK",
            reduction=missing,
        )
    feeds: dict[str, Value] = {name: inputs[name] for name in segment.inputs if name in inputs}
    feeds |= {graph_input: masks[name] != 0 for name, graph_input in segment.masks.items()}
    return feeds
