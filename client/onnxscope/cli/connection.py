"""Where a command runs its model: embedded, or on a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import onnxscope
from onnxscope.cli.console import CommandError, notes
from onnxscope.model import Model

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Path of an ONNX file, or with --server a name in its catalog."),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="HOST:PORT", help="Run on this server instead of here."),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="ONNXSCOPE_TOKEN", help="The server's secret.", metavar="TEXT"),
]
TlsOption = Annotated[bool, typer.Option("--tls", help="Talk to the server over TLS.")]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", help="Certificates to trust the server by; implies --tls."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout instead of a table.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to run.

    Attributes:
        server: host and port; None runs embedded.
        token: the server's secret.
        tls: whether to use TLS.
        ca: file of certificates to trust the server by.
    """

    server: str | None = None
    token: str | None = None
    tls: bool = False
    ca: Path | None = None


@contextmanager
def opened(source: str, place: Place) -> Iterator[Model]:
    """Lends a loaded model.

    Args:
        source: path of an ONNX file (sent to the server where there is one), or a name in the server's catalog.
        place: where to run it.

    Yields:
        The model.

    Raises:
        CommandError: there is no such file.
    """
    path = Path(source)
    if place.server is None:
        if not path.exists():
            raise CommandError(f"there is no file {source}; for a model in a server's catalog add --server HOST:PORT")
        scope = onnxscope.local()
    else:
        scope = onnxscope.connect(place.server, token=place.token, tls=place.ca or place.tls or None)
    with scope:
        with notes().status(f"loading {path.name}"):
            model = scope.load(path if path.exists() else source)
        yield model
