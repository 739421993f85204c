"""One part is made while another is taken care of, and no more; whoever leaves ends the work on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from onnxscope_server.pipeline import ahead as module
from onnxscope_server.pipeline.ahead import ahead
from onnxscope_server.result_domain import Result


class Source:
    """Parts that are counted as they are made.

    Args:
        count: of parts.
        sizes: in bytes, of one after the other, the last of which all further ones have.
        error: raised behind the last.
    """

    def __init__(self, count: int, *sizes: int, error: Exception | None = None) -> None:
        self.made = 0
        self.closed = False
        self._count, self._sizes, self._error = count, sizes or (1,), error

    async def parts(self) -> AsyncGenerator[Result, None]:
        """Makes the parts."""
        try:
            for index in range(self._count):
                self.made += 1
                size = self._sizes[min(index, len(self._sizes) - 1)]
                yield Result({str(index): np.zeros(size, np.int8)}, {})
            if self._error is not None:
                raise self._error
            if self._count == 0:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _run(work: Any) -> None:
    async def all_of_it() -> None:
        await work
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(all_of_it())


def test_all_parts_come_in_order() -> None:
    """And the source is closed behind the last."""

    async def work() -> None:
        source = Source(20)
        names = [name async for part in ahead(source.parts()) for name in part.activations]
        assert names == [str(index) for index in range(20)]
        assert source.closed

    _run(work())


@pytest.mark.parametrize(("size", "most"), [(1, 2), (2000, 0)])
def test_no_more_is_made_than_is_said(monkeypatch: pytest.MonkeyPatch, size: int, most: int) -> None:
    """Of small parts one waits and one is offered; while a large one is taken care of, nothing is made."""
    monkeypatch.setattr(module, "_LARGE_BYTES", 1000)

    async def work() -> None:
        source = Source(10, size)
        async with aclosing(ahead(source.parts())) as parts:
            for taken in range(1, 9):
                await anext(parts)
                await _settle()
                assert taken <= source.made <= taken + most
        assert source.made < 11
        assert source.closed

    _run(work())


@pytest.mark.parametrize("sizes", [(1, 2000, 1), (2000, 1, 2000, 1), (1, 1, 2000, 2000, 1)])
def test_nothing_is_made_behind_a_large_part(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]) -> None:
    """Not before it has been taken care of itself, whatever came before it."""
    monkeypatch.setattr(module, "_LARGE_BYTES", 1000)

    async def work() -> None:
        source = Source(len(sizes), *sizes)
        async with aclosing(ahead(source.parts())) as parts:
            for taken, size in enumerate(sizes, 1):
                await anext(parts)
                await _settle()
                assert source.made == taken or size == 1

    _run(work())


def test_an_error_comes_after_the_parts_before_it() -> None:
    """Nothing that was made is lost."""

    async def work() -> None:
        source = Source(3, error=ValueError("broken"))
        found: list[str] = []

        async def take() -> None:
            async for part in ahead(source.parts()):
                await _settle()
                found.extend(part.activations)

        with pytest.raises(ValueError, match="broken"):
            await take()
        assert found == ["0", "1", "2"]
        assert source.closed

    _run(work())


@pytest.mark.parametrize("count", [0, 5])
def test_who_leaves_ends_the_work(count: int) -> None:
    """While a part is awaited, and while parts wait."""

    async def work() -> None:
        source = Source(count)
        parts = ahead(source.parts())
        if count:
            await anext(parts)
        else:
            waiting = asyncio.ensure_future(anext(parts))
            await _settle()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await parts.aclose()
        assert source.closed

    _run(work())
