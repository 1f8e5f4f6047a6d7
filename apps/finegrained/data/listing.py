"""Photos and their labels as listed, not checked yet."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from apps.common.data.photos import is_photo_name
from apps.common.data.problems import Problem


class Entry(NamedTuple):
    """One photo: its file, the name of its class, and "train", "val", "test" or None where the data does not say."""

    path: Path
    class_name: str
    split: str | None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All that a data set holds.

    Attributes:
        source: its folder or CSV file.
        layout: the kind, in words.
        entries: the photos; either all have a split or none.
        problems: what must be mended, a sentence for each file, row or class.
        skipped: files that are no photos by their names, which do no harm.
    """

    source: Path
    layout: str
    entries: list[Entry]
    problems: list[Problem]
    skipped: list[Problem]

    @property
    def folder(self) -> Path:
        """Where file names start."""
        return self.source if self.source.is_dir() else self.source.parent


def add_entry(
    listing: Listing, path: Path, class_name: str, split: str | None, *, exists: bool, where: str = ""
) -> None:
    if not exists:
        listing.problems.append(Problem(f"{where}{path} does not exist", split))
    elif not is_photo_name(path.name):
        listing.problems.append(Problem(f"{where}{path} is not a photo by its name", split))
    else:
        listing.entries.append(Entry(path, class_name, split))
