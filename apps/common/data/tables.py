"""Lists of photos: CSV files with whichever separator and column names, and the words that people use for splits."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from backbone.files import written_whole
from backbone.text import first_line, read_text

SEPARATORS = ",;\t|"
SPLITS = ("train", "val", "test")
SPLIT_OF_NAME = {name: "val" for name in ("val", "valid", "validation", "dev")}
SPLIT_OF_NAME |= {"train": "train", "training": "train", "test": "test", "testing": "test"}
FILE_COLUMNS = (
    *("file", "filename", "file_name", "filepath", "filepaths"),
    *("image", "image_path", "image_id", "image_name", "path", "photo"),
)
SPLIT_COLUMNS = ("split", "subset", "data set", "dataset", "set")


class Table(NamedTuple):
    """A CSV file: its first line, and the numbers and cells of the others, read on demand."""

    header: list[str]
    rows: Iterator[tuple[int, list[str]]]


def read_table(path: Path) -> Table:
    """A table with a header; the kind of its separator (comma, semicolon, tab, bar) is read off it.

    Rows without any text are left out.

    Raises:
        ValueError: it is no such table; also while rows are read.
    """
    rows = _rows(path, read_text(path, what="a CSV file"))
    return Table([cell.strip() for cell in next(rows, (1, []))[1]], rows)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; errors are those of `read_text`."""
    return read_text(path).split("\n")


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    separator = max(SEPARATORS, key=text.lstrip("\n").partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: line {reader.line_num}: {error}") from None


def read_header(path: Path) -> list[str]:
    """The names of a CSV file's columns; whatever is in a file that is none."""
    line = first_line(path)
    cells = next(csv.reader([line], delimiter=max(SEPARATORS, key=line.count)), [])
    return [cell.strip() for cell in cells]


def find_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The position of the first of the names that a header has, in any case."""
    found = [cell.strip().lower() for cell in header]
    return next((found.index(name) for name in names if name in found), None)


def normal_name(name: str) -> str:
    """A name in one form of Unicode: macOS and Linux write "\\u00e9" in different ways."""
    return unicodedata.normalize("NFC", name.strip())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, harmless: bool = True) -> None:
    """Write a table as a CSV file, whole or not at all.

    Args:
        harmless: no spreadsheet takes a cell for a formula; if it is read back, cells must be as they are.
    """
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file).writerows([_harmless(cell) if harmless else cell for cell in row] for row in [header, *rows])


def _harmless(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
