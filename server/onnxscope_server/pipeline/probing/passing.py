"""One pass of a model over rows: what a probe learns from, at however many hook points."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxscope_server.domain import Array, Reduction, Value
from onnxscope_server.errors import DataInvalidError, LimitExceededError
from onnxscope_server.pipeline.probing.batch import ProbeBatch
from onnxscope_server.pipeline.probing.examples import Examples, Rows
from onnxscope_server.pipeline.probing.gathering import Gathering
from onnxscope_server.pipeline.probing.places import Place
from onnxscope_server.pipeline.probing.raw_inputs import OneHot, RawInputs, Repeated
from onnxscope_server.probe_domain import Labels, Task
from onnxscope_server.probe_domain import Rows as RowsProtocol
from onnxscope_server.probes.shared import Shared
from onnxscope_server.run.runner import Runner

_RAW = "onnxscope:input"
_SHUFFLED = "onnxscope:shuffled:"


class Source(Protocol):
    """Brings activations."""

    @property
    def is_shuffled(self) -> bool:
        """Whether `shuffled` brings something."""

    def activations(self, batch: ProbeBatch) -> AsyncGenerator[tuple[str, Value], None]:
        """Yields what each hook point held, by address."""

    def shuffled(self, batch: ProbeBatch) -> AsyncGenerator[tuple[str, Value], None]:
        """Yields the same of the architecture with shuffled weights; nothing where that was not asked for."""

    def extent(self, inputs: Mapping[str, Value]) -> int:
        """Returns the extent of the batch axis."""


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What a probe of one hook point learns from and is compared with.

    Attributes:
        labels: of its examples.
        rows: its activations.
        raw: the model's input; None where it is not wanted, or can't be flattened.
        types: token ids; None for none.
        shuffled: activations of the architecture with shuffled weights; None where it is not wanted.
        notes: what a reader must know of these.
        shared: of all hook points with the same reduction.
    """

    labels: Labels
    rows: RowsProtocol
    raw: RowsProtocol | None
    types: Array | None
    shuffled: RowsProtocol | None
    notes: tuple[str, ...]
    shared: Shared


@dataclass(frozen=True, slots=True, eq=False)
class _Brought:
    """A batch with what the model made of it; None where that is known from before."""

    rows: Rows
    index: int
    digest: str
    activations: dict[str, Value] | None
    shuffled: dict[str, Value]


class Pass:
    """Gathers what probes learn from.

    Args:
        runner: lends threads.
        source: brings activations.
        places: hook points, and where their rows lie.
        gathering: keeps the activations.
        raw: reads the model's input; None where that is not wanted.
        task: what labels are said to be.
        is_supervised: whether the kind learns from labels.
        most_bytes: of activations that one batch may bring.
    """

    def __init__(
        self,
        runner: Runner,
        source: Source,
        places: Sequence[Place],
        gathering: Gathering,
        raw: RawInputs | None,
        *,
        task: Task | None,
        is_supervised: bool,
        most_bytes: int,
    ) -> None:
        self._runner = runner
        self._source = source
        self._places = {place.address: place for place in places}
        self._gathering = gathering
        self._raw = raw
        self._most_bytes = most_bytes
        reductions = dict.fromkeys(place.reduction for place in places)
        self._examples = {reduction: Examples(reduction, task, is_supervised=is_supervised) for reduction in reductions}
        self._shared = {reduction: Shared() for reduction in reductions}
        self._raw_names: dict[Reduction | None, str] = {}
        self._beside: dict[str, list[Array]] = {"groups": [], "test": []}
        self._given: frozenset[str] | None = None
        self._row_count = 0
        self._batch_count = 0

    async def run(
        self, batches: AsyncIterator[ProbeBatch], saw: Callable[[str], None] | None
    ) -> AsyncGenerator[int, None]:
        """Runs the model on all batches; while one is taken in, the next is read and run.

        Args:
            batches: rows.
            saw: is told of the digest of each batch, in order; None where nobody wants it.

        Yields:
            How many rows are there, batch after batch.

        Raises:
            DataInvalidError: labels, masks and rows contradict each other, or there are none.
            And whatever running the model raises.
        """
        async with aclosing(self._brought(batches, saw)) as brought:
            following = asyncio.ensure_future(anext(brought, None))
            taking: asyncio.Future[None] | None = None
            try:
                while (one := await following) is not None:
                    following = asyncio.ensure_future(anext(brought, None))
                    taking = asyncio.ensure_future(self._runner.call(self._take, one))
                    await asyncio.shield(taking)
                    yield one.rows.first + one.rows.count
            finally:
                following.cancel()
                # nobody gives the activations' place back while something is put there
                await asyncio.gather(following, *([taking] if taking else ()), return_exceptions=True)
        if not self._row_count:
            raise DataInvalidError("There are no rows to learn from.", what="rows")
        await self._runner.call(self._gathering.finish, self._batch_count)

    def data_set(self, address: str) -> DataSet:
        """Returns what a probe of a hook point learns from, when all is there; each hook point is asked for once."""
        reduction = self._places[address].reduction
        examples = self._examples[reduction]
        beside = {name: np.concatenate(arrays) if arrays else None for name, arrays in self._beside.items()}
        test = beside["test"]
        labels = examples.labels(beside["groups"], None if test is None else test.astype(np.bool_))
        types = examples.types if self._raw is not None else None
        return DataSet(
            labels=labels,
            rows=self._gathering.rows(address),
            raw=self._raw_rows(reduction, labels.row, types),
            types=types,
            shuffled=self._gathering.rows(_SHUFFLED + address) if self._source.is_shuffled else None,
            notes=self._raw.notes if self._raw is not None else (),
            shared=self._shared[reduction],
        )

    def _raw_rows(self, reduction: Reduction | None, row: Array, types: Array | None) -> RowsProtocol | None:
        """Returns the raw input of examples: of their position where it has one, else of their row."""
        if self._raw is None:
            return None
        has_positions = self._examples[reduction].are_positions
        if reduction in self._raw_names:
            return self._gathering.rows(self._raw_names[reduction])
        if has_positions and types is not None:
            return OneHot.of(types)
        if not self._gathering.has_name(_RAW):
            return None
        rows = self._gathering.rows(_RAW)
        return Repeated(rows, row) if has_positions else rows

    async def _brought(
        self, batches: AsyncIterator[ProbeBatch], saw: Callable[[str], None] | None
    ) -> AsyncGenerator[_Brought, None]:
        async for batch in batches:
            rows = self._next(batch)
            digest = await self._runner.call(batch.digest) if saw is not None else ""
            if saw is not None:
                saw(digest)
            index, self._batch_count = self._batch_count, self._batch_count + 1
            is_known = saw is not None and self._gathering.has(index, digest)
            if is_known and all(examples.width(rows) is not None for examples in self._examples.values()):
                yield _Brought(rows, index, digest, None, {})
                continue
            activations = await self._all(self._source.activations(batch))
            shuffled = await self._all(self._source.shuffled(batch))
            yield _Brought(rows, index, digest, activations, shuffled)

    async def _all(self, values: AsyncGenerator[tuple[str, Value], None]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        byte_count = 0
        async with aclosing(values):
            async for address, value in values:
                found[address] = value
                byte_count += value.nbytes if isinstance(value, np.ndarray) else 0
                if byte_count > self._most_bytes:
                    raise LimitExceededError(
                        f"One batch brings more activations than the memory budget of {self._most_bytes} bytes. Send "
                        "smaller batches, reduce activations (reduce=), choose fewer hook points, or start the server "
                        "with a larger --memory-budget.",
                        setting="memory_budget",
                        limit=str(self._most_bytes),
                        got=str(byte_count),
                    )
        return found

    def _next(self, batch: ProbeBatch) -> Rows:
        """Numbers the rows of a batch, and checks that it brings what those before it brought."""
        extent = self._source.extent(batch.inputs)
        count = batch.row_count(extent)
        given = frozenset(batch.beside)
        if self._given is not None and given != self._given:
            odd = ", ".join(sorted(given ^ self._given))
            raise DataInvalidError(f"Some batches have {odd} and others have not; give all of them, or none.", what=odd)
        self._given = given
        rows = Rows(batch, self._row_count, count, extent, self._raw.ids(batch.inputs) if self._raw else None)
        self._row_count += count
        for name, arrays in self._beside.items():
            if name in batch.beside:
                arrays.append(batch.beside[name])
        return rows

    def _take(self, one: _Brought) -> None:
        """Takes in what a batch has brought."""
        kept: dict[str, Array] = {}
        picks: dict[Reduction | None, tuple[int | None, Callable[[Array], Array]]] = {}
        if one.activations is None:
            for examples in self._examples.values():
                examples.add(one.rows, None)
        else:
            for prefix, found in (("", one.activations), (_SHUFFLED, one.shuffled)):
                for address, value in found.items():
                    place = self._places[address]
                    flat = place.examples(value)
                    if place.reduction not in picks:
                        picks[place.reduction] = (
                            len(flat),
                            self._examples[place.reduction].add(one.rows, len(flat)),
                        )
                    count, pick = picks[place.reduction]
                    if count != len(flat):
                        raise DataInvalidError(
                            f"{address!r} has {len(flat)} examples in a batch where others with the same reduction "
                            f"have {count}: they don't have the same rows and positions. Probe them apart.",
                            address=address,
                        )
                    kept[prefix + address] = pick(flat)
        if self._raw is not None:
            kept |= self._raw_of(one.rows, self._raw)
        if one.activations is None:
            self._gathering.expect(kept)
        else:
            self._gathering.put(one.index, one.digest, kept)

    def _raw_of(self, rows: Rows, raw: RawInputs) -> dict[str, Array]:
        found: dict[str, Array] = {}
        inputs, needs_rows = rows.batch.inputs, False
        for number, (reduction, examples) in enumerate(self._examples.items()):
            at = examples.last
            if at is None:
                needs_rows = True
                continue
            each = None if examples.has_types else raw.of_positions(inputs, examples.last_width)
            if each is not None:
                self._raw_names[reduction] = f"{_RAW}:{number}"
                found[self._raw_names[reduction]] = each[at]
            needs_rows = needs_rows or (each is None and not examples.has_types)
        whole = raw.of_rows(inputs) if needs_rows else None
        if whole is not None:
            found[_RAW] = whole[: rows.count]
        return found
