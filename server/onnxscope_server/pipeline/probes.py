"""The verbs fit and sweep: rows -> one pass of the model -> a fit at each hook point -> probes of the catalog."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from onnxscope_server.catalog.probes import Probes, check_name
from onnxscope_server.domain import Array
from onnxscope_server.errors import (
    DataInvalidError,
    LimitExceededError,
    ModelNotFoundError,
    OnnxscopeServerError,
    ProbeExistsError,
    ProbeUnfaithfulError,
    SelectorInvalidError,
    ValueInvalidError,
)
from onnxscope_server.pipeline.probing import fits
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.probing.fitting import Fitting, Subject, check
from onnxscope_server.pipeline.probing.gathering import Gathering
from onnxscope_server.pipeline.probing.passing import Pass
from onnxscope_server.pipeline.probing.places import Place
from onnxscope_server.pipeline.probing.raw_inputs import RawInputs
from onnxscope_server.pipeline.probing.sweep_folders import STORE, SweepFolders
from onnxscope_server.pipeline.probing.sweeping import Sweep, digest_of
from onnxscope_server.pipeline.probing.targets import Target, Targets
from onnxscope_server.probe_domain import KeptProbe, Predictor, ProbeSpec
from onnxscope_server.probes import metadata
from onnxscope_server.run.pool import Pool
from onnxscope_server.run.runner import Runner
from onnxscope_server.settings import Settings
from onnxscope_server.store.activations import ActivationStore

# what is wrong with one hook point, and says nothing of others
_OF_ONE = (DataInvalidError, LimitExceededError, ProbeUnfaithfulError)
_SHOWN = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fit or a sweep has come; as FitProgress in probe_service.proto."""

    row_count: int
    stage: str
    done_count: int
    total_count: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A sweep is over; as SweepCompleted in probe_service.proto."""

    data_digest: str
    resumed_count: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing can be learned at one hook point; as SweepFailure in probe_service.proto."""

    address: str
    error: OnnxscopeServerError


FitEvent: TypeAlias = Progress | KeptProbe
SweepEvent: TypeAlias = Progress | KeptProbe | Failure | Finished


class Probing:
    """Fits probes on what models of the catalog hold; used from one event loop.

    Args:
        targets: finds out what specs ask for.
        probes: where probes are kept.
        predictor: runs a probe's file.
        runner: lends threads for short work.
        settings: the limits.
        folders: for the activations and records of sweeps.
    """

    def __init__(
        self,
        targets: Targets,
        probes: Probes,
        predictor: Predictor,
        runner: Runner,
        settings: Settings,
        folders: SweepFolders,
    ) -> None:
        self._targets = targets
        self._probes = probes
        self._runner = runner
        self._settings = settings
        self._folders = folders
        self._at_once = settings.max_fits_chosen
        self._fitting = Fitting(predictor, settings.probe_memory_bytes)
        self._pool = Pool("onnxscope-fit", self._at_once, settings.max_fit_calls, "max_fit_calls")
        self._is_closing = threading.Event()
        self._calls = 0

    async def close(self) -> None:
        """Ends fits and waits until their threads are free."""
        self._is_closing.set()
        await self._pool.close()

    async def fit(
        self, spec: ProbeSpec, batches: AsyncIterator[ProbeBatch], caller: str
    ) -> AsyncGenerator[FitEvent, None]:
        """Fits one probe.

        Args:
            spec: what to fit; without a model on activations that come as the input `activations`.
            batches: rows, read once nothing is wrong with the spec.
            caller: whose they are.

        Yields:
            Progress, and last the probe; it is in the catalog then, where a model is named.

        Raises:
            OnnxscopeServerError: as ProbeService.FitProbe in probe_service.proto says.
        """
        await self._runner.call(check, spec)
        with self._admitted():
            async with AsyncExitStack() as stack:
                if spec.model:
                    check_name(spec.name)
                target = await self._targets.of(spec, caller, stack)
                if len(target.places) != 1:
                    raise _one_wanted(target.places)
                if spec.model:
                    self._probes.check_free(target.digest, spec.name, overwrite=spec.overwrite)
                (place,) = target.places
                gathering = self._gathering(None, "")
                stack.push_async_callback(self._runner.call, partial(gathering.close, keep=False))
                one_pass = self._pass(spec, target, gathering)
                count = 0
                async with aclosing(one_pass.run(batches, None)) as counts:
                    async for count in counts:
                        yield Progress(count, "capture", 0, 1)
                keep = partial(self._put, spec.overwrite) if spec.model else None
                subject = Subject(spec.name or spec.kind.value, target.digest, place)
                fitting = self._fits([self._work(spec, subject, one_pass, keep)])
                async with aclosing(fitting.events()) as events:
                    async for event in events:
                        yield event if isinstance(event, KeptProbe) else Progress(count, event.name, 0, 1)

    async def arrays(self, probe: KeptProbe) -> dict[str, Array]:
        """Returns the arrays of a linear probe that was fitted, by name; see `metadata.arrays`."""
        return await self._runner.call(metadata.arrays, probe.onnx, has_begun=True)

    async def sweep(
        self, spec: ProbeSpec, batches: AsyncIterator[ProbeBatch], caller: str
    ) -> AsyncGenerator[SweepEvent, None]:
        """Fits a probe at each of the hook points, with one pass of the model.

        Args:
            spec: what to fit, and where. A sweep of a name and data that were swept before goes on where that ended.
            batches: rows, read once nothing is wrong with the spec.
            caller: whose they are.

        Yields:
            Progress, each probe when it is in the catalog or why there is none, and last that it is over.

        Raises:
            OnnxscopeServerError: as ProbeService.Sweep in probe_service.proto says.
        """
        if not spec.model:
            raise ValueInvalidError("A sweep needs a model: say which.", value="model")
        await self._runner.call(check, spec)
        with self._admitted():
            async with AsyncExitStack() as stack:
                target = await self._targets.of(spec, caller, stack)
                sweep: Sweep = await self._runner.call(Sweep, spec, target, self._probes, self._folders)
                one_pass: Pass | None = None
                if not sweep.is_over:
                    gathering = await self._runner.call(self._gathering, sweep.folder, digest_of(spec, target))
                    stack.push_async_exit(_Closing(self._runner, gathering, sweep, self._folders).end)
                    one_pass = self._pass(spec, target, gathering)
                rows = one_pass.run(batches, sweep.saw) if one_pass else self._counted(target, batches, sweep.saw)
                count, total = 0, len(sweep.names)
                async with aclosing(rows) as counts:
                    async for count in counts:
                        yield Progress(count, "capture", len(sweep.resumed), total)
                await self._runner.call(sweep.complete)
                for address in sweep.resumed:
                    yield await self._runner.call(sweep.kept, address)
                if one_pass is not None:
                    async with aclosing(self._fitted(spec, target, sweep, one_pass)) as events:
                        async for event in events:
                            yield _progress(event, count, sweep) if isinstance(event, fits.Stage) else event
                yield Finished(sweep.data_digest, len(sweep.resumed))

    async def _fitted(
        self, spec: ProbeSpec, target: Target, sweep: Sweep, one_pass: Pass
    ) -> AsyncGenerator[fits.Stage | KeptProbe | Failure, None]:
        """Fits what a sweep has not finished; raises why where there is not one probe in the end."""
        works = []
        failures: list[Failure] = []
        for place in target.places:
            if place.address not in sweep.resumed:
                subject = Subject(sweep.names[place.address], target.digest, place)
                works.append(_tried(self._work(spec, subject, one_pass, None), place.address, sweep.keep))
        async with aclosing(self._fits(works).events()) as events:
            async for event in events:
                if isinstance(event, KeptProbe):
                    await self._runner.call(sweep.finish, event)
                elif isinstance(event, Failure):
                    failures.append(event)
                yield event
        if len(failures) == len(target.places):
            raise failures[0].error

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Lets a call in."""
        most = self._settings.max_fit_calls
        if self._calls >= most:
            raise LimitExceededError(
                f"{most} fits and sweeps go on already, as many as max_fit_calls allows; try again later.",
                setting="max_fit_calls",
                limit=str(most),
                got=str(most + 1),
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    def _gathering(self, folder: Path | None, digest: str) -> Gathering:
        settings = self._settings
        place = folder / STORE if folder else self._folders.unnamed()
        store = partial(ActivationStore, place, digest, settings.probe_store_bytes)
        return Gathering(settings.probe_memory_bytes, store, durable=folder is not None)

    def _fits(self, works: Sequence[fits.Work[T]]) -> fits.Fits[T]:
        return fits.Fits(self._pool, works, self._at_once, self._is_closing)

    def _pass(self, spec: ProbeSpec, target: Target, gathering: Gathering) -> Pass:
        is_supervised = not spec.kind.is_unsupervised
        masks = frozenset(
            place.reduction.mask_input for place in target.places if place.reduction and place.reduction.mask_input
        )
        wants_raw = spec.controls and is_supervised and target.digest
        return Pass(
            self._runner,
            target.source,
            target.places,
            gathering,
            RawInputs(target.axes, masks, spec.seed) if wants_raw else None,
            task=spec.task,
            is_supervised=is_supervised,
            most_bytes=self._settings.memory_budget_bytes,
        )

    def _work(
        self,
        spec: ProbeSpec,
        subject: Subject,
        one_pass: Pass,
        keep: Callable[[KeptProbe], None] | None,
    ) -> fits.Work[KeptProbe]:
        def work(tell: Callable[[str], None], stopped: Callable[[], bool]) -> KeptProbe:
            address = subject.place.address
            try:
                probe = self._fitting.fit(spec, subject, one_pass.data_set(address), tell, stopped)
            except _OF_ONE as error:
                raise type(error)(f"At {address!r}: {error.message}", **error.metadata) from error
            if keep is not None:
                keep(probe)
            return probe

        return work

    def _put(self, may_replace: bool, probe: KeptProbe) -> None:
        self._probes.put(probe.info.model_digest, probe, overwrite=may_replace)

    async def _counted(
        self, target: Target, batches: AsyncIterator[ProbeBatch], saw: Callable[[str], None]
    ) -> AsyncGenerator[int, None]:
        """Reads rows of which everything is known, to see that they are the same."""
        count = 0
        async for batch in batches:
            count += batch.row_count(target.source.extent(batch.inputs))
            saw(await self._runner.call(batch.digest))
            yield count


class _Closing:
    """Gives back a sweep's activations; they stay where the sweep can go on later."""

    def __init__(self, runner: Runner, gathering: Gathering, sweep: Sweep, folders: SweepFolders) -> None:
        self._runner = runner
        self._gathering = gathering
        self._sweep = sweep
        self._folders = folders

    async def end(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        """Is called at the end, with what ended it."""
        has_ended = error is None or isinstance(
            error, DataInvalidError | LimitExceededError | ModelNotFoundError | ProbeExistsError
        )
        keep = self._sweep.folder is not None and not self._sweep.is_over and not has_ended
        await self._runner.call(partial(self._gathering.close, keep=keep))
        if keep:
            await self._runner.call(self._folders.clear)


def _tried(
    work: fits.Work[KeptProbe], address: str, keep: Callable[[KeptProbe], None]
) -> fits.Work[KeptProbe | Failure]:
    def tried(tell: Callable[[str], None], stopped: Callable[[], bool]) -> KeptProbe | Failure:
        try:
            probe = work(tell, stopped)
        except _OF_ONE as error:
            return Failure(address, error)
        keep(probe)
        return probe

    return tried


def _progress(stage: fits.Stage, row_count: int, sweep: Sweep) -> Progress:
    return Progress(row_count, stage.name, stage.done_count + len(sweep.resumed), len(sweep.names))


def _one_wanted(places: Sequence[Place]) -> SelectorInvalidError:
    named = ", ".join(place.address for place in places[:_SHOWN]) + (", ..." if len(places) > _SHOWN else "")
    return SelectorInvalidError(
        f"A probe is fitted at one hook point, and the selectors name {len(places)}: {named}. Name one, or sweep.",
        selector=named,
    )
