"""Modules that only an extra brings."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from onnxscope.cli.console import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def needed_by(purpose: str) -> Iterator[None]:
    """Around an import that the extra `server` makes possible: says how to get what is missing.

    Args:
        purpose: what needs it: "the server", say.

    Raises:
        CommandError: something is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # a module of this project that is missing is a broken installation, no missing extra
        if missing.startswith(("onnxscope.", "onnxscope_server.")):
            raise
        raise CommandError(
            f"{purpose} needs {missing}, which is not installed: pip install 'onnxscope[server]'"
        ) from error
