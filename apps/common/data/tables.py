"""Lists of photos: CSV files with various separators and column names, and the usual names of splits."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from backbone.files import written_whole
from backbone.text import beginning, read_text

SEPARATORS = ",;\t|"
SPLITS = ("train", "val", "test")
SPLIT_OF_NAME = {name: "val" for name in ("val", "valid", "validation", "dev")}
SPLIT_OF_NAME |= {"train": "train", "training": "train", "test": "test", "testing": "test"}
FILE_COLUMNS = (
    *("file", "filename", "file_name", "filepath", "filepaths", "fname"),
    *("image", "image_path", "image_id", "image_name", "path", "photo"),
)
SPLIT_COLUMNS = ("split", "subset", "data set", "dataset", "set")
FLAG_COLUMNS = ("is_valid", "is_val")  # as fastai's tables have them
SPLIT_OF_FLAG = {"true": "val", "1": "val", "1.0": "val", "false": "train", "0": "train", "0.0": "train"}
_SEP = re.compile(rf'\s*"?sep=([{SEPARATORS}])"?[ {SEPARATORS}]*\n', re.IGNORECASE)


class Table(NamedTuple):
    """A CSV file: its header, and the line numbers and cells of its rows, read on demand."""

    header: list[str]
    rows: Iterator[tuple[int, list[str]]]


def read_table(path: Path) -> Table:
    """A table with a header; its separator (comma, semicolon, tab, bar) is detected.

    Empty rows are skipped.

    Raises:
        ValueError: it is not such a table; also while rows are read.
    """
    rows = _rows(path, read_text(path, what="a CSV file"))
    return Table([cell.strip() for cell in next(rows, (1, []))[1]], rows)


class SplitColumn(NamedTuple):
    """The column of a table with the split, and its values for each split."""

    position: int | None
    splits: dict[str, str]

    def of(self, row: Sequence[str]) -> str | None:
        """The split of a row; None in a table without splits.

        Raises:
            ValueError: the row has none; the message is a sentence.
        """
        if self.position is None:
            return None
        word = row[self.position].strip()
        if word.lower() not in self.splits:
            allowed = ", ".join(SPLITS if self.splits is SPLIT_OF_NAME else self.splits)
            raise ValueError(f"split {word!r} is unknown; allowed are {allowed}")
        return self.splits[word.lower()]


def find_splits(header: Sequence[str]) -> SplitColumn:
    """The column of splits, or of flags for val."""
    if (named := find_column(header, SPLIT_COLUMNS)) is not None:
        return SplitColumn(named, SPLIT_OF_NAME)
    return SplitColumn(find_column(header, FLAG_COLUMNS), SPLIT_OF_FLAG)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; errors are those of `read_text`."""
    return read_text(path).split("\n")


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    text, separator, skipped = _separated(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                yield reader.line_num + skipped, row
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: line {reader.line_num + skipped}: {error}") from None


def _separated(text: str) -> tuple[str, str, int]:
    """A table's text from its header on, its separator, and the number of lines above, such as Excel's "sep=;"."""
    if named := _SEP.match(text):
        return text[named.end() :], named[1], text.count("\n", 0, named.end())
    return text, max(SEPARATORS, key=text.lstrip("\n").partition("\n")[0].count), 0


def read_header(path: Path) -> list[str]:
    """The names of a CSV file's columns; of any other file, arbitrary text."""
    text, separator, _ = _separated(beginning(path))
    cells = next(csv.reader([text.lstrip("\n").partition("\n")[0]], delimiter=separator), [])
    return [cell.strip() for cell in cells]


def find_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The position of the first of the names that a header has, in any case."""
    found = [cell.strip().lower() for cell in header]
    return next((found.index(name) for name in names if name in found), None)


def normal_name(name: str) -> str:
    """A name in one form of Unicode: macOS and Linux write "\\u00e9" in different ways."""
    return unicodedata.normalize("NFC", name.strip())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, harmless: bool = True) -> None:
    """Write a table as a CSV file, completely or not at all.

    Args:
        harmless: quote cells that a spreadsheet would evaluate as formulas; not for tables that are read back.
    """
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file).writerows(
            [harmless_cell(cell) if harmless else cell for cell in row] for row in [header, *rows]
        )


def harmless_cell(cell: object) -> object:
    """A cell that no spreadsheet evaluates as a formula; numbers are unchanged."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
