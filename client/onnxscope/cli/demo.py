"""`onnxscope demo`: the digits model, watched and measured."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from onnxscope.cli import extras
from onnxscope.cli.connection import JsonOption
from onnxscope.cli.console import (
    CommandError,
    note,
    notes,
    progress_bar,
    reporting,
    results,
    table,
    write_json,
)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the report.")] = Path(
        "report.html"
    ),
    *,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the report in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a network read handwritten digits, and write a report with pictures.

    Starts an embedded server, streams every hidden layer of a small convolutional network, fits a
    linear probe on each, and prints what it found. Takes well under a minute.
    """
    with reporting():
        if not out.resolve().parent.is_dir():
            raise CommandError(f"the folder {out.resolve().parent} does not exist; create it first")
        with notes().status("starting"), extras.needed_by("the demo"):
            from onnxscope.demo import report, study  # noqa: PLC0415  # only this command needs scikit-learn
        with progress_bar() as progress:
            found = study.run(progress)
            progress("writing the report", 0, 1)
            report.page(found).write(out)
            progress("writing the report", 1, 1)
        if as_json:
            write_json(report.document(found) | {"report": str(out.resolve())})
        else:
            results().print(table(report.HEADERS, report.table(found), numbers=report.NUMBERS))
            results().print(f"\nReport: {out.resolve()}", soft_wrap=True)
        if show and not webbrowser.open(out.resolve().as_uri()):
            note("no browser could be opened")
