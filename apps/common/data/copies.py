"""Which files are copies of one photo."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from apps.common.data.photos import PhotoFacts

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
