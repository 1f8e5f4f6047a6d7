"""Which text file has the objects of a photo, and which text files have none."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from apps.common.data.names import Files
from apps.common.data.photos import is_photo_name, walk
from apps.common.data.tables import normal_name
from backbone.text import first_line


def label_file(photo: Path, files: Files) -> tuple[Path, bool]:
    """Where the objects of a photo are, and whether this file is there.

    The last folder "images" of its path is "labels", or the file is beside the photo; x.txt or x.jpg.txt is that of
    x.jpg. Of a photo behind a link this is tried with its own path, too.
    """
    paths = (photo, _swapped(photo, "images", "labels"))
    if found := _text_of(paths, files):
        return found, True
    real = photo.resolve()
    found = _text_of((real, _swapped(real, "images", "labels")), files) if real != photo else None
    return found or paths[-1].with_suffix(".txt"), found is not None


def _text_of(paths: Sequence[Path], files: Files) -> Path | None:
    for suffix in (".txt", ".TXT"):
        for path in (*(p.with_name(p.name + suffix) for p in paths), *(p.with_suffix(suffix) for p in paths)):
            if found := files.like(path):
                return found[0]
    return None


def _swapped(path: Path, old: str, new: str) -> Path:
    """The path with its last folder `old`, Old or OLD, named `new`, New or NEW."""
    parts = list(path.parts)
    lower = [part.lower() for part in parts[:-1]]
    if old in lower:
        last = len(lower) - 1 - lower[::-1].index(old)
        parts[last] = {old.capitalize(): new.capitalize(), old.upper(): new.upper()}.get(parts[last], new)
    return Path(*parts)


def without_photo(labels: set[Path]) -> list[Path]:
    """Other text files of objects in the folders of `labels`, whose photo is not there."""
    lonely = []
    for folder in sorted({path.parent for path in labels}):
        others = {path for path in _files(folder) if path.suffix.lower() == ".txt"} - labels
        photos = _files(folder) + _files(_swapped(folder / "-", "labels", "images").parent) if others else []
        stems = {normal_name(path.stem) for path in photos if is_photo_name(path.name)}
        lonely += sorted(path for path in others if normal_name(path.stem) not in stems and _holds_objects(path))
    return lonely


def some_objects(folder: Path) -> bool:
    """Whether one of the first text files in a folder or within is one of objects."""
    texts = (path for path in walk(folder) if path.suffix.lower() == ".txt")
    return any(map(_holds_objects, itertools.islice(texts, 1000)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []


def _holds_objects(path: Path) -> bool:
    """Whether a text file begins as one of objects does: classes.txt and lists of photos lie beside them."""
    words = first_line(path).split() if path.is_file() else []
    try:
        return len(words) >= 5 and all(isinstance(float(word), float) for word in words[:5])
    except ValueError:
        return False
