"""The way to `embedded.py`, which is imported late: it needs the server's packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxscope.link import AsyncLink, Link


def open_link(
    caller: str, providers: Any = None, options: Any = None, settings: Mapping[str, Any] | None = None
) -> Link:
    """Starts a server in this process, for code that waits.

    Args:
        caller: what needs it, for the error.
        providers: execution providers, first choice first; None for the CPU.
        options: an `onnxruntime.SessionOptions` to start from.
        settings: the server's settings, by name.

    Raises:
        ModuleNotFoundError: the server's part is not installed.
    """
    try:
        from onnxscope.embedded import open_link  # noqa: PLC0415  # needs the server's packages
    except ModuleNotFoundError as error:
        raise _missing(caller, error) from error
    return open_link(providers, options, settings or {})


def open_async_link(
    caller: str, providers: Any = None, options: Any = None, settings: Mapping[str, Any] | None = None
) -> AsyncLink:
    """Starts a server in this process, for coroutines of any event loop; arguments and errors as of `open_link`."""
    try:
        from onnxscope.embedded import open_async_link  # noqa: PLC0415  # needs the server's packages
    except ModuleNotFoundError as error:
        raise _missing(caller, error) from error
    return open_async_link(providers, options, settings or {})


def _missing(caller: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    text = f"{caller}() runs the server in this process and needs it: pip install 'onnxscope[server]' ({error})"
    return ModuleNotFoundError(text, name=error.name)
