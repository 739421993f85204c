"""What the demo does: streams the hidden layers of the digits model, measures each of them, and probes all of them."""

from __future__ import annotations

import importlib.resources
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA

import onnxscope
from onnxscope.demo import data
from onnxscope.demo.measures import dead_share, effective_rank
from onnxscope.probes.fitting import CAPTURE
from onnxscope.progress import Staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscope.model import Model
    from onnxscope.probes.probe import Probe
    from onnxscope.probes.report import ProbeReport
    from onnxscope.probes.sweep import Sweep

    Array = NDArray[Any]
    Progress = Callable[[str, int, int], None]

BATCH_SIZE = 128
INPUT = "image"
OUTPUT = "logits"
FIRST_FILTERS = "conv1.weight"
EXAMPLE_DIGIT = 3
SEED = 0
# scikit-learn's 1e-4 stops some of these probes so early that rounding decides on five rows
PARAMS = {"tol": 1e-5, "max_iter": 5000}
_PACKAGES = ("onnxscope", "onnxruntime", "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What was found at one hook point.

    Attributes:
        address: of the hook point.
        op_type: the operator that computes it; empty for the model's input.
        shape: of one row.
        report: of the linear probe that reads the digit.
        effective_rank: over all rows; see `measures.effective_rank`.
        dead: share of units that hold the same value on every row.
        projection: float `[row, axis=2]`, the first two principal components of the test rows.
        example: what it held for the example row, without the row axis.
    """

    address: str
    op_type: str
    shape: tuple[int, ...]
    report: ProbeReport
    effective_rank: float
    dead: float
    projection: Array
    example: Array


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """All that the demo shows.

    Attributes:
        layers: the input, then the hidden hook points in the order in which they are computed.
        sweep: the probes of all of them.
        chance: accuracy of always saying the training rows' most frequent digit.
        model_accuracy: the network's own accuracy on the test rows.
        train_rows: rows that network and probes were fitted on.
        test_rows: rows that neither has seen.
        test_labels: int64 `[row]`.
        example_label: the digit of the example row.
        filters: the first layer's weights, float32 `[filter, channel, height, width]`.
        digest: of the model.
        providers: what ran it.
        versions: of the packages that took part.
    """

    layers: Sequence[Layer]
    sweep: Sweep[Probe]
    chance: float
    model_accuracy: float
    train_rows: int
    test_rows: int
    test_labels: Array
    example_label: int
    filters: Array
    digest: str
    providers: Sequence[str]
    versions: Mapping[str, str]

    @property
    def hidden(self) -> Sequence[Layer]:
        """The layers without the input."""
        return self.layers[1:]


@contextmanager
def model_file() -> Iterator[Path]:
    """Lends the path of the digits model that comes with the package."""
    source = importlib.resources.files("onnxscope.demo").joinpath("digits.onnx")
    with importlib.resources.as_file(source) as path:
        yield path


def run(progress: Progress, *, row_limit: int | None = None) -> Study:
    """Runs the whole demo on an embedded server.

    Args:
        progress: is told what is done, and how many steps of how many.
        row_limit: takes only so many rows of each split. Default: all.

    Returns:
        What was found.

    Raises:
        onnxscope.OnnxscopeError: the model could not be loaded or run.
    """
    digits = data.load()
    train = slice(None, row_limit)
    images = np.concatenate([digits.train_images[train], digits.test_images[train]])
    train_labels, test_labels = digits.train_labels[train], digits.test_labels[train]

    def told(stage: str, done: int, total: int | None) -> None:
        if stage != CAPTURE:
            progress("fitting probes", done, total or len(addresses) + 1)

    with onnxscope.local() as scope, model_file() as path:
        model = scope.load(path, name="digits")
        points = [point for point in model.hook_points("*") if point.kind == "activation"]
        addresses = [point.address for point in points]
        activations, logits = stream(model, images, addresses, progress)
        weights = model.capture(images[:1], at=FIRST_FILTERS, outputs=False)[FIRST_FILTERS]
        digest, providers = model.digest, model.providers
        all_labels = np.concatenate([train_labels, test_labels])
        sweep = model.sweep(
            images,
            all_labels,
            [INPUT, *addresses],
            name="digit",
            test=np.arange(len(images)) >= len(train_labels),
            params=PARAMS,
            batch_size=BATCH_SIZE,
            seed=SEED,
            progress=Staged(told),
        )

    activations = {INPUT: images, **activations}
    reports = {address: probe.report for address, probe in sweep.items() if probe.report is not None}
    op_types = {point.address: point.op_type for point in points}
    return Study(
        layers=[
            examine(address, op_types.get(address, ""), values, reports[address], train_labels, test_labels)
            for address, values in activations.items()
        ],
        sweep=sweep,
        chance=reports[INPUT].baseline or 0.0,
        model_accuracy=float((logits[len(train_labels) :].argmax(axis=1) == test_labels).mean()),
        train_rows=len(train_labels),
        test_rows=len(test_labels),
        test_labels=test_labels,
        example_label=int(held_out_example(all_labels, train_labels, test_labels)),
        filters=weights,
        digest=digest,
        providers=providers,
        versions={"Python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
    )


def stream(model: Model, images: Array, addresses: Sequence[str], progress: Progress) -> tuple[dict[str, Array], Array]:
    """Streams hook points batch by batch and puts the rows together.

    Args:
        model: an `onnxscope` model with one input.
        images: float32 `[row, channel, height, width]`.
        addresses: hook points to watch.
        progress: is told how many rows are done.

    Returns:
        Activations `[row, ...]` by address, and the model's output `[row, class]`.
    """
    pieces: dict[str, list[Array]] = {address: [] for address in addresses}
    outputs: list[Array] = []

    def tell(done: int, total: int) -> None:
        progress("streaming hidden layers", done, total)

    tell(0, len(images))
    for acts in model.stream(images, at=addresses, batch_size=BATCH_SIZE, progress=tell):
        for address in addresses:
            pieces[address].append(acts[address])
        outputs.append(acts.outputs[OUTPUT])
    return {name: np.concatenate(parts) for name, parts in pieces.items()}, np.concatenate(outputs)


def examine(
    address: str, op_type: str, values: Array, report: ProbeReport, train_labels: Array, test_labels: Array
) -> Layer:
    """Measures one hook point: effective rank, dead units, a projection.

    Args:
        address: of the hook point.
        op_type: the operator that computes it.
        values: `[row, ...]`, the training rows first, then the test rows.
        report: of its probe.
        train_labels: `[row]`.
        test_labels: `[row]`.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    fitted, held_out = flat[: len(train_labels)], flat[len(train_labels) :]
    example = held_out_example(values, train_labels, test_labels)
    return Layer(
        address=address,
        op_type=op_type,
        shape=example.shape,
        report=report,
        effective_rank=effective_rank(flat),
        dead=dead_share(values),
        projection=PCA(2, random_state=SEED).fit(fitted).transform(held_out),
        example=example,
    )


def held_out_example(values: Array, train_labels: Array, test_labels: Array) -> Array:
    """Returns the first test row that shows `EXAMPLE_DIGIT`; the very first where none does.

    Args:
        values: `[row, ...]`, the training rows first, then the test rows.
        train_labels: `[row]`.
        test_labels: `[row]`.
    """
    row: Array = values[len(train_labels) + int((test_labels == EXAMPLE_DIGIT).argmax())]
    return row
