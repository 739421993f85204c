"""What the commands write where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from onnxscope.errors import OnnxscopeError, ProbeExistsError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEBUG_VARIABLE = "ONNXSCOPE_DEBUG"
_PIPE_COLUMNS = 100_000
_INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was asked; the text says what to do about it."""


def results() -> Console:
    """Returns the console of stdout: as wide as needed where it is no terminal, so that nothing is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_COLUMNS)


def notes() -> Console:
    """Returns the console of stderr."""
    return Console(stderr=True, highlight=False)


def write_json(document: Any) -> None:
    """Writes a document to stdout, and nothing but it."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def note(text: str, *, style: str = "dim") -> None:
    """Writes a remark to stderr."""
    notes().print(Text(text, style=style), soft_wrap=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()) -> Table:
    """Lays a table out; cells are taken literally, and folded rather than cut.

    Args:
        headers: of the columns.
        rows: a cell for each header.
        numbers: headers of the columns that are set flush right.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        made.add_column(header, justify="right" if header in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Lends a function that shows how far a stage is; it shows nothing where stderr is no terminal.

    Yields:
        Takes the stage's description, the steps done and the number of steps; a new description
        after a finished stage begins a new bar.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    console = notes()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        current: list[Any] = []

        def show(description: str, done: int, total: int) -> None:
            if not current or bar.tasks[-1].finished:
                current[:] = [bar.add_task(description, total=total)]
            bar.update(current[0], description=description, completed=done, total=total)

        yield show


@contextmanager
def reporting() -> Iterator[None]:
    """Turns errors into one red line and exit code 1; `ONNXSCOPE_DEBUG=1` shows where they come from."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        note("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    except BrokenPipeError:
        # whoever reads has enough; Python must not complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) not in (None, "", "0"):
            raise
        notes().print(Text(f"error: {_explain(error)}", style="red"), soft_wrap=True)
        raise typer.Exit(1) from error


def _explain(error: Exception) -> str:
    if isinstance(error, UnauthenticatedError):
        return "this server wants a token: give the right one with --token or ONNXSCOPE_TOKEN"
    if isinstance(error, ProbeExistsError):
        return str(error).replace("overwrite=True", "--overwrite")
    if isinstance(error, CommandError | OnnxscopeError | OSError | MemoryError) and str(error):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; install what is missing with pip install 'onnxscope[server]'"
    return f"{type(error).__name__}: {error} ({DEBUG_VARIABLE}=1 shows where it comes from)"
