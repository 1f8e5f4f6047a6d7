"""Divide sources into parts, which are fixed slices of the input, and read the photos of a part."""

import glob
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from apps.common.cli import printable
from apps.common.data.photos import walk
from apps.common.images import decode_image
from apps.common.media.cluster.shards import PHOTO_SUFFIXES, SHARD_SUFFIXES, File, at_address, list_address, read_shard
from apps.common.media.frames import Frame
from apps.common.media.sources import VIDEO_SUFFIXES

ALLOWED = "give photos, folders, lists (.txt), tar shards, or addresses of these"
MIN_PHOTOS, MAX_PHOTOS, USUAL_PARTS = 128, 10_000, 1000  # of a part that is no shard; parts of an input


class Part(NamedTuple):
    """Photos, or a single shard; it becomes one file of results."""

    number: int
    files: tuple[File, ...]


def find_files(sources: Sequence[str], *, apart_from: Path) -> list[File]:
    """All photos and tar shards of some sources, each once.

    Args:
        sources: photos, tar shards, folders, quoted patterns, lists (.txt: a path or an address a line, seen from
            the working folder), addresses of these; or - for a list on standard input.
        apart_from: a folder for results, whose files are left out.

    Raises:
        ValueError: one of them is invalid or empty, or there is a video.
    """
    found: dict[File, None] = {}
    for text in sources:
        files = list(_of_source(text, Path(os.path.abspath(apart_from))))
        if not files:
            name = at_address(text).name if "://" in text else text
            raise ValueError(f"{name}: no photos and no tar shards in it; {ALLOWED}")
        if video := next((file for file in files if file.path.lower().endswith(tuple(VIDEO_SUFFIXES))), None):
            raise ValueError(f"--on ray is for photos: {video.name} is a video")
        found |= dict.fromkeys(files)
    if not found:
        raise ValueError(f"nothing to look at: {ALLOWED}")
    return list(found)


def _of_source(text: str, apart_from: Path) -> Iterable[File]:
    at = "://" in text
    if text == "-":
        return _of_lines(sys.stdin.buffer.read())
    if text.lower().endswith(".txt"):
        with (at_address(text) if at else File(text)).open() as stream:
            return _of_lines(stream.read())
    if at:
        return filter(_is_read, list_address(text))
    path = Path(text)
    if path.is_dir():
        paths = sorted(one for one in walk(path) if not Path(os.path.abspath(one)).is_relative_to(apart_from))
        return filter(_is_read, map(_local, paths))
    if path.exists():
        return [_local(path)]
    if not glob.has_magic(text):
        raise ValueError(f"{text}: there is no such file or folder; {ALLOWED}")
    return filter(_is_read, map(_local, sorted(glob.glob(text, recursive=True))))


def _is_read(file: File) -> bool:
    return file.path.lower().endswith((*PHOTO_SUFFIXES, *SHARD_SUFFIXES, *VIDEO_SUFFIXES))


def _local(path: Path | str) -> File:
    file = File(str(path))
    return file._replace(size=os.path.getsize(path)) if file.is_shard and os.path.exists(path) else file


def _of_lines(data: bytes) -> Iterator[File]:
    for line in data.splitlines():
        if text := os.fsdecode(line):
            yield at_address(text) if "://" in text else _local(text)


def make_parts(files: Iterable[File], *, num_files: int, batch_size: int) -> Iterator[Part]:
    """Each shard is a part; other photos are divided into slices, so that an input has about a thousand parts.

    Args:
        batch_size: a part has a multiple of it, so that the batches are the same as without parts.
    """
    most = min(max(MIN_PHOTOS, num_files // USUAL_PARTS), MAX_PHOTOS) // batch_size * batch_size or batch_size
    number = 0
    photos: list[File] = []
    for file in files:
        if photos and (file.is_shard or len(photos) == most or file.root != photos[0].root):
            yield Part(number, tuple(photos))
            number, photos = number + 1, []
        photos.append(file)
        if file.is_shard:
            yield Part(number, (file,))
            number, photos = number + 1, []
    if photos:
        yield Part(number, tuple(photos))


def digest_of(files: Iterable[File]) -> str:
    """Of the names of all photos, and the names and sizes of all shards."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(os.fsencode(f"{file.name}\0{file.size}\n"))
    return digest.hexdigest()


Named = Callable[[str, bytes], str]
"""The name of a photo in the table, from its path or address and its file's content."""


def by_path(path: str, data: bytes) -> str:
    """The usual name."""
    return path


def read_part(part: Part, pool: Executor, *, ahead: int, named: Named = by_path) -> Iterator[Frame]:
    """The photos of a part in order, decoded by a pool's threads.

    A photo that cannot be read, and the end of a damaged shard, are frames without an image.

    Args:
        ahead: photos that wait for the caller, at most.

    Raises:
        OSError: a shard cannot be opened, or a file system does not answer.
    """
    waiting: deque[Future[Frame]] = deque()
    for job in _jobs(part, named):
        waiting.append(pool.submit(job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _jobs(part: Part, named: Named) -> Iterator[Callable[[], Frame]]:
    for file in part.files:
        if not file.is_shard:
            yield partial(_read_photo, file, named)
            continue
        with closing(file.open()) as stream:
            try:
                for name, data in read_shard(stream):
                    yield partial(_decode, f"{file.name}/{name}", data, named)
            except ValueError as error:
                yield partial(Frame, printable(file.name), problem=printable(f"shard {file.name}: {error}"))


def _read_photo(file: File, named: Named) -> Frame:
    try:
        with file.open() as stream:
            data = stream.read()
    except FileNotFoundError:
        return Frame(file.name, problem=f"image {printable(file.name)} does not exist")
    except OSError as error:
        if file.root:  # what answers not at all is not a photo's fault
            raise
        return Frame(file.name, problem=printable(f"image {file.name} cannot be read: {error.strerror or error}"))
    return _decode(file.name, data, named)


def _decode(path: str, data: bytes, named: Named) -> Frame:
    try:
        return Frame(named(path, data), decode_image(data, path))
    except ValueError as error:
        return Frame(path, problem=printable(str(error)))
