"""A model, for coroutines."""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from onnxscope import catalog
from onnxscope.ask import Arriving, Ask, Collected, plan_request, planned
from onnxscope.caller import AsyncCaller
from onnxscope.encode import SentValue
from onnxscope.probes.aio_model import AsyncProbedModel
from onnxscope.receive import Event
from onnxscope.results import Activations, CapturePlan, HookPoint, HookPoints, RunResult
from onnxscope.streaming import Streaming
from onnxscope.v1 import model_service_pb2 as pb


class AsyncModel(AsyncProbedModel):
    """A model of a scope's catalog: what is in it, and what happens there when it runs.

    Args:
        caller: reaches the server that has it.
        message: the server's description.
    """

    def __init__(self, caller: AsyncCaller, message: pb.Model) -> None:
        super().__init__(message)
        self._caller = caller

    async def hook_points(
        self,
        selector: Any = "*",
        expand: bool = False,
        *,
        batch_axes: bool = True,
        timeout: float | None = None,
    ) -> HookPoints:
        """Returns the places that can be read, in the order in which they are computed.

        Args:
            selector: which of them, a string or a list of strings.
            expand: the parts of operators too.
            batch_axes: find where rows are, by running the model on two made-up batches, once.
            timeout: seconds; None for the scope's.

        Raises:
            HookPointNotFoundError: a selector matches nothing.
            SelectorInvalidError: a selector cannot be read.
        """
        request = catalog.hook_points_request(self._message, selector, expand=expand, batch_axes=batch_axes)
        return HookPoints(await self._points(request, timeout))

    async def plan(
        self,
        x: Any = None,
        at: Any = (),
        *,
        reduce: Any = None,
        interventions: Any = (),
        probes: Any = (),
        outputs: bool | str = True,
        exact: bool = False,
        expand: bool = False,
        dequantize: bool = False,
        timeout: float | None = None,
    ) -> CapturePlan:
        """Returns what a capture would bring and cost, without running the model.

        Args:
            x: inputs as of a capture, or shapes (tuples) in place of arrays; None leaves sizes open.
            at: as of `capture`, like the rest.
            reduce: as of `capture`.
            interventions: as of `capture`.
            probes: as of `capture`.
            outputs: as of `capture`.
            exact: as of `capture`.
            expand: as of `capture`.
            dequantize: as of `capture`.
            timeout: as of `capture`.
        """
        ask = Ask.of(
            self._message,
            at,
            reduction=reduce,
            interventions=interventions,
            probes=probes,
            outputs=outputs,
            exact=exact,
            expand=expand,
            dequantize=dequantize,
        )
        return planned(await self._caller.call("CaptureService/PlanCapture", plan_request(ask, x), timeout))

    async def capture(
        self,
        x: Any,
        at: Any = (),
        *,
        reduce: Any = None,
        interventions: Any = (),
        probes: Any = (),
        outputs: bool | str = True,
        exact: bool = False,
        expand: bool = False,
        dequantize: bool = False,
        timeout: float | None = None,
    ) -> Activations:
        """Runs the model once and keeps activations.

        Args:
            x: a dict from input name to array; one array for a model with one input.
            at: selectors of the hook points to capture.
            reduce: a reduction or its name, or `{selector: reduction}`; see `onnxscope.reduce`.
            interventions: writes to hook points. Not built yet.
            probes: probes of this model, or their names, to run with it; `acts.probes` has what they give.
            outputs: True for the unmodified model's, bit for bit; "instrumented" for those of the run
                that was watched; False for none.
            exact: without optimisation.
            expand: the parts of operators too.
            dequantize: real numbers for quantised values, in the dtype of their scales; see
                `Activations.quantization` for these.
            timeout: seconds; None for the scope's.

        Returns:
            Activations by address; `outputs`, `fidelity` and `timings` beside them.

        Raises:
            InputMismatchError: `x` is not what the model declares.
            HookPointNotFoundError: a selector matches nothing.
            ReductionInvalidError: a reduction does not fit.
            RunFailedError: the runtime failed on this input.
        """
        ask = Ask.of(
            self._message,
            at,
            reduction=reduce,
            interventions=interventions,
            probes=probes,
            outputs=outputs,
            exact=exact,
            expand=expand,
            dequantize=dequantize,
        )
        return await self._collect(ask, x, timeout)

    def capture_iter(
        self,
        x: Any,
        at: Any = (),
        *,
        reduce: Any = None,
        interventions: Any = (),
        probes: Any = (),
        outputs: bool | str = False,
        exact: bool = False,
        expand: bool = False,
        dequantize: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """Runs the model once and yields address and activation of each hook point as it arrives.

        With `outputs` the model's outputs come too, by their names, and with `probes` what each gives, by the probe's
        name. Leaving the loop ends the run.
        Arguments and errors are those of `capture`.
        """
        ask = Ask.of(
            self._message,
            at,
            reduction=reduce,
            interventions=interventions,
            probes=probes,
            outputs=outputs,
            exact=exact,
            expand=expand,
            dequantize=dequantize,
        )
        values = ask.values(x)
        seconds = self._caller.seconds(timeout)
        return self._arrivals(self._caller.link.capture(ask.spec, values, timeout=seconds))

    def stream(
        self,
        batches: Any,
        at: Any = (),
        *,
        reduce: Any = None,
        interventions: Any = (),
        probes: Any = (),
        outputs: bool | str = True,
        exact: bool = False,
        expand: bool = False,
        dequantize: bool = False,
        carry: Mapping[str, str] | None = None,
        batch_size: int = 32,
        progress: Any = None,
        preprocess: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[Activations, None]:
        """Runs the model on batch after batch, in bounded memory, and yields the result of each.

        A batch is pulled only when there is room for it, from another thread. Leaving the loop ends
        the stream. Where the model prescribes its batch dimension, batches are cut to it, the last
        piece is padded, and the padding is taken out of the results again.

        Args:
            batches: an array or a dict of arrays, which is cut into pieces of `batch_size` rows, or an
                iterable of such batches.
            at: as of `capture`, like all that is not named here.
            reduce: as of `capture`; a mask that is an array has a row for each row of the data set.
            interventions: as of `capture`.
            probes: as of `capture`.
            outputs: as of `capture`.
            exact: as of `capture`.
            expand: as of `capture`.
            dequantize: as of `capture`.
            carry: output name to input name: feeds an output back as an input of the next batch.
            batch_size: rows at once.
            progress: True for a bar on a terminal, or a function of rows done and rows in all.
            preprocess: called with every batch; returns an array or a dict.
            timeout: seconds for the whole stream; None for the scope's.
        """
        ask = Ask.of(
            self._message,
            at,
            reduction=reduce,
            interventions=interventions,
            probes=probes,
            outputs=outputs,
            exact=exact,
            expand=expand,
            dequantize=dequantize,
        )
        streaming = Streaming(
            ask,
            batches,
            carry=carry,
            batch_size=batch_size,
            preprocess=preprocess,
            progress=progress,
        )
        return self._stream(streaming, timeout)

    async def run(
        self,
        x: Any,
        probes: Any = (),
        outputs: bool | str = True,
        *,
        timeout: float | None = None,
    ) -> RunResult:
        """Runs the model once, with probes and without activations.

        Args:
            x: as of `capture`.
            probes: as of `capture`; with `outputs=False` nothing runs behind their hook points.
            outputs: as of `capture`.
            timeout: seconds; None for the scope's.
        """
        acts = await self._collect(Ask.of(self._message, probes=probes, outputs=outputs), x, timeout)
        return RunResult(acts.outputs, acts.probes, acts.timings)

    async def _collect(self, ask: Ask, x: Any, timeout: float | None) -> Activations:
        values = ask.values(x)
        seconds = self._caller.seconds(timeout)
        collected = Collected()
        async with aclosing(self._caller.link.capture(ask.spec, values, timeout=seconds, whole=True)) as events:
            async for event in events:
                collected.take(event)
        return collected.activations()

    async def _arrivals(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[tuple[str, Any], None]:
        arriving = Arriving()
        async with aclosing(events):
            async for event in events:
                for found in arriving.take(event):
                    yield found

    async def _stream(self, streaming: Streaming, timeout: float | None) -> AsyncGenerator[Activations, None]:
        padding = streaming.padding
        events = self._caller.link.stream(
            streaming.ask.spec,
            streaming.carry,
            _batches(streaming),
            timeout=self._caller.seconds(timeout),
        )
        async with aclosing(events):
            async for event in events:
                done = streaming.take(event)
                if done is None:
                    continue
                acts, piece = done
                if piece.is_padded and not padding.is_known:
                    expand = streaming.ask.spec.expand
                    points = [await self._named(names, expand=expand) for names in padding.questions(acts)]
                    padding.learn(points, [await self.probe(name) for name in padding.probe_names])
                yield padding.remove(acts, piece) if piece.is_padded else acts

    async def _named(self, names: list[str], *, expand: bool) -> list[HookPoint]:
        if not names:
            return []
        request = catalog.hook_points_request(self._message, names, expand=expand, batch_axes=True)
        return await self._points(request, None)

    async def _points(self, request: pb.ListHookPointsRequest, timeout: float | None) -> list[HookPoint]:
        pages = self._caller.pages("ModelService/ListHookPoints", request, timeout)
        return [point async for page in pages for point in catalog.hook_points(page)]


async def _batches(streaming: Streaming) -> AsyncIterator[list[SentValue]]:
    """Yields what is sent for every piece; a data set that blocks does so in a thread."""
    if isinstance(streaming.rows.data, AsyncIterable):
        async for batch in streaming.rows.data:
            for piece in await asyncio.to_thread(streaming.rows.cut, batch):
                yield streaming.send(piece)
        return
    batches = streaming.batches()
    while (values := await asyncio.to_thread(next, batches, None)) is not None:
        yield values
