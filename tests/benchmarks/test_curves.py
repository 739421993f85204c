"""How cost grows, kept and drawn."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.curves import LIMIT, Panel, Point, write
from tests.benchmarks.figures import Spread
from tests.benchmarks.pictures import draw_curves


def test_panels_are_kept_and_drawn(tmp_path: Path) -> None:
    """Four panels make one PNG; the file has every point with its quartiles."""
    lines = {label: [Point(1 << shift, Spread(1e-4, 2e-4, 3e-4, 7)) for shift in (10, 20)] for label in (LIMIT, "TCP")}
    panels = [Panel(name, "bytes", "time", lines) for name in "abcd"]
    write(panels, tmp_path / "curves.json")
    draw_curves(panels, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "curves.json").read_text())
    assert [panel["name"] for panel in kept] == ["a", "b", "c", "d"]
    spread = {"low": 1e-4, "median": 2e-4, "high": 3e-4, "count": 7}
    assert kept[0]["lines"]["TCP"][1] == {"x": 1 << 20, "seconds": spread}
