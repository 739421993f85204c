"""Pages of lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from onnxscope_server.errors import ValueInvalidError

PAGE_SIZE = 1000
_MOST_DIGITS = 18
T = TypeVar("T")


def page(items: Sequence[T], size: int, token: str) -> tuple[Sequence[T], str]:
    """Returns a page of items and the token of the next.

    Raises:
        ValueInvalidError: a size or a token that is none.
    """
    if size < 0 or (token and not (token.isdecimal() and len(token) <= _MOST_DIGITS)):
        raise ValueInvalidError(
            "page_size must not be negative, and page_token be a next_page_token",
            value="page_token",
        )
    start = int(token or 0)
    stop = start + min(size or PAGE_SIZE, PAGE_SIZE)
    return items[start:stop], str(stop) if stop < len(items) else ""
