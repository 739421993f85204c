"""Calls of one request and one response, with the scope's timeout where a call has none of its own."""
# ruff: noqa: ASYNC109  # `timeout` is the call's deadline, which gRPC keeps

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from onnxscope.link import AsyncLink, Link


@dataclass(frozen=True, slots=True)
class Caller:
    """A link, and how long its calls may take.

    Attributes:
        link: the way to the server.
        timeout: seconds where a call does not say so itself; None for ever.
    """

    link: Link
    timeout: float | None = None

    def seconds(self, timeout: float | None) -> float | None:
        """Returns how long a call may take."""
        return self.timeout if timeout is None else timeout

    def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """Makes a call."""
        return self.link.unary(method, request, timeout=self.seconds(timeout))

    def pages(self, method: str, request: Any, timeout: float | None) -> Iterator[Any]:
        """Yields the pages of a list."""
        while True:
            page = self.call(method, request, timeout)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


@dataclass(frozen=True, slots=True)
class AsyncCaller:
    """As `Caller`, for coroutines."""

    link: AsyncLink
    timeout: float | None = None

    def seconds(self, timeout: float | None) -> float | None:
        """Returns how long a call may take."""
        return self.timeout if timeout is None else timeout

    async def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """Makes a call."""
        return await self.link.unary(method, request, timeout=self.seconds(timeout))

    async def pages(self, method: str, request: Any, timeout: float | None) -> AsyncIterator[Any]:
        """Yields the pages of a list."""
        while True:
            page = await self.call(method, request, timeout)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
