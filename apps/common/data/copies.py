"""Which files are copies of one photo."""

import hashlib
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from apps.common.data.photos import PhotoFacts


def linked(number: int, groups: Iterable[Sequence[int]]) -> list[list[int]]:
    """0 to `number` - 1 in the fewest groups so that each of `groups` is inside one, in the order of their firsts."""
    root = list(range(number))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    for group in groups:
        for i in group[1:]:
            one, two = find(group[0]), find(i)
            root[max(one, two)] = min(one, two)
    found: dict[int, list[int]] = {}
    for i in range(number):
        found.setdefault(find(i), []).append(i)
    return list(found.values())


def find_same_files(paths: Sequence[Path], *, sides: Sequence[Hashable] | None = None) -> list[list[int]]:
    """Positions of files with the same bytes, in groups of two or more; only files of one size are read.

    Args:
        sides: N labels: only groups across two of them are looked for, and a file of side None in none.
    """
    by_size: dict[int, list[int]] = {}
    for i, path in enumerate(paths):
        if sides is not None and sides[i] is None:
            continue
        try:
            size = os.stat(path).st_size
        except OSError:
            continue  # the loader and the doctor name it
        if size:
            by_size.setdefault(size, []).append(i)

    def across(group: Sequence[int]) -> bool:
        return len(group) > 1 and (sides is None or len({sides[i] for i in group}) > 1)

    unsure = [i for group in by_size.values() if across(group) for i in group]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shares = [[paths[i] for i in unsure[start : start + SHARE]] for start in range(0, len(unsure), SHARE)]
        hashes = itertools.chain.from_iterable(pool.map(_hashes_of_files, shares))
        same: dict[bytes, list[int]] = {}
        for i, digest in zip(unsure, hashes, strict=True):
            if digest:
                same.setdefault(digest, []).append(i)
    return [group for group in same.values() if across(group)]


def _hashes_of_files(paths: Sequence[Path]) -> list[bytes]:
    hashes = []
    for path in paths:
        try:
            hashes.append(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        except OSError:
            hashes.append(b"")
    return hashes


Answer = TypeVar("Answer")
SHARE = 64  # files that a thread takes at a time
ENDS = 4096  # bytes at both ends of a file by which copies are known


def find_copies(paths: Sequence[Path]) -> list[list[int]]:
    """Positions of files of one size whose first and last bytes are the same, in groups of two or more."""
    sizes = _in_threads(_size, paths)
    of_size: dict[int, list[int]] = {}
    for i, size in enumerate(sizes):
        if size:
            of_size.setdefault(size, []).append(i)
    unsure = [i for group in of_size.values() if len(group) > 1 for i in group]
    same: dict[tuple[int, bytes], list[int]] = {}
    for i, ends in zip(unsure, _in_threads(_ends, [paths[i] for i in unsure]), strict=True):
        if ends:
            same.setdefault((sizes[i], ends), []).append(i)
    return [group for group in same.values() if len(group) > 1]


def _in_threads(function: Callable[[Path], Answer], paths: Sequence[Path]) -> list[Answer]:
    """The function's answers, in the order of the paths; each thread takes many at a time."""
    shares = [paths[start : start + SHARE] for start in range(0, len(paths), SHARE)]
    with ThreadPoolExecutor() as pool:
        return [answer for answers in pool.map(lambda share: list(map(function, share)), shares) for answer in answers]


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # the loader and the doctor name it
        return 0


def _ends(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            ends = file.read(ENDS)
            file.seek(max(os.fstat(file.fileno()).st_size - ENDS, 0))
            return hashlib.blake2b(ends + file.read(), digest_size=16).digest()
    except OSError:
        return b""


def find_duplicates(facts: Sequence[PhotoFacts]) -> list[list[Path]]:
    """Groups of two or more files that show the same picture to the pixel, in the order of `facts`.

    A copy is found under any name, and where it was saved again without loss (as PNG, say); a picture compressed
    anew or resized is another one. Files with a problem belong to no group.
    """
    groups: dict[str, list[Path]] = {}
    for fact in facts:
        if fact.pixel_hash:
            groups.setdefault(fact.pixel_hash, []).append(fact.path)
    return [group for group in groups.values() if len(group) > 1]
