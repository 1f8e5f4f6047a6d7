"""Near-duplicate photos: compressed again, resized, brightened, slightly cropped, or frames of one video.

Three comparisons, each of the pairs that the one before leaves:

1. difference hashes: for 9x8 gray cells, which of two neighbours is brighter, 64 bits; of the whole photo and of its
   middle, so that a photo also meets its own crop. All pairs are compared, in blocks.
2. correlation of 16x16 gray cells.
3. both photos at 64x64, registered by the best affine map (ECC, Evangelidis and Psarakis 2008): their details, without
   coarse shading, must correlate, too. Those of two frames do, those of two skies do not.

docs/own_photos.md has the recall and the number of false positives.

Letters in shapes: N photos, V views of each.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from apps.common.data.copies import find_copies, linked
from apps.common.data.photos import glance_at_photo, of_each
from apps.common.headers import MANY_PIXELS, picture_format
from apps.common.images import read_image
from backbone.files import cache_dir, open_plain, written_whole

VIEWS = (1.0, 0.92, 0.85)  # the whole photo and its middle, as shares of the sides
MEETINGS = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))  # views of one photo and of another that are compared
MAX_BITS = 12  # of 64 that may differ
MIN_LIKENESS = 0.7  # correlation of 16x16 cells
MIN_DETAIL = 0.7  # correlation of details after registration
CELLS, SIDE, DETAIL = 16, 64, 4.0  # sides of the second and third look in pixels; blur that takes the details away
MAX_STRETCH, MIN_OVERLAP = 0.3, 0.6  # accepted from the affine map
ROWS, COLUMNS = 64, 4096  # hashes that are compared at once; more do not fit into a processor's cache
VERSION = 1  # of all this, for the cache


class Look(NamedTuple):
    """A photo's features: difference hashes (V,) and gray cells (V, 16, 16), for each of its views."""

    hashes: np.ndarray
    cells: np.ndarray


def find_near(paths: Sequence[Path], *, progress: bool = True) -> list[list[int]]:
    """Indices of near-duplicate photos, in groups of two or more; chains are one group.

    Photos that cannot be read, or have one colour, are in no group. The result is cached for the same files.
    """
    kept = cache_dir() / "near" / f"{_fingerprint(paths)}.json"
    try:
        groups = json.loads(kept.read_text())
        if all(0 <= i < len(paths) for group in groups for i in group):
            return groups
    except (OSError, ValueError, TypeError):
        pass
    groups = [group for group in linked(len(paths), near_pairs(paths, progress=progress)) if len(group) > 1]
    try:
        with written_whole(kept) as temporary:
            temporary.write_text(json.dumps(groups))
    except OSError:
        pass  # it is found again next time
    return groups


def find_look_alikes(paths: Sequence[Path]) -> list[list[int]]:
    """Indices of photos that are exact or near duplicates, in groups of two or more, for one side of a split each."""
    groups = linked(len(paths), [*find_copies(paths), *find_near(paths)])
    return [group for group in groups if len(group) > 1]


def near_pairs(paths: Sequence[Path], *, progress: bool = True) -> list[tuple[int, int]]:
    """Pairs of indices, the lower one first, of near-duplicate photos."""
    looks = of_each(look_at, paths, progress=progress, delay=2.0)
    there = [i for i, look in enumerate(looks) if look is not None]
    seen = [look for look in looks if look is not None]
    if not seen:
        return []
    hashes = np.stack([look.hashes for look in seen])
    cells = np.stack([look.cells for look in seen])
    del looks, seen  # 1 kB of each photo
    candidates = sorted((there[a], there[b]) for a, b in _alike(hashes, cells, progress=progress))

    @functools.lru_cache(maxsize=2048)
    def square(i: int) -> np.ndarray | None:
        return _shrunk(paths[i])

    def same(pair: tuple[int, int]) -> bool:
        one, other = square(pair[0]), square(pair[1])
        return one is not None and other is not None and shared_detail(one, other) > MIN_DETAIL

    answers = of_each(same, candidates, progress=progress, delay=2.0)
    return [pair for pair, is_same in zip(candidates, answers, strict=True) if is_same]


def look_at(path: Path) -> Look | None:
    """A photo's hashes and cells; None if it cannot be read or has one colour."""
    gray = _read_gray(path)
    if gray is None or int(gray.max()) - int(gray.min()) < 8:
        return None
    views = [_middle(gray, share) for share in VIEWS]
    cells = np.stack([cv2.resize(view, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for view in views])
    return Look(np.array([difference_hash(view) for view in views], dtype=np.uint64), cells)


def difference_hash(gray: np.ndarray) -> int:
    """64 bits of an image (H, W) uint8: whether each of 9x8 cells is brighter than the one before it in its row."""
    cells = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def shared_detail(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the details of two images (64, 64) float32 after registration of the second: at most 1.

    0 if no map close to the identity registers them.
    """
    warp: Any = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    try:
        _, warp = cv2.findTransformECC(one, other, warp, cv2.MOTION_AFFINE, stop, None, 3)  # type: ignore[call-overload]
    except cv2.error:  # it does not converge
        return 0.0
    if np.abs(warp[:, :2] - np.eye(2)).max() > MAX_STRETCH:
        return 0.0
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (SIDE, SIDE)
    laid = cv2.warpAffine(other, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(other), warp, size, flags=flags) > 0.99
    if inside.mean() < MIN_OVERLAP:
        return 0.0
    details = [(image - cv2.GaussianBlur(image, (0, 0), DETAIL))[inside] for image in (one, laid)]
    return float(_correlation(*details))


def _alike(hashes: np.ndarray, cells: np.ndarray, *, progress: bool) -> Iterator[tuple[int, int]]:
    """Pairs a < b of N photos with similar hashes (N, V) and cells (N, V, 16, 16)."""
    count, by_view = len(hashes), np.ascontiguousarray(hashes.T)
    bar = {"desc": "comparing photos", "leave": False, "disable": None if progress else True, "delay": 2.0}
    for top in tqdm(range(0, count, ROWS), **bar):
        rows = by_view[:, top : top + ROWS]
        for left in range(top, count, COLUMNS):
            columns = by_view[:, left : left + COLUMNS]
            close = np.zeros((rows.shape[1], columns.shape[1]), dtype=bool)
            for v, w in MEETINGS:
                close |= np.bitwise_count(rows[v, :, None] ^ columns[w]) <= MAX_BITS
            a, b = np.nonzero(close)
            a, b = a[a + top < b + left] + top, b[a + top < b + left] + left
            for part in range(0, len(a), COLUMNS):
                some = a[part : part + COLUMNS], b[part : part + COLUMNS]
                alike = _likeness(cells[some[0]], cells[some[1]]) > MIN_LIKENESS
                yield from zip(*(positions[alike].tolist() for positions in some), strict=True)


def _likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(M,) the best correlation of the cells (M, V, 16, 16) of M pairs of photos, over the compared views."""
    one, other = (cells.reshape(*cells.shape[:2], -1).astype(np.float32) for cells in (one, other))
    one, other = (shades - shades.mean(axis=2, keepdims=True) for shades in (one, other))
    one, other = (shades / np.maximum(np.linalg.norm(shades, axis=2, keepdims=True), 1.0) for shades in (one, other))
    return np.max([(one[:, v] * other[:, w]).sum(axis=1) for v, w in MEETINGS], axis=0)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    return (one * other).sum() / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1.0)


def _middle(gray: np.ndarray, share: float) -> np.ndarray:
    height, width = (max(1, round(side * share)) for side in gray.shape)
    top, left = (gray.shape[0] - height) // 2, (gray.shape[1] - width) // 2
    return gray[top : top + height, left : left + width]


def _shrunk(path: Path) -> np.ndarray | None:
    gray = _read_gray(path)
    return None if gray is None else cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _read_gray(path: Path) -> np.ndarray | None:
    """A photo as (H, W) uint8, rotated by EXIF; a large JPEG at a fraction of its size, which is read faster."""
    try:
        with open_plain(path) as file:
            data = file.read()
        if picture_format(data) == "JPEG":
            size = glance_at_photo(path).size
            if size[0] * size[1] > MANY_PIXELS:
                read_image(path)  # which refuses what a header makes up
            flags = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
            flags |= {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 1: cv2.IMREAD_GRAYSCALE}
            fraction = next((f for f in (8, 4, 2) if min(size) >= 2 * SIDE * f), 1)
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags[fraction])
        return cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    except (OSError, ValueError, cv2.error):
        return None  # the loader and check.py name it


def _fingerprint(paths: Sequence[Path]) -> str:
    digest = hashlib.blake2b(str(VERSION).encode(), digest_size=16)
    for path in paths:
        try:
            stat = os.stat(path)
            about = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0"
        except (OSError, ValueError):
            about = f"{path}\0"
        digest.update(about.encode(errors="surrogatepass"))
    return digest.hexdigest()
