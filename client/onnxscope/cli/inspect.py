"""`onnxscope inspect`: what is in a model."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

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
from onnxscope.cli.console import reporting, results, table, write_json
from onnxscope.errors import HookPointNotFoundError
from onnxscope.model import Model
from onnxscope.results import HookPoint, TensorSpec
from onnxscope.show.tables import shape_text


class Kind(StrEnum):
    """What a hook point is."""

    INPUT = "input"
    ACTIVATION = "activation"
    OUTPUT = "output"
    CONSTANT = "constant"
    WEIGHT = "weight"
    UNUSED = "unused"


def inspect(
    model: ModelArgument,
    selectors: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SELECTOR",
            help="Which hook points: an address, a glob, re:PATTERN, op:TYPE, depth:LOW..HIGH, "
            "type:DTYPE, kind:KIND; !SELECTOR takes away. Default: every value that is computed from an input.",
        ),
    ] = None,
    *,
    kind: Annotated[
        list[Kind] | None, typer.Option("--kind", help="Hook points of this kind; may be repeated.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All hook points, weights and constants too; takes no selector.")
    ] = False,
    expand: Annotated[bool, typer.Option("--expand", help="Show the parts of operators too.")] = False,
    batch_axes: Annotated[
        bool, typer.Option("--batch-axes/--no-batch-axes", help="Find the axis of rows, by running the model.")
    ] = True,
    server: ServerOption = None,
    token: TokenOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a model's inputs, outputs and hook points.

    Example: onnxscope inspect model.onnx 'op:Conv' '!*_1'
    """
    if every and (selectors or kind):
        raise typer.BadParameter("--all takes no selector and no --kind")
    with reporting(), opened(model, Place(server, token, tls, ca)) as loaded:
        points = (
            _of_all_kinds(loaded, batch_axes=batch_axes, expand=expand)
            if every
            else _points(loaded, selectors or [], kind or [], batch_axes=batch_axes, expand=expand)
        )
        if as_json:
            write_json(_document(loaded, points))
        else:
            _print(model, loaded, points)


def _points(
    model: Model, selectors: list[str], kinds: list[Kind], *, batch_axes: bool, expand: bool
) -> list[HookPoint]:
    wanted = [*selectors, *(f"kind:{kind}" for kind in kinds)]
    return list(model.hook_points(wanted or "*", batch_axes=batch_axes, expand=expand))


def _of_all_kinds(model: Model, *, batch_axes: bool, expand: bool) -> list[HookPoint]:
    """Returns what a run computes, in that order, and then what it only reads."""
    found: list[HookPoint] = []
    for kinds in (["*", "kind:input"], ["kind:constant"], ["kind:weight"], ["kind:unused"]):
        try:
            found += model.hook_points(kinds, batch_axes=batch_axes, expand=expand)
        except HookPointNotFoundError:
            continue  # a model need not have every kind
    return found


def _document(model: Model, points: Sequence[HookPoint]) -> dict[str, Any]:
    return {
        "name": model.name,
        "digest": model.digest,
        "providers": list(model.providers),
        "inputs": [_spec(spec) for spec in model.inputs],
        "optional_inputs": [_spec(spec) for spec in model.optional_inputs],
        "outputs": [_spec(spec) for spec in model.outputs],
        "hook_points": [
            {
                "address": point.address,
                "op_type": point.op_type,
                "dtype": point.dtype,
                "shape": _shape(point.shape),
                "depth": point.depth,
                "kind": point.kind,
                "batch_axis": point.batch_axis,
            }
            for point in points
        ],
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": _shape(spec.shape)}


def _shape(shape: Any) -> list[Any] | None:
    return None if shape is None else list(shape)


def _print(source: str, model: Model, points: Sequence[HookPoint]) -> None:
    console = results()
    head = table(("", ""), [])
    head.show_header = False
    for label, text in (
        ("model", source),
        ("digest", model.digest),
        ("providers", ", ".join(model.providers)),
        *((("inputs", "")[index > 0], str(spec)) for index, spec in enumerate(model.inputs)),
        *(("", f"{spec} (has a default)") for spec in model.optional_inputs),
        *((("outputs", "")[index > 0], str(spec)) for index, spec in enumerate(model.outputs)),
    ):
        head.add_row(Text(label, style="bold"), Text(text))
    console.print(head)
    console.print()
    headers = ["address", "operator", "dtype", "shape", "depth", "kind"]
    rows = [
        [point.address, point.op_type, point.dtype, shape_text(point.shape), f"{point.depth:.2f}", point.kind]
        for point in points
    ]
    if any(point.batch_axis is not None for point in points):
        headers.append("batch axis")
        for row, point in zip(rows, points, strict=True):
            row.append("" if point.batch_axis is None else str(point.batch_axis))
    console.print(table(headers, rows, numbers=("depth", "batch axis")))
    console.print(f"\n{len(points)} hook point{'s' * (len(points) != 1)}")
