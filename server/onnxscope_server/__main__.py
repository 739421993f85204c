"""Start: `onnxscope serve`, or `python -m onnxscope_server`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from onnxscope_server.app import Server, serve
from onnxscope_server.errors import OnnxscopeServerError
from onnxscope_server.run.environment import share_threads
from onnxscope_server.settings import Settings

# Python's own are 700 for the first
_GC_THRESHOLDS = (20_000, 10, 10)
_log = logging.getLogger("onnxscope_server")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a server until SIGTERM or SIGINT.

    Args:
        argv: the flags; those of the process if not given.

    Returns:
        0 after a clean end, 1 where the server could not start, 2 where a setting is wrong.
    """
    try:
        settings = CliApp.run(Settings, cli_args=list(sys.argv[1:] if argv is None else argv))
    except ValidationError as error:
        for problem in error.errors():
            name = "-".join(str(part) for part in problem["loc"]) or "settings"
            text = problem["msg"].removeprefix("Value error, ")
            sys.stderr.write(f"onnxscope serve: {name.replace('_', '-')}: {text}\n")
        return 2
    except SettingsError as error:
        sys.stderr.write(f"onnxscope serve: {error}\n")
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        if settings.shares_threads:
            share_threads(settings.intra_op_threads_chosen)
        asyncio.run(_run(settings))
    except (OSError, OnnxscopeServerError) as error:
        _log.error("%s", error)
        return 1
    return 0


async def _run(settings: Settings) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    async def until() -> None:
        await ended.wait()
        _log.info("draining")

    await serve(settings, _ready, until)
    _log.info("stopped")


def _ready(server: Server) -> None:
    # what is there by now stays: collections that went through all of it would hold up calls
    gc.collect()
    gc.freeze()
    # a call makes some hundred objects, and leaves no cycles
    gc.set_threshold(*_GC_THRESHOLDS)
    _log.info("serving on port %d", server.port)


if __name__ == "__main__":
    sys.exit(main())
