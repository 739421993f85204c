"""Works one part ahead: while a part of a result is taken care of, the next one is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from onnxscope_server.result_domain import Result

# behind a larger part nothing is made before it has been taken care of: two of them would be in memory
_LARGE_BYTES = 32 << 20


async def ahead(parts: AsyncGenerator[Result, None]) -> AsyncGenerator[Result, None]:
    """Yields parts, and has the next one made meanwhile: one waits, no more.

    Args:
        parts: where they come from; closed with this, which ends the work on the next one.
    """
    # each part with what says that it has been taken care of
    waiting: asyncio.Queue[tuple[Result, asyncio.Event] | None] = asyncio.Queue(maxsize=1)

    async def produce() -> None:
        async with aclosing(parts):
            async for part in parts:
                is_large = part.byte_count > _LARGE_BYTES
                is_done_with = asyncio.Event()
                await waiting.put((part, is_done_with))
                del part
                if is_large:
                    await is_done_with.wait()
        await waiting.put(None)

    producer = asyncio.create_task(produce())
    try:
        while True:
            getter = asyncio.ensure_future(waiting.get())
            try:
                await asyncio.wait((getter, producer), return_when=asyncio.FIRST_COMPLETED)
            finally:
                is_there = getter.done()
                getter.cancel()
            if not is_there:
                # the producer failed, or has just put its last part
                producer.result()
                continue
            found = getter.result()
            if found is None:
                return
            part, is_done_with = found
            yield part
            del part, found, getter
            is_done_with.set()
    finally:
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)
