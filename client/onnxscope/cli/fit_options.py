"""Options that `probe` and `sweep` share, and what they come to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxscope.cli import reductions
from onnxscope.cli.console import CommandError
from onnxscope.probes.spec import SHUFFLED
from onnxscope.progress import Staged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EVALUATION = "Evaluation"

InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="[NAME=]FILE",
        help="Rows: NAME=FILE, or FILE alone for the only input, an archive of all inputs, or a table with the labels. "
        ".npy, .npz, .safetensors, .json, or .csv with a header. May be repeated.",
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        "-y",
        metavar="FILE|NAME",
        help="Labels: a file, FILE:NAME for an array or a column in it, or the name of one that --input has.",
    ),
]
KindOption = Annotated[
    str,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="logistic, svm, ridge, mean_difference, lda, nearest_centroid, knn, mlp, pca or kmeans.",
    ),
]
ReduceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reduce",
        metavar="[SELECTOR=]REDUCTION",
        help="Make activations smaller first: mean, max, last, first, flatten, positions, spatial_mean, norm, "
        "index:AXIS,I, topk:K; mean:MASK takes an input as mask. May be repeated.",
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="A parameter of the estimator, by scikit-learn's name. May be repeated.",
    ),
]
ClassWeightOption = Annotated[
    str | None,
    typer.Option("--class-weight", metavar="balanced|JSON", help="Weights of the classes."),
]
SampleWeightOption = Annotated[
    str | None,
    typer.Option("--sample-weight", metavar="FILE|NAME", help="How much each row counts; given as --labels."),
]
TestSizeOption = Annotated[
    float,
    typer.Option("--test-size", metavar="SHARE", help="Share of the rows to hold out.", rich_help_panel=EVALUATION),
]
TestOption = Annotated[
    str | None,
    typer.Option(
        "--test",
        metavar="FILE|NAME",
        help="Rows to hold out: bools, or numbers of rows; given as --labels.",
        rich_help_panel=EVALUATION,
    ),
]
CvOption = Annotated[
    int | None,
    typer.Option("--cv", min=2, metavar="FOLDS", help="Cross-validate instead.", rich_help_panel=EVALUATION),
]
GroupsOption = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="FILE|NAME",
        help="Rows of one group never stand on both sides; given as --labels.",
        rich_help_panel=EVALUATION,
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="accuracy, balanced_accuracy, macro_f1, roc_auc, r2, mae ...; the report's first.",
        rich_help_panel=EVALUATION,
    ),
]
ControlsOption = Annotated[
    bool,
    typer.Option(
        "--controls/--no-controls",
        help="Measure control task, code length, learning curve and the score on the raw input.",
        rich_help_panel=EVALUATION,
    ),
]
ShuffledOption = Annotated[
    bool,
    typer.Option(
        "--shuffled",
        help="Measure the model with shuffled weights too.",
        rich_help_panel=EVALUATION,
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Of everything random.")]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Rows at once.")]
CastOption = Annotated[bool, typer.Option("--cast", help="Convert inputs to the dtypes that the model takes.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a probe of the same name.")]


def arguments(
    *,
    kind: str,
    reduce: Sequence[str] | None,
    param: Sequence[str] | None,
    class_weight: str | None,
    test_size: float,
    cv: int | None,
    metric: str | None,
    controls: bool,
    shuffled: bool,
    seed: int,
    batch_size: int,
    overwrite: bool,
) -> dict[str, Any]:
    """Returns what `fit_probe` and `sweep` are called with.

    Raises:
        CommandError: an option cannot be read.
        typer.BadParameter: two of them exclude each other.
    """
    if shuffled and not controls:
        raise typer.BadParameter("--shuffled and --no-controls exclude each other")
    return {
        "kind": kind,
        "reduce": reductions.parse(reduce or []),
        "params": _params(param or []),
        "class_weight": _class_weight(class_weight),
        "test_size": test_size,
        "cv": cv,
        "metric": metric,
        "controls": SHUFFLED if shuffled else controls,
        "seed": seed,
        "batch_size": batch_size,
        "overwrite": overwrite,
    }


def rows_beside(beside: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what belongs to rows, but for the labels, by the names of `fit_probe`."""
    return {name.replace("-", "_"): value for name, value in beside.items() if name != "labels"}


def told(show: Callable[[str, int, int], None]) -> Staged:
    """Returns what shows progress in a bar of the console."""
    return Staged(lambda stage, done, total: show(stage, done, done + 1 if total is None else total))


def _params(texts: Sequence[str]) -> dict[str, Any]:
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise CommandError(f"--param {text}: write NAME=VALUE, C=0.1 say")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _class_weight(text: str | None) -> Any:
    if text is None or text == "balanced":
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f'--class-weight {text}: write balanced, or {{"class": weight}} as JSON') from error
