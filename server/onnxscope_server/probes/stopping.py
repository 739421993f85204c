"""Ends a fit that nobody wants any more: what learns in rounds looks between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Look = Callable[[], None]

_look: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looking(look: Look) -> Iterator[None]:
    """Has fits of this thread look between rounds.

    Args:
        look: raises what ends the fit.
    """
    token = _look.set(look)
    try:
        yield
    finally:
        _look.reset(token)


def check() -> None:
    """Raises RunCancelledError where the fit of this thread is to end."""
    look = _look.get()
    if look is not None:
        look()


@contextmanager
def between_epochs(estimator: Any) -> Iterator[None]:
    """Has scikit-learn's `MLPClassifier` or `MLPRegressor` look after each epoch, which it has no parameter for."""
    after_epoch = estimator._update_no_improvement_count  # noqa: SLF001

    def looked(*args: Any) -> None:
        check()
        after_epoch(*args)

    estimator._update_no_improvement_count = looked  # noqa: SLF001
    try:
        yield
    finally:
        del estimator._update_no_improvement_count  # noqa: SLF001
