"""Exact duplicates of photos: files with the same bytes, or with the same pixels."""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from apps.common.data.photos import PhotoFacts
from backbone.files import open_plain

T = TypeVar("T")
SHARE = 64  # files that a thread takes at a time
ENDS = 4096  # bytes at both ends of a file, in which most different files of one size differ


def grouped(items: Sequence[T], keys: Iterable[Hashable]) -> list[list[T]]:
    """Items with equal keys, in groups of two or more, in order of first occurrence; empty keys form no group."""
    groups: dict[Hashable, list[T]] = {}
    for item, key in zip(items, keys, strict=True):
        if key:
            groups.setdefault(key, []).append(item)
    return [group for group in groups.values() if len(group) > 1]


def linked(count: int, groups: Iterable[Sequence[int]]) -> list[list[int]]:
    """Merge groups of the numbers below `count` that share a number, in order of first occurrence."""
    root = list(range(count))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    for group in groups:
        for i in group[1:]:
            one, two = find(group[0]), find(i)
            root[max(one, two)] = min(one, two)
    found: dict[int, list[int]] = {}
    for i in range(count):
        found.setdefault(find(i), []).append(i)
    return list(found.values())


def find_copies(paths: Sequence[Path], *, sides: Sequence[Hashable] | None = None) -> list[list[int]]:
    """Positions of files with the same bytes, in groups of two or more.

    Files of one size are opened, and those of the same first and last bytes are read as a whole. Files that are empty
    or cannot be read belong to no group: the loader and check.py name them.

    Args:
        sides: N labels: only groups with at least two labels are searched, and a file with label None is in no group.
    """
    groups = [[i for i in range(len(paths)) if sides is None or sides[i] is not None]]
    for look in (_size, _ends, _hash):
        unsure = [i for group in groups for i in group]
        keys = dict(zip(unsure, _in_threads(look, [paths[i] for i in unsure]), strict=True))
        groups = [part for group in groups for part in grouped(group, [keys[i] for i in group])]
        groups = [group for group in groups if sides is None or len({sides[i] for i in group}) > 1]
    return groups


def _in_threads(look: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    """The function's results for all paths, in their order; each thread takes many paths at a time."""
    shares = [paths[start : start + SHARE] for start in range(0, len(paths), SHARE)]
    with ThreadPoolExecutor() as pool:
        return [answer for answers in pool.map(lambda share: list(map(look, share)), shares) for answer in answers]


def ends_of(paths: Sequence[Path]) -> list[bytes]:
    """A digest of the first and last bytes of each file; b"" of one that cannot be read."""
    return _in_threads(_ends, paths)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # no file can have such a name
        return 0


def _ends(path: Path) -> bytes:
    try:
        with open_plain(path) as file:
            ends = file.read(ENDS)
            file.seek(max(os.fstat(file.fileno()).st_size - ENDS, 0))
            return _digest(ends + file.read())
    except OSError:
        return b""


def _hash(path: Path) -> bytes:
    try:
        with open_plain(path) as file:
            return _digest(file.read())
    except OSError:
        return b""


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def find_duplicates(items: Sequence[T], facts: Sequence[PhotoFacts]) -> list[list[T]]:
    """Groups of two or more items whose photos have identical pixels; `facts` are those of each item.

    A duplicate is found under any name, and when it was saved again losslessly (such as PNG), but not when it was
    compressed again or resized. Files with a problem belong to no group.
    """
    return grouped(items, [fact.pixel_hash for fact in facts])
