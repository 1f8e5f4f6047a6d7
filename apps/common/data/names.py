"""Find the photos of a list whose paths were written by another tool on another machine."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from apps.common.data.photos import IMAGE_SUFFIXES
from apps.common.data.problems import some_of
from apps.common.data.tables import normal_name

FIRST = 100  # names of a list, which show where they start
MOST_DROPPED = 10  # folders, or all of them
_ENDINGS = sorted(IMAGE_SUFFIXES)


def _spelt(name: str) -> str:
    """A key that is equal for names that differ only in Unicode form or in capitals of the suffix."""
    stem, suffix = os.path.splitext(normal_name(name))
    return stem + suffix.lower()


class Files:
    """Files by name, whichever form of Unicode and capitals of the suffix either has; a folder is listed once, and
    only if a name misses.
    """

    def __init__(self) -> None:
        self._rooms: dict[Path, dict[str, list[str]]] = {}

    def like(self, path: Path) -> list[Path]:
        """The file at a path; else those whose names differ only in Unicode form or capitals of the suffix."""
        if _is_file(path):
            return [path]
        same = self._room(path.parent).get(_spelt(path.name), ())
        return [path.parent / name for name in same if _is_file(path.parent / name)]

    def photos(self, path: Path) -> list[Path]:
        """The photos that a path, possibly without suffix, may refer to: none, one, or several if ambiguous."""
        if found := self.like(path):
            return found
        room = self._room(path.parent)
        return sorted(path.parent / name for end in _ENDINGS for name in room.get(_spelt(path.name + end), ()))

    def _room(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._rooms:
            self._rooms[folder] = {}
            try:
                for name in os.listdir(folder):
                    self._rooms[folder].setdefault(_spelt(name), []).append(name)
            except (OSError, ValueError):
                pass
        return self._rooms[folder]


def files_with(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with one of these suffixes, in capitals or not, in the order of their names; no hidden
    ones.
    """
    entries = sorted(folder.iterdir()) if folder.is_dir() else ()
    return [path for path in entries if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()]


class PhotoRoot(NamedTuple):
    """The base of the names in a list.

    Attributes:
        folder: that the names are relative to.
        drop: number of leading folders in each name that belong to another machine.
        files: caches the folders that were listed.
    """

    folder: Path
    drop: int
    files: Files

    def photos(self, name: str) -> list[Path]:
        """The photos that a name may refer to: none, one, or several if ambiguous."""
        as_given = self.folder / name
        if not self.drop and _is_file(as_given):
            return [as_given]
        parts = PureWindowsPath(name.strip()).parts  # splits at "/", too
        return self.files.photos(self.folder.joinpath(*parts[min(self.drop, len(parts) - 1) :])) if parts else []

    @property
    def words(self) -> str:
        """A note if names are not read as written."""
        return f"its names are read without their first {self.drop} folders, which are not here"


def find_root(folders: Iterable[Path], names: Sequence[str]) -> PhotoRoot | None:
    """The first folder in which a list's names exist as written, or else without some of their leading folders.

    None if none of the first names is found.
    """
    some = [name for name in names[:FIRST] if name.strip()]
    roots, files = list(dict.fromkeys(folders)), Files()
    depth = max((len(PureWindowsPath(name).parts) for name in some), default=1)
    for drop in sorted({*range(min(depth, MOST_DROPPED)), depth - 1}):
        for photo_root in (PhotoRoot(folder, drop, files) for folder in roots):
            if any(map(photo_root.photos, some)):
                return photo_root
    return None


def root_of_table(folder: Path, names: Sequence[str]) -> PhotoRoot:
    """The base of the photos named by a table in `folder`: that folder, or its images/."""
    inner = folder / "images"
    return find_root((folder, inner), names) or PhotoRoot(inner if inner.is_dir() else folder, 0, Files())


def several(name: str, found: Sequence[Path]) -> str:
    """The sentence about a name that may refer to more than one photo."""
    return f"{name!r} may be any of {some_of([path.name for path in found])} in {found[0].parent}: say which"


def _is_file(path: Path) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a name with a zero
        return False
