"""Pictures of sweeps."""

from __future__ import annotations

import pytest

from onnxscope.show import probe_plots


def record(address, **more):
    """Returns a row of a sweep."""
    return {"address": address, "metric": "accuracy", "score": 0.8, "low": 0.7, "high": 0.9} | more


@pytest.mark.parametrize("count", [1, 4, 80])
def test_a_sweep_of_any_length_is_drawn(count, tmp_path):
    """Scores with intervals; every hook point is named while there is room."""
    full = {"baseline": 0.1, "control_score": 0.3, "input_score": 0.7, "compression": 4.0, "shuffled_score": None}
    figure = probe_plots.scores_by_depth([record(f"h{at}", **full) for at in range(count)], title="digit: logistic")
    figure.savefig(tmp_path / "sweep.png")
    above, below = figure.axes
    labels = above.get_legend_handles_labels()[1]
    assert set(labels) == {"accuracy, 95 % interval", "control task", "raw input", "baseline"}
    assert below.get_ylabel() == "compression"
    assert len(below.get_xticklabels()) == (count if count <= 60 else 40)


def test_what_was_not_measured_is_not_drawn(tmp_path):
    """Without controls there is one panel, with the score alone; a probe without a report leaves a gap."""
    figure = probe_plots.scores_by_depth([record("h0"), {"address": "h1"}])
    figure.savefig(tmp_path / "sweep.png")
    (only,) = figure.axes
    assert only.get_legend_handles_labels()[1] == ["accuracy, 95 % interval"]


def test_long_addresses_leave_room_for_the_picture():
    """Their middle is left out, so that what tells them apart stays."""
    names = [f"/model/layers.{9 + number}/feed_forward/activation_function/Mul_output_0" for number in range(3)]
    records = [{"address": name, "metric": "accuracy", "score": 0.5, "low": 0.4, "high": 0.6} for name in names]
    figure = probe_plots.scores_by_depth(records)
    figure.draw_without_rendering()
    shown = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert all(
        text.startswith(name[:16]) and text.endswith("Mul_output_0") for text, name in zip(shown, names, strict=True)
    )
    assert len(set(shown)) == 3
    assert figure.axes[0].get_position().height > 0.5
