"""Tables as plain text for terminals and as HTML for notebooks, with nothing but the standard library."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

Shape: TypeAlias = "tuple[int | str | None, ...] | None"

MAX_ROWS = 40
_EDGE_ROWS = 15


def text(columns: Sequence[str], rows: Sequence[Sequence[str]], *, max_rows: int | None = None) -> str:
    """Lays a table out for a terminal.

    Args:
        columns: headings.
        rows: cells, as many a row as there are headings.
        max_rows: above this many rows the middle ones are left out, and counted; None shows all.

    Returns:
        Lines whose columns are aligned, without a final line feed.
    """
    head, hidden, tail = _elide(rows, max_rows)
    shown = [columns, *head, *tail]
    widths = [max(_width(_visible(row[at])) for row in shown) for at in range(len(columns))]
    lines = [_line(row, widths) for row in shown]
    lines.insert(1, "  ".join("─" * width for width in widths))
    if hidden:
        lines.insert(2 + len(head), f"… {hidden} more …")
    return "\n".join(lines)


def as_html(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    max_rows: int | None = None,
) -> str:
    """Lays a table out for a notebook; every cell is escaped. Arguments as `text`."""
    head, hidden, tail = _elide(rows, max_rows)
    parts = ["<table>"]
    if caption:
        parts.append(f"<caption>{html.escape(caption)}</caption>")
    parts.append("<thead><tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in columns) + "</tr></thead><tbody>")
    parts += [_html_row(row) for row in head]
    if hidden:
        parts.append(f'<tr><td colspan="{len(columns)}">… {hidden} more …</td></tr>')
    parts += [_html_row(row) for row in tail]
    parts.append("</tbody></table>")
    return "".join(parts)


def shape_text(shape: Shape) -> str:
    """Writes a shape: `[batch, 64, ?]`; `?` where nothing is known."""
    if shape is None:
        return "?"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def byte_text(count: int | None) -> str:
    """Writes a number of bytes for people: `12.5 MiB`; `?` where it is unknown."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004  # the step between units
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _elide(
    rows: Sequence[Sequence[str]], max_rows: int | None
) -> tuple[Sequence[Sequence[str]], int, Sequence[Sequence[str]]]:
    if max_rows is None or len(rows) <= max_rows:
        return rows, 0, ()
    return rows[:_EDGE_ROWS], len(rows) - 2 * _EDGE_ROWS, rows[-_EDGE_ROWS:]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [_visible(cell) for cell in row]
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _html_row(row: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(_visible(cell))}</td>" for cell in row) + "</tr>"


def _visible(cell: str) -> str:
    """Writes control characters out: a model's names must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cell)


def _width(cell: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cell if not unicodedata.combining(c))
