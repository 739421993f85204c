"""A caller's batches on their way into another event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from onnxscope.encode import SentValue

END = object()


class Pulled:
    """A caller's batches, pulled where they live; what pulling them raises is kept for the caller.

    Args:
        pull: gives the next batch, `END` after the last.
    """

    def __init__(self, pull: Callable[[], Awaitable[Any]]) -> None:
        self._pull = pull
        self._trouble: Exception | None = None

    def check(self) -> None:
        """Raises what the caller's own code raised."""
        if self._trouble is not None:
            raise self._trouble

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[SentValue]:
        try:
            batch = await self._pull()
        except Exception as error:
            self._trouble = error
            raise
        if batch is END:
            raise StopAsyncIteration
        return batch  # type: ignore[no-any-return]  # the sentinel keeps it from being typed
