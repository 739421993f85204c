"""One self-contained HTML page: headings, text, pictures and tables, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matplotlib import rc_context

from onnxscope.show.atomic import replacing
from onnxscope.show.plots import INK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #22262b; --soft: #5b6370; --line: #dfe2e6; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #16181b; --card: #1e2125; --ink: #e6e8eb; --soft: #a4acb8; --line: #343941; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
.lead { font-size: 1.1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem;
  margin: 1.5rem 0 0; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
figure, .table { margin: 1rem 0 1.5rem; padding: 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; }
figure svg { display: block; width: 100%; height: auto; color: var(--soft); }
figure img { display: block; max-width: 100%; image-rendering: pixelated; }
figcaption { margin-top: .75rem; color: var(--soft); font-size: .88rem; max-width: 60rem; }
.rows { display: grid; grid-template-columns: 8.5rem 1fr; gap: .9rem 1rem; align-items: center; }
.rows .name { font-weight: 600; }
.rows .note { display: block; font-weight: 400; font-size: .82rem; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .75rem; color: var(--soft);
  font-size: .88rem; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; color: var(--soft); }
th.number, td.number { text-align: right; }
@media (max-width: 640px) { .rows { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One named picture of a column of pictures."""

    name: str
    note: str
    figure: Figure


@dataclass(slots=True)
class Page:
    """A page that grows from top to bottom. All text is escaped.

    Attributes:
        title: the heading, and the name of the browser's tab.
        lead: one or two sentences under it.
    """

    title: str
    lead: str
    _body: list[str] = field(default_factory=list, init=False)
    _pictures: int = field(default=0, init=False)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Adds a list of names and what they stand for."""
        items = "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in facts)
        self._body.append(f"<dl>{items}</dl>")

    def section(self, heading: str, text: str = "") -> None:
        """Begins a section with a heading and an optional paragraph."""
        self._body.append(f"<h2>{_text(heading)}</h2>")
        if text:
            self._body.append(f"<p>{_text(text)}</p>")

    def plot(self, figure: Figure, *, alt: str, caption: str) -> None:
        """Adds a picture with axes and text, as SVG in the page's own text colour."""
        self._pictures += 1
        drawing = svg(figure, prefix=f"p{self._pictures}-")
        label = html.escape(alt, quote=True)
        drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        self._figure(drawing, caption)

    def pictures(self, rows: Sequence[PictureRow], *, caption: str) -> None:
        """Adds pictures one under the other, each with its name and a note at its side."""
        cells = "".join(
            f'<div class="name">{_text(row.name)}<span class="note">{_text(row.note)}</span></div>'
            f"<div>{_image(row.figure, f'{row.name}, {row.note}')}</div>"
            for row in rows
        )
        self._figure(f'<div class="rows">{cells}</div>', caption)

    def image(self, figure: Figure, *, alt: str, caption: str) -> None:
        """Adds one picture of pixels."""
        self._figure(_image(figure, alt), caption)

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        numbers: Sequence[str] = (),
        caption: str = "",
    ) -> None:
        """Adds a table; the columns whose headers `numbers` names are set flush right."""
        marks = [' class="number"' if header in numbers else "" for header in headers]
        head = "".join(
            f'<th scope="col"{mark}>{_text(header)}</th>' for header, mark in zip(headers, marks, strict=True)
        )
        lines = "".join(
            "<tr>" + "".join(f"<td{mark}>{_text(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
            for row in rows
        )
        foot = f"<caption>{_text(caption)}</caption>" if caption else ""
        self._body.append(
            f'<div class="table"><table>{foot}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
        )

    def render(self) -> str:
        """Returns the whole page."""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_text(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f'<body>\n<main>\n<h1>{_text(self.title)}</h1>\n<p class="lead">{_text(self.lead)}</p>\n'
            + "\n".join(self._body)
            + "\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Writes the page; a failure leaves what was there before."""
        with replacing(path) as part:
            part.write_text(self.render(), encoding="utf-8")

    def _figure(self, content: str, caption: str) -> None:
        self._body.append(f"<figure>{content}<figcaption>{_text(caption)}</figcaption></figure>")


def svg(figure: Figure, *, prefix: str = "") -> str:
    """Draws a figure as SVG to stand inside HTML: no header, no links, ink in `currentColor`.

    Args:
        figure: what to draw; its background is left out.
        prefix: goes before every id, so that several drawings share a page.

    Returns:
        The `<svg>` element.
    """
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "onnxscope", "savefig.dpi": 160}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    drawing = stream.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", drawing)
    drawing = re.sub(r'\bid="', f'id="{prefix}', drawing)
    drawing = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{prefix}", drawing)
    return drawing.replace(INK, "currentColor").strip()


def png(figure: Figure) -> bytes:
    """Draws a figure as PNG at its own size, background transparent."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=figure.dpi, transparent=True)
    return stream.getvalue()


def _image(figure: Figure, alt: str) -> str:
    data = base64.b64encode(png(figure)).decode("ascii")
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'


def _text(text: str) -> str:
    return html.escape(text, quote=False)
