"""Selectors as callers write them: what they mean is the server's to say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onnxscope.errors import SelectorInvalidError
from onnxscope.results import HookPoint


def normalise(at: Any) -> list[str]:
    """Returns a list of selectors.

    Args:
        at: a string, a `HookPoint`, or any number of these (a `HookPoints` too).

    Raises:
        SelectorInvalidError: it is something else.
    """
    if isinstance(at, str | HookPoint):
        return [_one(at)]
    if isinstance(at, Iterable):
        return [_one(item) for item in at]
    return [_one(at)]


def _one(item: Any) -> str:
    if isinstance(item, HookPoint):
        return item.address
    if isinstance(item, str) and item:
        return item
    raise SelectorInvalidError(
        f"a selector is a string such as 'relu_5' or 'op:Relu', or a hook point, not {item!r}",
        {"selector": repr(item)},
    )
