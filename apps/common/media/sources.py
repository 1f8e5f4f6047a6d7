"""The sources of predict.py: photos, videos or a camera; `frames.read_frames` reads them.

A source is a photo, a video, a folder (with everything in it, ordered by name), a pattern such as "photos/**/*.jpg"
(quoted, or the shell expands it), a camera's number, or "-" for paths on standard input, one per line.
"""

import dataclasses
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

from apps.common.data.photos import IMAGE_SUFFIXES, UNREAD_SUFFIXES, walk
from backbone.files import numbered

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".ogv"))
KNOWN_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES | VIDEO_SUFFIXES  # each unread file gets a message
ALLOWED = 'give a photo, a video, a folder, a quoted pattern ("photos/*.jpg"), a camera\'s number, or - for a list'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The photos, videos or camera that `find_source` found.

    Attributes:
        name: for display.
        files: each file in order, with the path of its results relative to their folder.
        camera: an open camera instead.
    """

    name: str
    files: Iterable[tuple[Path, Path]] = ()
    camera: Any = None

    @property
    def known(self) -> frozenset[str]:
        """The files' absolute paths, as far as known before reading."""
        return (
            frozenset(os.path.abspath(path) for path, _ in self.files) if isinstance(self.files, list) else frozenset()
        )


def find_source(given: Path | str, *, apart_from: Path | None = None) -> Source:
    """Resolve a source; a camera is opened.

    Args:
        given: see the top of this file. An existing file or folder of that name has priority over a pattern or camera.
        apart_from: a folder for results; its files are skipped if it is inside the source.

    Raises:
        ValueError: it is none of these, or contains no photo and no video.
    """
    text = str(given)
    path = Path(text)
    if text == "-":
        return Source(name="standard input", files=_listed())
    if path.is_file():
        return Source(name=text, files=[(path, Path(path.name))])
    if not path.is_dir() and text.isascii() and text.isdecimal():
        return Source(name=f"camera {int(text)}", camera=open_camera(int(text)))
    if path.is_dir():
        found = _within(path, apart_from)
    elif glob.has_magic(text):
        found = sorted(
            each
            for match in glob.glob(text, recursive=True)
            for each in (_within(Path(match), apart_from) if Path(match).is_dir() else [Path(match)])
            if each.suffix.lower() in KNOWN_SUFFIXES and not _is_inside(each, apart_from, source=_root(path))
        )
        found = list(dict.fromkeys(found))  # "**" finds a folder and its contents
    elif "://" in text:
        raise ValueError(f"{text}: addresses are not read; {ALLOWED}")
    else:
        raise ValueError(f"{text}: there is no such file or folder; {ALLOWED}")
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise ValueError(f"{text}: no photos or videos in it (read are {known})")
    return Source(name=text, files=[(each, relative_path_of(each, root=_root(path))) for each in found])


def find_sources(given: Sequence[str], *, apart_from: Path | None = None) -> Source:
    """The photos and videos of several sources in order; a single one is passed to `find_source`.

    Each file gets its own path for results, and is read once.

    Raises:
        ValueError: there is no source, one is invalid, or a camera or a list is combined with others.
    """
    if not given:
        raise ValueError(f"nothing to look at: {ALLOWED}, before all flags")
    if len(given) == 1:
        return find_source(given[0], apart_from=apart_from)
    files: dict[str, tuple[Path, Path]] = {}
    taken: dict[Path, Path] = {}
    for text in map(str, given):
        if text == "-" or (text.isascii() and text.isdecimal() and not Path(text).exists()):
            raise ValueError(f"{text}: a camera, or a list on standard input, goes without other sources")
        for path, relative_path in find_source(text, apart_from=apart_from).files:
            if (place := os.path.abspath(path)) not in files:
                files[place] = path, _own_path(relative_path, path, taken)
    return Source(name=f"{len(given)} sources", files=list(files.values()))


def _own_path(relative_path: Path, path: Path, taken: dict[Path, Path]) -> Path:
    """A unique path for results: a/1.jpg gets 1.jpg, then b/1.jpg gets 1-2.jpg."""
    return next(free for free in numbered(relative_path) if taken.setdefault(free, path) == path)


def relative_path_of(path: Path, *, root: Path) -> Path:
    """A relative path for results: relative to `root` if the path is inside it, else the path without root and `..`."""
    if path.is_relative_to(root):
        return path.relative_to(root)
    return Path(*(part for part in path.parts if part not in (path.anchor, "..")))


def open_camera(index: int) -> Any:
    """An open `cv2.VideoCapture` of the camera with that index.

    Raises:
        ValueError: no such camera, or it is in use.
    """
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else it warns about every driver it tries
    try:
        camera = cv2.VideoCapture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if camera.isOpened():
        return camera
    raise ValueError(
        f"camera {index} cannot be opened: it is missing, in use, or you may not read it; in a browser, also with the "
        "camera of another machine, use demos/app.py"
    )


def _within(folder: Path, apart_from: Path | None) -> list[Path]:
    """All photos and videos in a folder, without hidden ones and those in `apart_from`."""
    return sorted(
        path
        for path in walk(folder)
        if path.suffix.lower() in KNOWN_SUFFIXES and not _is_inside(path, apart_from, source=folder)
    )


def _is_inside(path: Path, folder: Path | None, *, source: Path) -> bool:
    """Whether a file is in a folder that is itself inside the source."""
    if folder is None:
        return False
    file, inner, outer = (Path(os.path.abspath(one)) for one in (path, folder, source))
    return inner != outer and inner.is_relative_to(outer) and file.is_relative_to(inner)


def _root(given: Path) -> Path:
    """A folder itself; of a pattern, the part before the first wildcard."""
    fixed: Sequence[str] = given.parts
    if not given.is_dir():
        first = next(i for i, part in enumerate(given.parts) if glob.has_magic(part))
        fixed = given.parts[:first]
    return Path(*fixed)


def _listed() -> Iterator[tuple[Path, Path]]:
    """Paths on standard input as they arrive, one per line, each with a unique relative path."""
    taken: dict[Path, Path] = {}
    for line in _read_lines():
        if not (text := os.fsdecode(line.removesuffix(b"\r"))):
            continue
        path = Path(text)
        relative_path = relative_path_of(path, root=Path.cwd())
        yield path, _own_path(relative_path, path, taken) if relative_path.name else relative_path


def _read_lines() -> Iterator[bytes]:
    rest = b""
    while chunk := os.read(sys.stdin.fileno(), 65536):  # not sys.stdin: a thread that blocks there prevents the exit
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest
