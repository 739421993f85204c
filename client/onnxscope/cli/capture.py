"""`onnxscope capture`: run a model once and keep what its hook points hold."""

from pathlib import Path
from typing import Annotated, Any

import typer

from onnxscope.cli import archives, batches, images, inputs
from onnxscope.cli.captured import Captured, deliver
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
from onnxscope.cli.console import notes, progress_bar, reporting
from onnxscope.cli.reductions import parse
from onnxscope.model import Model

IMAGES = "Images"


def capture(
    model: ModelArgument,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=FILE",
            help="An input: NAME=FILE, NAME:=JSON, or FILE alone for the only input or an archive of all. "
            "FILE is .npy, .npz, .safetensors, .json or an image. May be repeated.",
        ),
    ] = None,
    selectors: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="SELECTOR", help="Hook points to watch, op:Relu say. May be repeated."),
    ] = None,
    reduce: Annotated[
        list[str] | None,
        typer.Option(
            "--reduce",
            metavar="[SELECTOR=]REDUCTION",
            help="Make activations smaller in the graph: mean, max, last, first, flatten, positions, spatial_mean, "
            "norm, index:AXIS,I, topk:K; mean:MASK takes an input as mask. May be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write to .npz, .safetensors, or .npy for one array; outputs are named outputs/NAME.",
        ),
    ] = None,
    *,
    outputs: Annotated[bool, typer.Option("--outputs/--no-outputs", help="Bring the model's outputs too.")] = True,
    instrumented: Annotated[
        bool, typer.Option("--instrumented", help="Take outputs from the instrumented run.")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Switch the runtime's optimisation off.")] = False,
    expand: Annotated[bool, typer.Option("--expand", help="Let selectors match the parts of operators too.")] = False,
    dequantize: Annotated[bool, typer.Option("--dequantize", help="Bring quantised values as real numbers.")] = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, metavar="N", help="Stream rows in batches of N."),
    ] = None,
    cast: Annotated[bool, typer.Option("--cast", help="Convert inputs to the dtypes that the model takes.")] = False,
    resize: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Size to scale to, or none.", rich_help_panel=IMAGES),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(metavar="nchw|nhwc", help="Order of axes.", rich_help_panel=IMAGES)
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="S", help="Factor on pixels 0 to 255: 1/255 say.", rich_help_panel=IMAGES),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="M[,M...]", help="Subtracted after scaling.", rich_help_panel=IMAGES),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="S[,S...]", help="Divided by after that.", rich_help_panel=IMAGES),
    ] = None,
    grayscale: Annotated[
        bool, typer.Option("--grayscale", help="Convert to one channel.", rich_help_panel=IMAGES)
    ] = False,
    rgb: Annotated[bool, typer.Option("--rgb", help="Convert to three channels.", rich_help_panel=IMAGES)] = False,
    server: ServerOption = None,
    token: TokenOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a model and keep what its hook points hold.

    Example: onnxscope capture model.onnx --input x=digits.npy --at 'op:Relu' --out acts.npz
    """
    if grayscale and rgb:
        raise typer.BadParameter("--grayscale and --rgb exclude each other")
    if instrumented and not outputs:
        raise typer.BadParameter("--instrumented and --no-outputs exclude each other")
    if reduce and not selectors:
        raise typer.BadParameter("--reduce is for what --at chooses: give --at too")
    with reporting():
        rules = parse(reduce or [])
        if out is not None:
            archives.check_suffix(out)
        mode = "L" if grayscale else "RGB" if rgb else None
        preparation = images.Preparation(resize, layout, scale, mean, std, mode)
        with opened(model, Place(server, token, tls, ca)) as loaded:
            specs = [*loaded.inputs, *loaded.optional_inputs]
            values = inputs.read(given or [], specs, preparation, cast=cast)
            options = {
                "reduce": rules,
                "outputs": "instrumented" if instrumented else outputs,
                "exact": exact,
                "expand": expand,
                "dequantize": dequantize,
            }
            if batch_size is None:
                captured = _whole(loaded, values, selectors or [], options)
            else:
                captured = _streamed(loaded, values, selectors or [], options, batch_size)
            deliver(captured, out=out, digest=loaded.digest, as_json=as_json)


def _whole(model: Model, values: dict[str, Any], selectors: list[str], options: dict[str, Any]) -> Captured:
    with notes().status("running"):
        acts = model.capture(values, at=selectors, **options)
    return Captured(acts, acts.outputs, acts.timings, [acts.fidelity])


def _streamed(
    model: Model, values: dict[str, Any], selectors: list[str], options: dict[str, Any], batch_size: int
) -> Captured:
    with progress_bar() as progress:
        return batches.capture(model, values, selectors, progress, batch_size=batch_size, **options)
