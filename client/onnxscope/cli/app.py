"""The application: which command is which function."""

from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from onnxscope.cli import later
from onnxscope.cli.capture import capture
from onnxscope.cli.demo import demo
from onnxscope.cli.inspect import inspect
from onnxscope.cli.probe import probe
from onnxscope.cli.serve import serve
from onnxscope.cli.sweep import sweep

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="onnxscope",
    help="An oscilloscope for neural networks: watch what flows through any ONNX model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxscope {installed_version('onnxscope')}")
        raise typer.Exit


@app.callback()
def start(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """An oscilloscope for neural networks: watch what flows through any ONNX model."""
    del version


app.command(context_settings=PASS_THROUGH, add_help_option=False)(serve)
app.command()(inspect)
app.command()(capture)
app.command()(probe)
app.command()(sweep)
app.command()(demo)
for _name in later.COMMANDS:
    app.command(_name, context_settings=PASS_THROUGH)(later.command(_name))


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and ends the process.

    Args:
        arguments: what follows `onnxscope`; that of the process if not given.
    """
    app(args=None if arguments is None else list(arguments), prog_name="onnxscope")
