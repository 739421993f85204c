"""The verb stream: one prepared plan, batch after batch, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from onnxscope_server.domain import Array, CaptureSpec, OutputMode, Value
from onnxscope_server.errors import ValueInvalidError
from onnxscope_server.pipeline.ahead import ahead
from onnxscope_server.pipeline.batching.batching import Batching
from onnxscope_server.pipeline.capture import Captures, Prepared
from onnxscope_server.pipeline.running import Call
from onnxscope_server.result_domain import Memory, Result

Batch = tuple[Mapping[str, Value], Mapping[str, Array]]


class Stream:
    """A stream of batches through one plan.

    While one batch's results travel, the next batch is read and computed; no further: at most one part of a result
    waits. Results come in the order of the batches.

    Args:
        captures: prepares, and runs batches that carry something.
        batching: runs the others.
        spec: what to capture.
        carry: output name -> input name: what one batch's output holds is the next batch's input, unless
            that batch brings its own.
        memory: as of `Call`.
        caller: whose stream it is.
    """

    def __init__(
        self,
        captures: Captures,
        batching: Batching,
        spec: CaptureSpec,
        carry: Mapping[str, str],
        memory: Memory | None,
        caller: str,
    ) -> None:
        self._batching = batching
        self._caller = caller
        # what is carried on the caller can't reach
        self._memory = None if carry else memory
        self._captures = captures
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

    async def parts(self, prepared: Prepared, batches: AsyncIterator[Batch]) -> AsyncGenerator[Result, None]:
        """Yields what each batch brings, as `Captures.parts` does; closing it ends the run that goes on."""
        async with aclosing(ahead(self._runs(prepared, batches))) as parts:
            async for part in parts:
                yield part

    async def _runs(self, prepared: Prepared, batches: AsyncIterator[Batch]) -> AsyncGenerator[Result, None]:
        carried: dict[str, Value] = {}
        async for inputs, masks in batches:
            outputs: dict[str, Value] = {}
            call = Call({**carried, **inputs}, masks, self._memory)
            # a stream with state keeps to itself
            run = (
                self._captures.parts(prepared, call)
                if self._carry
                else self._batching.parts(prepared, call, self._caller)
            )
            async with aclosing(run) as parts:
                async for part in parts:
                    if self._carry:
                        outputs |= part.outputs
                    yield replace(part, outputs={}) if self._hide_outputs else part
            carried = {target: outputs[source] for source, target in self._carry.items()}
