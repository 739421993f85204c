"""The demo's report: one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscope.show import plots
from onnxscope.show.page import Page, PictureRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscope.demo.study import Layer, Study

TIMES = "\N{MULTIPLICATION SIGN}"
HEADERS = (
    "hook point",
    "operator",
    "shape",
    "probe accuracy",
    "95 % interval",
    "chance",
    "selectivity",
    "compression",
    "effective rank",
    "dead units",
)
NUMBERS = HEADERS[3:]


def table(study: Study) -> list[tuple[str, ...]]:
    """Returns the rows of the demo's table, a text for each of `HEADERS`."""
    return [
        (
            layer.address,
            layer.op_type or "(input)",
            shape(layer.shape),
            f"{layer.report.score:.3f}",
            f"{layer.report.interval.low:.3f} to {layer.report.interval.high:.3f}",
            f"{study.chance:.3f}",
            f"{layer.report.selectivity:.3f}",
            f"{layer.report.compression:.1f}",
            f"{layer.effective_rank:.1f}",
            f"{layer.dead:.1%}",
        )
        for layer in study.layers
    ]


def document(study: Study) -> dict[str, Any]:
    """Returns the numbers for JSON."""
    return {
        "digest": study.digest,
        "model_accuracy": study.model_accuracy,
        "chance": study.chance,
        "train_rows": study.train_rows,
        "test_rows": study.test_rows,
        "layers": [
            {
                "address": layer.address,
                "op_type": layer.op_type,
                "shape": list(layer.shape),
                "probe": layer.report.to_dict(),
                "effective_rank": layer.effective_rank,
                "dead": layer.dead,
            }
            for layer in study.layers
        ],
    }


def shape(sizes: Sequence[int]) -> str:
    """Writes a shape as people say it, 16 by 8 by 8."""
    return f" {TIMES} ".join(str(size) for size in sizes)


def page(study: Study) -> Page:
    """Builds the page."""
    rows = study.train_rows + study.test_rows
    made = Page(
        "What a network for digits knows, layer by layer",
        f"onnxscope ran digits.onnx, a small convolutional network, on {rows:,} handwritten digits and "
        f"streamed out what each of its {len(study.hidden)} hidden hook points held. At each of them a "
        f"linear probe learned to read the digit from the {study.train_rows:,} training rows, and was "
        f"scored on {study.test_rows:,} rows that neither the network nor the probe had seen.",
    )
    made.facts(
        [
            ("model", f"digits.onnx, sha256 {study.digest}"),
            ("its own accuracy", f"{study.model_accuracy:.3f} on the held-out rows"),
            ("data", f"scikit-learn load_digits, 8 {TIMES} 8 pixels, ten classes"),
            ("run by", ", ".join(study.providers)),
            ("versions", ", ".join(f"{name} {number}" for name, number in study.versions.items())),
        ]
    )
    _accuracy(made, study)
    _maps(made, study)
    _filters(made, study)
    _projections(made, study)
    made.section("All numbers")
    made.table(
        HEADERS,
        table(study),
        numbers=NUMBERS,
        caption="Shape is that of one row. Chance is the accuracy of "
        "always saying the most frequent digit. Selectivity is how much better the probe is than the same probe on a "
        "control task, a random digit for each kind of image: what a probe learns by heart has none. Compression is "
        "how many times shorter the training labels get when the probe codes them as it learns: the higher, the "
        "easier the digit is to read. Effective rank is the exponential of the entropy of the "
        "normalised squared singular values of the centred activations: how many directions are "
        f"really used. Dead units hold the same value on all {rows:,} rows. Rank and dead units are "
        "taken over all rows.",
    )
    return made


def _accuracy(made: Page, study: Study) -> None:
    best = study.sweep.best()
    raw, found = study.layers[0].report, best.report
    if found is None or raw.compression is None:
        return
    last = study.layers[-1]
    made.section(
        "Where can a linear probe read the digit?",
        f"From the raw pixels a linear probe is right {raw.score:.1%} of the time; the best hook "
        f"point is {best.at}, with {found.score:.1%}. Accuracy hardly tells the layers apart; how few bits the "
        f"labels need does: {raw.codelength_bits:,.0f} from the pixels, {last.report.codelength_bits:,.0f} from "
        f"{last.address}.",
    )
    made.plot(
        study.sweep.plot(),
        alt="Probe accuracy at each hook point, from the input to the last hidden layer",
        caption="Left to right is the order of computation, from the pixels to the last hidden layer. A "
        "marker is the share of held-out digits that the probe gets right, its bar the 95 % "
        "interval: markers whose bars overlap widely are not to be told apart by this test set.",
    )


def _maps(made: Page, study: Study) -> None:
    rows = [PictureRow("image", f"a {study.example_label}, held out", plots.picture(study.layers[0].example[0]))]
    rows += [
        PictureRow(layer.address, f"{layer.op_type}, {shape(layer.shape)}", plots.feature_maps(layer.example))
        for layer in study.hidden
    ]
    made.section("One digit on its way through the network")
    made.pictures(
        rows,
        caption="A tile is one channel; for layers without an image, a square is one unit. Red is above "
        "zero, blue below, white is zero, and each layer has its own scale: full colour is its "
        "largest magnitude. Compare a convolution with the ReLU under it: the blue goes.",
    )


def _filters(made: Page, study: Study) -> None:
    count, _, height, width = study.filters.shape
    made.section("What the first layer looks for")
    made.image(
        plots.filters(study.filters),
        alt=f"The {count} filters of the first convolution",
        caption=f"The {count} filters of conv1, {height} {TIMES} {width} pixels each, in the order of its "
        "channels above. Where the image is dark with ink, red weights add to the channel and blue "
        "ones subtract: a red stripe beside a blue one answers to an edge in that direction.",
    )


def _projections(made: Page, study: Study) -> None:
    made.section("How the digits come apart")
    made.plot(
        plots.projections(
            {layer.address: layer.projection for layer in study.layers},
            study.test_labels,
            captions={layer.address: _caption(layer) for layer in study.layers},
        ),
        alt="Two principal components of each hook point, coloured by digit",
        caption="A dot is one held-out row, its colour the digit that the number at the cluster's middle "
        "names. The axes are the first two principal components, fitted on the training rows: what "
        "overlaps here may still be apart in other directions, which the probe above can use.",
    )


def _caption(layer: Layer) -> str:
    return f"{layer.op_type or 'input'}, {shape(layer.shape)}"
