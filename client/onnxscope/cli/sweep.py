"""`onnxscope sweep`: one probe of the same kind at each of many hook points."""

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxscope.cli import fit_options, labelled
from onnxscope.cli.connection import (
    CaOption,
    JsonOption,
    ModelArgument,
    Place,
    ServerOption,
    TlsOption,
    TokenOption,
    opened,
)
from onnxscope.cli.console import CommandError, progress_bar, reporting, results, table, write_json
from onnxscope.probes.probe import Probe
from onnxscope.probes.sweep import Sweep
from onnxscope.probes.text import score_text
from onnxscope.show.atomic import replacing

_PICTURES = (".png", ".svg", ".pdf")
_TEXTS = ("hook point", "operator")
_DPI = 150


def sweep(
    model: ModelArgument,
    selectors: Annotated[
        list[str],
        typer.Option("--at", metavar="SELECTOR", help="Hook points to read, op:Relu say. May be repeated."),
    ],
    given: fit_options.InputOption = None,
    labels: fit_options.LabelsOption = None,
    kind: fit_options.KindOption = "logistic",
    reduce: fit_options.ReduceOption = None,
    param: fit_options.ParamOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="On a server the probes are kept as NAME/ADDRESS, and a sweep of this name goes on where it ended.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the scores to .png, .svg or .pdf."),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table to a .csv file.")
    ] = None,
    *,
    class_weight: fit_options.ClassWeightOption = None,
    sample_weight: fit_options.SampleWeightOption = None,
    test_size: fit_options.TestSizeOption = 0.3,
    test: fit_options.TestOption = None,
    cv: fit_options.CvOption = None,
    groups: fit_options.GroupsOption = None,
    metric: fit_options.MetricOption = None,
    controls: fit_options.ControlsOption = True,
    shuffled: fit_options.ShuffledOption = False,
    seed: fit_options.SeedOption = 0,
    batch_size: fit_options.BatchSizeOption = 32,
    cast: fit_options.CastOption = False,
    overwrite: fit_options.OverwriteOption = False,
    server: ServerOption = None,
    token: TokenOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit one probe of the same kind at each of many hook points, with one pass over the rows.

    Example: onnxscope sweep model.onnx --at 'op:Relu' --input digits.npz --labels y --plot sweep.png
    """
    with reporting():
        options = fit_options.arguments(
            kind=kind,
            reduce=reduce,
            param=param,
            class_weight=class_weight,
            test_size=test_size,
            cv=cv,
            metric=metric,
            controls=controls,
            shuffled=shuffled,
            seed=seed,
            batch_size=batch_size,
            overwrite=overwrite,
        )
        _check(plot, csv_file)
        beside = {"labels": labels, "groups": groups, "sample-weight": sample_weight, "test": test}
        with opened(model, Place(server, token, tls, ca)) as loaded:
            data = labelled.read(given or [], [*loaded.inputs, *loaded.optional_inputs], beside, cast=cast)
            with progress_bar() as show:
                found = loaded.sweep(
                    data.values,
                    data.beside["labels"],
                    at=selectors,
                    name=name,
                    progress=fit_options.told(show),
                    **fit_options.rows_beside(data.beside),
                    **options,
                )
        _write(found, plot, csv_file)
        if as_json:
            write_json(_document(found))
        else:
            _print(found, [path for path in (plot, csv_file) if path is not None])


def _check(plot: Path | None, csv_file: Path | None) -> None:
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise CommandError(f"{plot} must end in {', '.join(_PICTURES)}: that says how to draw it")
    for path in (plot, csv_file):
        if path is not None and not path.resolve().parent.is_dir():
            raise CommandError(f"the folder {path.resolve().parent} does not exist; create it first")


def _write(found: Sweep[Probe], plot: Path | None, csv_file: Path | None) -> None:
    if plot is not None:
        figure = found.plot()
        with replacing(plot) as part:
            figure.savefig(part, format=plot.suffix.lower()[1:], dpi=_DPI)
    if csv_file is not None:
        records = found.records()
        with replacing(csv_file) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]) if records else [])
            writer.writeheader()
            writer.writerows(records)


def _document(found: Sweep[Probe]) -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind,
        "data_digest": found.data_digest,
        "resumed_count": found.resumed_count,
        "best": found.best().at,
        "failures": dict(found.failures),
        "probes": [probe.to_dict() for probe in found.values()],
    }


def _print(found: Sweep[Probe], files: list[Path]) -> None:
    shown = found.table()
    numbers = [name for name in shown.columns if name not in _TEXTS]
    console = results()
    console.print(table(shown.columns, list(shown), numbers=numbers))
    best = found.best()
    resumed = f"; {found.resumed_count} of an earlier sweep" if found.resumed_count else ""
    if best.report:
        score = f"{best.report.metric} {score_text(best.report.score)}"
        console.print(f"\n{len(found)} hook points, the best is {best.at}: {score}{resumed}", soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for why in found.failures.values():
        console.print(f"no probe: {why}", soft_wrap=True, markup=False)
    for path in files:
        console.print(f"Written: {path.resolve()}", soft_wrap=True)
