"""Tables and pictures of benchmarks in the pages of docs/; tables stand between two marks with the script's name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter

from backbone.files import written_whole


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def around_marks(page: Path, script: str) -> tuple[str, str]:
    """The text of a page up to a script's first mark and from its second; of a page that is not there, the marks.

    Raises:
        ValueError: the page does not have both marks, once.
    """
    begin, end = (f"<!-- benchmarks/{script}: {word} -->\n" for word in ("begin", "end"))
    text = page.read_text(encoding="utf-8") if page.exists() else begin + end
    before, *inside = text.split(begin)
    parts = inside[0].split(end) if len(inside) == 1 else []
    if len(parts) != 2:
        raise ValueError(f"{page} must have the lines {begin.strip()} and {end.strip()} once, for the tables")
    return before + begin, end + parts[1]


def write_between(page: Path, script: str, text: str) -> None:
    """Write a text between a page's marks, see `around_marks`."""
    before, after = around_marks(page, script)
    with written_whole(page) as temporary:
        temporary.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")


def write_1_2_5(axes: Any) -> None:
    """Write 1, 2, 5, 10, 20, ... beside the logarithmic axes of a panel, and draw a grid."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
            axis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
