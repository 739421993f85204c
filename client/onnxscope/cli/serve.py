"""`onnxscope serve`: the only command that knows the server, and only when it is called."""

import typer

from onnxscope.cli import extras
from onnxscope.cli.console import reporting


def serve(context: typer.Context) -> None:
    """Run a server; every setting is a flag and an environment variable."""
    with reporting():
        with extras.needed_by("the server"):
            from onnxscope_server.__main__ import main  # noqa: PLC0415  # only this command needs the server
        raise typer.Exit(main(context.args))
