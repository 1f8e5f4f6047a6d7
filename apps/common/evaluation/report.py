"""A report as one HTML file: pictures inline, no network, no scripts; light or dark, on paper and on a phone."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apps.common.pictures import encode_picture
from backbone.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6675; --line: #d8dde4; --ground: #fff; --band: #f5f7f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ec; --soft: #9aa5b3; --line: #39424e; --ground: #14181e; --band: #1c222a } }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --ground: #fff; --band: #fff } }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: var(--ink); background: var(--ground);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1, h2 { line-height: 1.2; margin: 1.6em 0 .5em } h1 { margin-top: .5em }
figure { margin: 1rem 0; break-inside: avoid } .wide { overflow-x: auto }
img { display: block; max-width: 100%; height: auto; border-radius: 4px }
figcaption, caption { color: var(--soft); font-size: .875rem; text-align: left; padding: .25rem 0 }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0 }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { border-bottom-width: 2px } tbody tr:nth-child(even) { background: var(--band) } tr { break-inside: avoid }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.gallery { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)) }
.gallery figure { margin: 0 } .gallery img { width: 100% }
"""


class Page:
    """A page that is built from top to bottom; all text is escaped.

    Args:
        title: title of the window and text of the first heading.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """A heading below the title."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """A paragraph of plain text."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str = "") -> None:
        """A table: floats get three decimals, None is a dash, and columns of numbers are right-aligned.

        Raises:
            ValueError: the length of a row differs from the header's, or a number is not finite.
        """
        cells = [list(row) for row in rows]
        for row in cells:
            if len(row) != len(header):
                raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
        columns = [[row[i] for row in cells if row[i] is not None] for i in range(len(header))]
        numeric = [bool(column) and not any(isinstance(cell, str) for cell in column) for column in columns]
        marks = [' class="number"' if is_number else "" for is_number in numeric]
        lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
        names = "".join(f"<th{mark}>{html.escape(name)}</th>" for name, mark in zip(header, marks, strict=True))
        lines.append(f"<thead><tr>{names}</tr></thead><tbody>")
        for row in cells:
            shown = (f"<td{mark}>{_text(cell)}</td>" for cell, mark in zip(row, marks, strict=True))
            lines.append(f"<tr>{''.join(shown)}</tr>")
        self.parts.append('<div class="wide"><table>' + "\n".join(lines) + "</tbody></table></div>")

    def figure(self, picture: "np.ndarray | Figure", caption: str) -> None:
        """A picture (H, W, 3) uint8 RGB, or a matplotlib Figure, with its caption."""
        self.parts.append(_figure(picture, caption))

    def gallery(self, pictures: Iterable[tuple["np.ndarray | Figure", str]]) -> None:
        """Pictures with captions, as many side by side as fit into the window."""
        figures = "\n".join(_figure(picture, caption) for picture, caption in pictures)
        self.parts.append(f'<div class="gallery">{figures}</div>')

    def save(self, path: Path) -> None:
        """Write the page, completely or not at all."""
        body = "\n".join(self.parts)
        text = (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
        )
        with written_whole(path) as temporary:  # a file name may contain undecodable bytes
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _figure(picture: "np.ndarray | Figure", caption: str) -> str:
    if isinstance(picture, np.ndarray):
        kind, data = "jpeg", encode_picture(picture)
    else:  # lines and text: JPEG would blur them
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        memory = io.BytesIO()
        FigureCanvasAgg(picture).print_figure(memory, format="png", dpi=picture.dpi)
        kind, data = "png", memory.getvalue()
    text = html.escape(caption)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"  # noqa: RUF001
    if isinstance(cell, float):
        if not math.isfinite(cell):
            raise ValueError(f"a table shows {cell}: give None where there is no number")
        return f"{cell:.3f}"
    return html.escape(cell) if isinstance(cell, str) else f"{cell:,}"
