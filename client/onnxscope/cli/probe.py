"""`onnxscope probe`: fit a small model on a hook point, and say honestly what it finds."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

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
from onnxscope.cli.console import CommandError, progress_bar, reporting, results, write_json

_DEFAULT_NAME = "probe"


def probe(
    model: ModelArgument,
    at: Annotated[str, typer.Option("--at", metavar="ADDRESS", help="The hook point to read.")],
    given: fit_options.InputOption = None,
    labels: fit_options.LabelsOption = None,
    kind: fit_options.KindOption = "logistic",
    reduce: fit_options.ReduceOption = None,
    param: fit_options.ParamOption = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="To keep it under, on a server and in --save's file."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the probe to an ONNX file, report and all.")
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
    """Fit a small model on the activations of a hook point, and evaluate it honestly.

    Example: onnxscope probe model.onnx --at relu3 --input digits.npz --labels y --save parity.onnx
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
        if save is not None and not save.resolve().parent.is_dir():
            raise CommandError(f"the folder {save.resolve().parent} does not exist; create it first")
        beside = {"labels": labels, "groups": groups, "sample-weight": sample_weight, "test": test}
        with opened(model, Place(server, token, tls, ca)) as loaded:
            data = labelled.read(given or [], [*loaded.inputs, *loaded.optional_inputs], beside, cast=cast)
            with progress_bar() as show:
                found = loaded.fit_probe(
                    name or (save.stem if save else _DEFAULT_NAME),
                    data.values,
                    data.beside["labels"],
                    at=at,
                    progress=fit_options.told(show),
                    **fit_options.rows_beside(data.beside),
                    **options,
                )
            if save is not None:
                found.save(save)
            if as_json:
                write_json(found.to_dict() | {"saved": None if save is None else str(save.resolve())})
                return
            results().print(Text(repr(found)), soft_wrap=True)
            if save is not None:
                results().print(f"\nWritten: {save.resolve()}", soft_wrap=True)
