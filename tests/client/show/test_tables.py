"""Tables as text and as HTML."""

from __future__ import annotations

import pytest

from onnxscope.show import tables


def test_columns_are_as_wide_as_what_is_seen():
    """Wide characters take two cells, combining ones none; lines have no trailing blanks."""
    lines = tables.text(("name", "n"), [("日本", "1"), ("e\u0301", "2"), ("x", "")]).splitlines()
    assert lines == ["name  n", "────  ─", "日本  1", "e\u0301     2", "x"]


def test_an_empty_table_has_its_headings():
    """Nothing found is still readable."""
    assert tables.text(("a", "b"), []).splitlines()[0] == "a  b"
    assert "<tbody></tbody>" in tables.as_html(("a",), [])


@pytest.mark.parametrize("count", [tables.MAX_ROWS, tables.MAX_ROWS + 1])
def test_the_middle_goes_above_the_limit_only(count):
    """Both ends stay."""
    rows = [(str(index),) for index in range(count)]
    text = tables.text(("i",), rows, max_rows=tables.MAX_ROWS)
    assert ("more" in text) is (count > tables.MAX_ROWS)
    assert text.endswith(str(count - 1))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (None, "?")]
)
def test_bytes_are_for_people(count, text):
    """Powers of 1024, one digit."""
    assert tables.byte_text(count) == text


def test_shapes():
    """Symbols as they are, unknown as a question mark."""
    assert tables.shape_text(("batch", 3, None)) == "[batch, 3, ?]"
    assert tables.shape_text(()) == "[]"
    assert tables.shape_text(None) == "?"
