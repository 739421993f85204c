"""The page: one file, nothing loaded from elsewhere, everything escaped."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from onnxscope.show import plots
from onnxscope.show.page import Page, PictureRow, svg
from onnxscope.show.probe_plots import scores_by_depth


@pytest.fixture(scope="module")
def page():
    """Returns a page with one of everything."""
    made = Page("A <title>", "A & B")
    made.facts([("model", "<digest>")])
    made.section("Heading", "Text")
    for _ in range(2):
        figure = scores_by_depth([{"address": "a", "metric": "accuracy", "score": 0.9, "low": 0.8, "high": 0.95}])
        made.plot(figure, alt='an "alt"', caption="how to read it")
    made.pictures([PictureRow("conv1", "Conv", plots.feature_maps(np.ones((2, 3, 3))))], caption="tiles")
    made.image(plots.filters(np.ones((2, 1, 3, 3))), alt="filters", caption="filters")
    made.table(["name", "value"], [["<x>", "1"]], numbers=["value"], caption="a table")
    return made.render()


def test_nothing_comes_from_elsewhere(page):
    """No address of any kind, no script, and every picture inline."""
    assert "http" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_text_is_escaped(page):
    """Addresses of models may hold anything."""
    assert "<title>A &lt;title&gt;</title>" in page
    assert "A &amp; B" in page
    assert "&lt;digest&gt;" in page
    assert '<td class="number">1</td>' in page
    assert "<td>&lt;x&gt;</td>" in page
    assert 'aria-label="an &quot;alt&quot;"' in page


def test_drawings_on_one_page_do_not_share_ids(page):
    """Two identical plots refer each to their own parts, and to none that is missing."""
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', page)) <= set(ids)


def test_drawings_take_the_ink_of_the_page():
    """So that they suit a light page and a dark one; the element is well formed."""
    drawing = svg(scores_by_depth([{"address": "a", "metric": "accuracy", "score": 0.9, "low": 0.8, "high": 0.95}]))
    assert "currentColor" in drawing
    assert plots.INK not in drawing
    ET.fromstring(drawing.replace("xlink:href", "href"))


def test_the_same_page_is_written_twice_the_same(page, tmp_path):
    """No dates, no random ids; and the file is what was rendered."""
    made = Page("T", "L")
    figure = plots.projections({"h": np.eye(4)[:, :2]}, np.array([0, 0, 1, 1]))
    made.plot(figure, alt="", caption="")
    made.write(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == made.render()
    again = Page("T", "L")
    again.plot(plots.projections({"h": np.eye(4)[:, :2]}, np.array([0, 0, 1, 1])), alt="", caption="")
    assert again.render() == made.render()
