"""The command line: `onnxscope serve | inspect | capture | demo ...`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("typer", "rich", "PIL", "safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and ends the process.

    Args:
        arguments: what follows `onnxscope`; that of the process if not given.

    Raises:
        SystemExit: always; 0 after success, 1 after an error, 2 where the command was misused.
    """
    try:
        app: Any = importlib.import_module("onnxscope.cli.app")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(
            f"the command line needs {error.name}, which is not installed: "
            "pip install 'onnxscope[cli]' (or 'onnxscope[server]' to run models here)\n"
        )
        sys.exit(1)
    app.run(arguments)
