"""The verb stream: one prepared plan, batch after batch, in order and in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from onnxscope_server.domain import Array, CaptureSpec, OutputMode, Result, Value
from onnxscope_server.errors import ValueInvalidError
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures, Prepared

Batch = tuple[Mapping[str, Value], Mapping[str, Array]]
_END = object()


class Stream:
    """A stream of batches through one plan.

    While one batch's results travel, the next batch is read and computed; no further: at most one result
    waits. Results come in the order of the batches.

    Args:
        captures: makes the plan ready.
        batching: runs each batch.
        spec: what to capture.
        carry: output name -> input name: what one batch's output holds is the next batch's input, unless
            that batch brings its own.
        caller: whose stream it is.
    """

    def __init__(
        self, captures: Captures, batching: Batching, spec: CaptureSpec, carry: Mapping[str, str], caller: str
    ) -> None:
        self._captures = captures
        self._batching = batching
        self._caller = caller
        self._carry = dict(carry)
        self._hide_outputs = bool(carry) and spec.outputs is OutputMode.NONE
        self._spec = replace(spec, outputs=OutputMode.INSTRUMENTED) if self._hide_outputs else spec

    async def prepare(self) -> Prepared:
        """Resolves the spec, and checks that what is carried exists."""
        prepared = await self._captures.prepare(self._spec)
        outputs = [spec.name for spec in prepared.model.outputs]
        inputs = [spec.name for spec in (*prepared.model.inputs, *prepared.model.optional_inputs)]
        for source, target in self._carry.items():
            for name, known, what in ((source, outputs, "output"), (target, inputs, "input")):
                if name not in known:
                    raise ValueInvalidError(
                        f"carry names the {what} {name!r}; the model's are {', '.join(known)}",
                        value="carry",
                    )
        return prepared

    async def results(self, prepared: Prepared, batches: AsyncIterator[Batch]) -> AsyncGenerator[Result, None]:
        """Yields each batch's result; a generator that is closed ends the run that goes on."""
        waiting: asyncio.Queue[Result | object] = asyncio.Queue(maxsize=1)

        async def produce() -> None:
            async with aclosing(self._runs(prepared, batches)) as runs:
                async for result in runs:
                    await waiting.put(result)
            await waiting.put(_END)

        producer = asyncio.create_task(produce())
        try:
            while True:
                getter = asyncio.ensure_future(waiting.get())
                await asyncio.wait((getter, producer), return_when=asyncio.FIRST_COMPLETED)
                if not getter.done():
                    getter.cancel()
                    producer.result()
                    continue
                item = getter.result()
                if item is _END:
                    return
                assert isinstance(item, Result)  # noqa: S101  # the queue holds nothing else
                yield item
        finally:
            producer.cancel()
            await asyncio.gather(producer, return_exceptions=True)

    async def _runs(self, prepared: Prepared, batches: AsyncIterator[Batch]) -> AsyncGenerator[Result, None]:
        carried: dict[str, Value] = {}
        async for inputs, masks in batches:
            # a stream with state keeps to itself
            if self._carry:
                result = await self._captures.run(prepared, {**carried, **inputs}, masks)
            else:
                result = await self._batching.run(prepared, inputs, masks, self._caller)
            carried = {target: result.outputs[source] for source, target in self._carry.items()}
            yield replace(result, outputs={}) if self._hide_outputs else result
