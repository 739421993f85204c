"""The verb capture: spec -> plan -> rewrite -> sessions -> run -> results, one after the other.

`run` without hook points is the same verb: it then reads only the outputs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

from onnxscope_server.catalog.catalog import Catalog
from onnxscope_server.catalog.description import ModelEntry
from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.probe_entry import ProbeEntry
from onnxscope_server.cost_domain import PlanCost
from onnxscope_server.domain import CaptureSpec, OutputMode, Plan, Value
from onnxscope_server.errors import InputMismatchError, ModelInvalidError, NotImplementedYetError, RunFailedError
from onnxscope_server.pipeline import running, unused_slots
from onnxscope_server.pipeline.brief import BriefRuns
from onnxscope_server.pipeline.fidelity import Verdicts, max_difference
from onnxscope_server.pipeline.memory import Budget
from onnxscope_server.pipeline.parts import Key, joined, keys, without
from onnxscope_server.pipeline.running import Call
from onnxscope_server.pipeline.shapes_seen import ShapesSeen
from onnxscope_server.plan.cost import cost
from onnxscope_server.plan.inputs import check
from onnxscope_server.plan.planner import plan as make_plan
from onnxscope_server.result_domain import Fidelity, Result
from onnxscope_server.rewrite.build import build, build_segments, unmodified
from onnxscope_server.run.runner import Runner
from onnxscope_server.run.sessions import Chain, Sessions

_PLANS_KEPT = 1024
_PlanKey: TypeAlias = tuple[str, CaptureSpec, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the chains that serve it.

    Attributes:
        entry: the catalog's entry that the spec named.
        model: the model.
        plan: the resolved spec.
        watched: of the rewritten graph; None where only outputs are asked for.
        plain: of the unmodified model; None where it need not run.
        fidelity: what rewriting does to the outputs, as far as known without running.
        timings: seconds per stage so far.
    """

    entry: ModelEntry
    model: CatalogModel
    plan: Plan
    watched: Chain | None
    plain: Chain | None
    fidelity: Fidelity
    timings: Mapping[str, float]

    @property
    def is_one_run(self) -> bool:
        """Whether one run of one session brings all of it."""
        return self.plain is None and self.watched is not None and len(self.watched.segments) == 1

    @property
    def iterates(self) -> bool:
        """Whether some of what is captured or probed lies in a body that iterates."""
        places = self.model.contents.places(expand=self.plan.expand)
        return any(places[address].repeats for address in self.plan.addresses)


class Captures:
    """Runs captures of the models in a catalog."""

    def __init__(self, catalog: Catalog, sessions: Sessions, runner: Runner, budget: Budget) -> None:
        self._catalog = catalog
        self._sessions = sessions
        self._runner = runner
        self._budget = budget
        self._verdicts = Verdicts(runner)
        self._plans: OrderedDict[_PlanKey, Plan] = OrderedDict()
        self._seen = ShapesSeen()
        self._brief = BriefRuns()
        # plans that need no run of the unmodified model beside theirs, and what is known of their fidelity
        self._alone: OrderedDict[Plan, Fidelity] = OrderedDict()
        # plans that don't run as they are, or not as well, and what runs instead
        self._instead: OrderedDict[Plan, Plan] = OrderedDict()

    async def cost(self, spec: CaptureSpec, input_shapes: Mapping[str, tuple[int, ...]]) -> PlanCost:
        """Returns what a capture would bring, without running the model."""

        def work() -> PlanCost:
            _, model = self._catalog.resolve(spec.model, spec.version)
            plan = make_plan(model, spec, self._entries(model, spec))
            segment = build(model, plan, self._files(plan)) if plan.is_watching else unmodified(model)
            return cost(model, plan, input_shapes, segment.node_count)

        return await self._runner.call(work)

    async def prepare(self, spec: CaptureSpec) -> Prepared:
        """Resolves a spec and makes its sessions ready."""
        start = time.perf_counter()
        found = self._at_hand(spec)
        entry, model, plan = found if found is not None else await self._runner.call(self._resolve, spec)
        plan = self._best(plan)
        fidelity = self._alone.get(plan)
        watched = self._sessions.at_hand(plan, exact=plan.exact) if fidelity is not None else None
        if watched is None or fidelity is None:
            return await self._ready(entry, model, plan, time.perf_counter() - start)
        return Prepared(
            entry, model, plan, watched, None, fidelity, {"plan": time.perf_counter() - start, "session": 0.0}
        )

    async def prepare_as(self, prepared: Prepared, model: CatalogModel) -> Prepared:
        """Does what `prepare` does, for a model of the same graph as another one that was prepared.

        Args:
            prepared: of the other one.
            model: need not be in the catalog; who made it calls `forget` when it is no longer used.
        """
        return await self._ready(prepared.entry, model, replace(prepared.plan, digest=model.digest), 0.0)

    async def forget(self, model: CatalogModel) -> None:
        """Gives back what serves the plans of a model."""
        await self._sessions.drop(model.digest)

    async def _ready(self, entry: ModelEntry, model: CatalogModel, plan: Plan, planning: float) -> Prepared:
        start = time.perf_counter()
        plain = watched = None
        fidelity = Fidelity()
        if plan.is_watching:
            slots = unused_slots.filled(model, plan)
            with unused_slots.blamed(slots):
                watched = await self._watched(model, plan)
            if _is_compared(model, plan):
                plain = await self._plain(model, exact=plan.exact, compared=True)
                with unused_slots.blamed(slots):
                    fidelity = await self._verdicts.of(plain, watched)
                if fidelity.fusion_blocked and len(watched.segments) > 1:
                    plan, watched, fidelity = await self._better(model, plan, plain, (watched, fidelity))
                if not fidelity.fusion_blocked:
                    plain = None
            elif plan.outputs is OutputMode.UNMODIFIED:
                fidelity = unused_slots.verdict(model, slots)
                plain = await self._plain(model, exact=True) if slots else None
        elif plan.outputs is not OutputMode.NONE:
            plain = await self._plain(model, exact=plan.exact)
        timings = {"plan": planning, "session": time.perf_counter() - start}
        if watched is not None and plain is None:
            self._alone[plan] = fidelity
            while len(self._alone) > _PLANS_KEPT:
                self._alone.popitem(last=False)
        return Prepared(entry, model, plan, watched, plain, fidelity, timings)

    async def _better(
        self, model: CatalogModel, plan: Plan, plain: Chain, cut: tuple[Chain, Fidelity]
    ) -> tuple[Plan, Chain, Fidelity]:
        """Returns a plan in one segment where that leaves the outputs as they are, else as it was cut."""
        whole = replace(plan, whole=True)
        watched = await self._watched(model, whole)
        fidelity = await self._verdicts.of(plain, watched)
        if fidelity.fusion_blocked:
            self._sessions.release(whole, exact=whole.exact)
            return plan, *cut
        self._prefer(plan, whole)
        return whole, watched, fidelity

    def planned(self, prepared: Prepared, shapes: Mapping[str, tuple[int, ...]]) -> PlanCost:
        """Returns what a prepared plan brings for inputs of these shapes."""
        chain = prepared.watched or prepared.plain
        return cost(prepared.model, prepared.plan, shapes, chain.node_count if chain else 0)

    def briefly(self, prepared: Prepared, call: Call) -> Result | None:
        """Does what `run` does where that takes less time than to hand it to a thread.

        Returns:
            None for all that may take longer, or that fails: `run` does that, and knows other ways.

        Raises:
            InputMismatchError: the inputs are not what the model declares.
        """
        plan, chain, model = prepared.plan, prepared.watched, prepared.model
        if chain is None or not prepared.is_one_run or not self._budget.fits(plan, call.inputs):
            return None
        if plan in self._instead or unused_slots.filled(model, plan):
            return None
        start = time.perf_counter()
        try:
            result = running.briefly(self._runner, chain, plan, call, self._seen, self._brief, model)
        except (RunFailedError, ModelInvalidError):
            return None
        except InputMismatchError:
            # inputs of these names and shapes ran before: only now is it worth the time to say what is wrong
            check(model, call.inputs)
            raise
        if result is None:
            return None
        timings = {**prepared.timings, "run": time.perf_counter() - start}
        return Result.of(result.values, timings, prepared.fidelity)

    async def run(self, prepared: Prepared, call: Call) -> Result:
        """Runs a prepared plan on one batch and gathers what it brings.

        Raises:
            As `parts`.
        """
        async with aclosing(self.parts(prepared, call)) as parts:
            return joined([part async for part in parts])

    async def parts(self, prepared: Prepared, call: Call) -> AsyncGenerator[Result, None]:
        """Runs a prepared plan on one batch, in groups where it would not fit the memory budget.

        Yields:
            Values as they are made; the last part has the timings and the fidelity of all.

        Raises:
            InputMismatchError: the inputs are not what the model declares.
            LimitExceededError: an activation is larger than the memory budget.
            ReductionInvalidError: masks and reductions don't pair.
            RunFailedError: onnxruntime failed on these inputs.
            OutOfMemoryError: the run needed more memory than there is.
        """
        check(prepared.model, call.inputs)
        groups = await self._budget.groups(prepared.model, prepared.plan, call.inputs)
        ends = []
        for group in groups:
            async with aclosing(self.run_group(prepared, group, call)) as parts:
                async for part in parts:
                    if part.timings and len(groups) > 1:
                        ends.append(Result({}, {}, timings=part.timings, fidelity=part.fidelity))
                        if keys(part):
                            yield replace(part, timings={}, fidelity=Fidelity())
                    else:
                        yield part
        if ends:
            yield joined(ends)

    async def run_group(self, prepared: Prepared, group: Plan, call: Call) -> AsyncGenerator[Result, None]:
        """Runs one group; yields what `parts` does, for that group alone."""
        if group is prepared.plan:
            async with aclosing(self._either(prepared, call)) as parts:
                async for part in parts:
                    self._budget.learn(group, call.inputs, part.activations)
                    yield part
            return
        ready = await self._ready_as(prepared, self._best(group))
        try:
            async with aclosing(self._either(ready, call)) as parts:
                async for part in parts:
                    yield part
        finally:
            # its memory is for the next one
            for plan in (group, *_variants(group)):
                self._sessions.release(plan, exact=group.exact)

    async def _either(self, prepared: Prepared, call: Call) -> AsyncGenerator[Result, None]:
        """Runs a plan; where that fails, maybe for how it was rewritten, in another way for what is missing."""
        plan = self._best(prepared.plan)
        ready = prepared if plan is prepared.plan else await self._ready_as(prepared, plan)
        sent: set[Key] = set()
        try:
            async with aclosing(self._parts(ready, call)) as parts:
                async for part in parts:
                    sent |= keys(part)
                    yield part
                return
        except (RunFailedError, ModelInvalidError) as error:
            first = error
        for other in _others(ready, has_begun=bool(sent)):
            try:
                async with aclosing(self._parts(await self._ready_as(prepared, other), call)) as parts:
                    async for part in parts:
                        missing = without(part, sent)
                        sent |= keys(missing)
                        yield missing
            except (RunFailedError, ModelInvalidError, NotImplementedYetError):
                continue
            self._prefer(plan, other)
            return
        raise first

    async def _ready_as(self, prepared: Prepared, plan: Plan) -> Prepared:
        return await self._ready(prepared.entry, prepared.model, plan, 0.0)

    def _best(self, plan: Plan) -> Plan:
        """Returns the plan as it is known to run."""
        return self._instead.get(plan, plan)

    def _prefer(self, plan: Plan, other: Plan) -> None:
        self._instead[plan] = other
        while len(self._instead) > _PLANS_KEPT:
            self._instead.popitem(last=False)

    async def _parts(self, prepared: Prepared, call: Call) -> AsyncGenerator[Result, None]:
        start = time.perf_counter()
        model, plan = prepared.model, prepared.plan
        outputs: dict[str, Value] = {}
        fidelity = prepared.fidelity
        last = Result({}, {})
        if prepared.watched is not None:
            slots = unused_slots.filled(model, plan)
            # outputs are compared at the end
            watched = replace(call, kept=prepared.watched.outputs) if prepared.plain else call
            with unused_slots.blamed(slots):
                if prepared.is_one_run:
                    last = await running.at_once(
                        self._runner, prepared.watched, plan, watched, self._seen, self._brief, model
                    )
                    unused_slots.check_made(model, plan, slots, last.activations)
                else:
                    async with aclosing(
                        running.run(self._runner, prepared.watched, plan, watched, self._seen)
                    ) as parts:
                        async for part in parts:
                            unused_slots.check_made(model, plan, slots, part.activations)
                            outputs |= part.outputs
                            yield replace(part, outputs={}) if prepared.plain else part
        if prepared.plain is not None:
            (segment,) = prepared.plain.segments
            names = list(dict.fromkeys(spec.name for spec in model.outputs))
            feeds = running.feeds_of(segment, call.inputs, {})
            plain = await self._runner.run(prepared.plain.session(0), feeds, names)
            if prepared.watched is not None:
                fidelity = max_difference(fidelity, plain, outputs)
            last = Result({}, plain)
        yield replace(last, timings={**prepared.timings, "run": time.perf_counter() - start}, fidelity=fidelity)

    def _at_hand(self, spec: CaptureSpec) -> tuple[ModelEntry, CatalogModel, Plan] | None:
        """Does what `_resolve` does where that takes no time."""
        found = self._catalog.at_hand(spec.model, spec.version)
        plan = self._plans.get(_key_of(found[1], spec, self._entries(found[1], spec))) if found else None
        return (*found, plan) if found and plan else None

    def _resolve(self, spec: CaptureSpec) -> tuple[ModelEntry, CatalogModel, Plan]:
        entry, model = self._catalog.resolve(spec.model, spec.version)
        probes = self._entries(model, spec)
        key = _key_of(model, spec, probes)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = make_plan(model, spec, probes)
            while len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        return entry, model, plan

    def _entries(self, model: CatalogModel, spec: CaptureSpec) -> tuple[ProbeEntry, ...]:
        """Returns the probes that a spec names, as they are now."""
        return tuple(self._catalog.probes.entry(model.digest, name) for name in dict.fromkeys(spec.probes))

    def _files(self, plan: Plan) -> dict[str, bytes]:
        """Returns the files of a plan's probes, by digest."""
        kept = self._catalog.probes
        return {probe.digest: kept.file(plan.digest, probe.name, probe.digest) for probe in plan.probes}

    async def _watched(self, model: CatalogModel, plan: Plan) -> Chain:
        return await self._sessions.get(
            plan,
            plan.digest,
            lambda: build_segments(model, plan, self._files(plan)),
            exact=plan.exact,
            keep_optimised=_is_compared(model, plan),
        )

    async def _plain(self, model: CatalogModel, *, exact: bool, compared: bool = False) -> Chain:
        return await self._sessions.get(
            ("unmodified", model.digest, exact),
            model.digest,
            lambda: [unmodified(model)],
            exact=exact,
            keep_optimised=compared or not exact,
        )


def _key_of(model: CatalogModel, spec: CaptureSpec, probes: Sequence[ProbeEntry]) -> _PlanKey:
    """Returns what a plan depends on: a name may stand for another probe the next time."""
    return model.digest, spec, tuple(probe.digest for probe in probes)


def _variants(plan: Plan) -> tuple[Plan, Plan]:
    """Returns a plan in one segment, and without relying on what is known of shapes."""
    return replace(plan, whole=True), replace(plan, varying=True, whole=True)


def _others(prepared: Prepared, *, has_begun: bool) -> Iterator[Plan]:
    """Yields other ways to run a plan that failed, as far as that can be for how it was rewritten."""
    whole, varying = _variants(prepared.plan)
    if has_begun and prepared.watched is not None and len(prepared.watched.segments) > 1:
        yield whole
    if prepared.iterates and not prepared.plan.varying:
        yield varying


def _is_compared(model: CatalogModel, plan: Plan) -> bool:
    """Tells whether the graphs that run say whether the outputs are still the unmodified model's.

    Without optimisation they are, but for half precision: there onnxruntime removes casts between nodes at any level.
    """
    return plan.outputs is OutputMode.UNMODIFIED and (not plan.exact or model.contents.has_half_precision)
