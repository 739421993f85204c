"""What a probe's report says when printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from onnxscope.show import tables

if TYPE_CHECKING:
    from onnxscope.probes.report import ProbeReport

_LABEL_WIDTH = 16
_NUMBER_WIDTH = 8
_MAX_CLASSES = 12
_BASELINES = {"r2": "always the mean", "mae": "always the mean"}


def report_lines(report: ProbeReport, classes: Sequence[object] = ()) -> list[str]:
    """Returns a report as lines of text: what was measured, the number, and what it means.

    Args:
        report: that is shown.
        classes: in the order of the confusion matrix; empty where they are not known.
    """
    width = max(_LABEL_WIDTH, len(report.metric))
    lines = [_line(name, value, meaning, width) for name, value, meaning in _numbers(report)]
    if report.learning_curve:
        lines += _curve(report, width)
    if report.scores[1:]:
        others = ", ".join(f"{one.metric} {score_text(one.value)}" for one in report.scores[1:])
        lines.append(_line("other scores", "", others, width))
    if 0 < len(report.confusion) <= _MAX_CLASSES:
        lines += ["", *_confusion(report, classes)]
    return lines + [f"note: {note}" for note in report.notes]


def score_text(value: float | None) -> str:
    """Writes a score for people: three decimals, or three digits where it is large; nothing for None."""
    if value is None:
        return ""
    value = round(value, 3) + 0.0  # no "-0.000"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"  # noqa: PLR2004  # an error has a unit


def interval_text(report: ProbeReport) -> str:
    """Writes the interval of the score: `0.966 to 0.991`."""
    return f"{score_text(report.interval.low)} to {score_text(report.interval.high)}"


def rows_text(report: ProbeReport) -> str:
    """Says which rows the score is about."""
    if report.folds:
        return f"{report.n_test} rows in {report.folds} folds, seed {report.seed}"
    return f"{report.n_test} rows held out, {report.n_train} to learn from, seed {report.seed}"


def _numbers(report: ProbeReport) -> Iterator[tuple[str, str, str]]:
    yield report.metric, score_text(report.score), f"95 % interval {interval_text(report)}; {rows_text(report)}"
    if report.baseline is not None:
        meaning = _BASELINES.get(report.metric, "always the most frequent label")
        yield "baseline", score_text(report.baseline), meaning
    if report.input_score is not None:
        yield "raw input", score_text(report.input_score), "the same probe on the model's input"
    if report.control_score is not None:
        types = f", types are {report.control_types}" if report.control_types else ""
        yield "control task", score_text(report.control_score), f"a random label for each type of input{types}"
    if report.selectivity is not None:
        sides = report.metric, "that of the control task"
        better, worse = reversed(sides) if report.lower_is_better else sides
        yield "selectivity", score_text(report.selectivity), f"{better} less {worse}"
    if report.shuffled_score is not None:
        yield "shuffled weights", score_text(report.shuffled_score), "the same probe on the model with shuffled weights"
    if report.codelength_bits is not None:
        yield "code length", f"{report.codelength_bits:.0f}", "bits for the training labels, coded online"
    if report.compression is not None:
        yield "compression", f"{report.compression:.2f}", f"times shorter than a uniform code; {_uninformed(report)}"
    yield "training rows", score_text(report.train_score), f"gap {score_text(report.gap)}"


def _uninformed(report: ProbeReport) -> str:
    if report.baseline_compression is None:
        return "1 or less is nothing learned"
    return f"{report.baseline_compression:.2f} comes of the labels' frequencies alone"


def _curve(report: ProbeReport, label_width: int) -> list[str]:
    rows = [str(point.row_count) for point in report.learning_curve]
    scores = [score_text(point.score) for point in report.learning_curve]
    widths = [max(map(len, column)) for column in zip(rows, scores, strict=True)]
    texts = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in (rows, scores)
    ]
    names = ("learned from", f"gives {report.metric}")
    width = max(map(len, names))
    return [
        _line(title, "", f"{name:<{width}}  {text}", label_width)
        for title, name, text in zip(("learning curve", ""), names, texts, strict=True)
    ]


def _line(name: str, value: str, meaning: str, width: int) -> str:
    number = f"{value:>{_NUMBER_WIDTH}}  " if value else " " * 4
    return f"{name:<{width}}  {number}{meaning}".rstrip()


def _confusion(report: ProbeReport, classes: Sequence[object]) -> list[str]:
    names = [str(name) for name in classes] if len(classes) == len(report.confusion) else []
    names = names or [str(index) for index in range(len(report.confusion))]
    counts = [[str(count) for count in row] for row in report.confusion]
    widths = [max(len(cell) for cell in column) for column in zip(names, *counts, strict=True)]
    headings = [name.rjust(width) for name, width in zip(names, widths, strict=True)]
    rows = [
        [name, *(cell.rjust(width) for cell, width in zip(row, widths, strict=True))]
        for name, row in zip(names, counts, strict=True)
    ]
    return tables.text(["true \\ given", *headings], rows).split("\n")
