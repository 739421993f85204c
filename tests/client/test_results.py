"""What the verbs give back, and what it says when shown."""

from __future__ import annotations

import numpy as np
import pytest

import onnxscope
from onnxscope.results import Activations, CapturePlan, HookPoint, HookPoints, ModelInfo, Models, PlannedValue


def points(count):
    """A model's hook points."""
    return HookPoints(
        HookPoint(f"relu_{index}", "Relu", "float32", ("batch", 64, None), index / count, "activation", 0)
        for index in range(count)
    )


def test_hook_points_are_a_sequence_and_a_lookup():
    """By place, by slice, by address; an unknown address names the closest."""
    found = points(8)
    assert found[2].address == found["relu_2"].address == "relu_2"
    assert found[1:3].addresses == ("relu_1", "relu_2")
    assert "relu_7" in found
    assert "relu_8" not in found
    with pytest.raises(KeyError, match="the closest are 'relu_"):
        found["rellu_7"]


def test_hook_points_are_a_table():
    """Columns are aligned, unknown sizes are question marks."""
    lines = str(points(2)).splitlines()
    assert lines[0].split() == ["address", "operator", "dtype", "shape", "depth", "kind", "batch", "axis"]
    assert "[batch, 64, ?]" in lines[2]
    assert lines[2].index("Relu") == lines[3].index("Relu") == lines[0].index("operator")


def test_long_lists_are_shortened_where_they_are_only_looked_at():
    """`repr` and the notebook leave the middle out; `print` shows all."""
    many = points(300)
    assert len(str(many).splitlines()) == 302
    assert len(repr(many).splitlines()) < 50
    assert "270 more" in repr(many)
    assert repr(many).endswith("300 hook points")
    assert "270 more" in many._repr_html_()


def test_a_hostile_name_is_shown_and_not_obeyed():
    """Escape sequences and markup in a model's names stay text."""
    evil = HookPoints([HookPoint("\x1b[2J<script>", "Relu", "float32", None, 0, "activation")])
    assert "\\x1b[2J" in str(evil)
    assert "&lt;script&gt;" in evil._repr_html_()
    assert "<script>" not in evil._repr_html_()


def test_activations_are_a_mapping_with_a_readable_face():
    """Order is kept; address, dtype and shape are shown, outputs below."""
    acts = Activations(
        {"b": np.zeros((2, 3), np.float32), "a": [np.zeros(1)], "n": None, "m": {1: 2}, "s": np.array(["t"], object)},
        outputs={"y": np.zeros(2)},
    )
    assert list(acts) == ["b", "a", "n", "m", "s"]
    assert acts.get("nope") is None
    text = repr(acts)
    lines = [line.split(maxsplit=1)[1] for line in text.splitlines() if line]
    for shown in (
        "float32          [2, 3]",
        "list of float64  1 items",
        "absent",
        "dict             1 entries",
        "float64  [2]",
    ):
        assert shown in lines
    assert "<td>b</td>" in acts._repr_html_()


def test_an_address_that_was_not_captured_names_the_closest():
    """A typo is answered with what there is."""
    acts = Activations({"relu_5": 1, "relu_50": 2})
    with pytest.raises(KeyError, match="no activation 'relu_55' here; the closest are 'relu_5"):
        acts["relu_55"]
    with pytest.raises(KeyError, match="there are no outputs at all"):
        acts.outputs["y"]


def test_models_are_found_by_name():
    """The newest version of a name; a table when printed."""
    listed = Models([ModelInfo("digits", "1", "aa" * 32), ModelInfo("digits", "2", "bb" * 32, byte_count=2048)])
    assert listed["digits"].version == "2"
    assert "2.0 KiB" in str(listed)
    with pytest.raises(KeyError, match="the closest are 'digits'"):
        listed["digit"]


def test_a_plan_says_what_it_costs():
    """Sizes that are not known are counted, not guessed."""
    plan = CapturePlan(
        [PlannedValue("h", False, "float32", (2, None), None), PlannedValue("y", True, "float32", (2, 10), 80)],
        known_byte_count=80,
        unknown_count=1,
        node_count=3,
        model_node_count=9,
    )
    assert str(plan).endswith("80 B and 1 of unknown size; 3 nodes run, the model has 9")
    assert plan[1].name == "y"


def test_specs_read_like_types():
    """As they stand in error messages."""
    assert str(onnxscope.TensorSpec("x", "float32", ("batch", 3))) == "x: float32[batch, 3]"
    assert str(onnxscope.TensorSpec("m", "map(int64, float32)", None)) == "m: map(int64, float32)"
