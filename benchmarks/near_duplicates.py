"""How many made pairs of near-duplicates are found, and how many pairs of different photos are taken for some.

    python benchmarks/near_duplicates.py PHOTOS --out near.jpg
    python benchmarks/near_duplicates.py --hashes 100000

For some photos of a folder it makes changed copies, and looks whether the pair is found among all photos. The pairs of
photos of the folder itself that are found are drawn, for people to judge.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from apps.common.data.near import CELLS, VIEWS, _alike, difference_hash, near_pairs
from apps.common.data.photos import evenly_spaced, find_photos
from apps.common.images import read_image
from apps.common.pictures import write_contact_sheet

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def crop(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A part of these shares of the sides, anywhere."""
    height, width = round(image.shape[0] * share), round(image.shape[1] * share)
    top, left = (int(rng.integers(0, long - short + 1)) for long, short in zip(image.shape, (height, width)))  # noqa: B905
    return image[top : top + height, left : left + width]


def next_frame(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved by up to 8 pixels, turned by 0.3 degrees and enlarged by 1 %, as by a hand that holds a camera."""
    warp = np.array([[1.01, 0.005, rng.uniform(-8, 8)], [-0.005, 1.01, rng.uniform(-8, 8)]])
    return cv2.warpAffine(image, warp, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


CHANGES: dict[str, tuple[int, Change]] = {
    "compressed again, JPEG quality 30": (30, lambda image, _: image),
    "half the sides": (85, lambda image, _: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)),
    "brightened by 30 %": (85, lambda image, _: np.clip(image * 1.3 + 10, 0, 255).astype(np.uint8)),
    "darkened to 60 %": (85, lambda image, _: (image * 0.6).astype(np.uint8)),
    "cropped to 95 % of the sides": (85, lambda image, rng: crop(image, 0.95, rng)),
    "cropped to 90 % of the sides": (85, lambda image, rng: crop(image, 0.9, rng)),
    "the next frame of a video": (80, next_frame),
}


def measure(folder: Path, out: Path, num_pairs: int) -> None:
    """Print the share of made pairs that is found by kind of change, then what is found among the photos."""
    photos = find_photos(folder)
    start = time.perf_counter()
    own = near_pairs(photos, progress=False)
    print(f"{len(photos):,} photos, {time.perf_counter() - start:.1f} s")
    some = evenly_spaced(len(photos), num_pairs)
    for name, (quality, change) in CHANGES.items():
        rng, found = np.random.default_rng(0), 0
        with tempfile.TemporaryDirectory() as room:
            for i in some:
                path = Path(room) / f"{i}.jpg"
                changed = cv2.cvtColor(change(read_image(photos[i]), rng), cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(path), changed, [cv2.IMWRITE_JPEG_QUALITY, quality])
                found += bool(near_pairs([photos[i], path], progress=False))
        print(f"| {name} | {found / len(some):.3f} |")
    pairs = len(photos) * (len(photos) - 1) // 2
    print(f"found among {pairs:,} pairs of the folder's own photos: {len(own)}; they are in {out}")
    sheet = (np.hstack([cv2.resize(read_image(photos[i]), (240, 180)) for i in pair]) for pair in own)
    if own:
        write_contact_sheet(out, sheet, num_rows=12)


def time_hashes(count: int) -> None:
    """Print how long comparing made hashes takes, and the memory: soft random pictures, of which 2 % are in fours."""
    rng, soft = np.random.default_rng(0), np.zeros(0)
    hashes, cells = np.zeros((count, len(VIEWS)), np.uint64), np.zeros((count, len(VIEWS), CELLS, CELLS), np.uint8)
    for i in range(count):
        again = i % 200 in (1, 2, 3)
        soft = soft if again else cv2.resize(rng.uniform(0, 255, (5, 5)), (CELLS, CELLS), interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(soft + rng.normal(0, 3 if again else 10, soft.shape), 0, 255).astype(np.uint8)
        hashes[i], cells[i] = difference_hash(noisy), noisy
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = sum(1 for _ in _alike(hashes, cells, progress=False))
    seconds, memory = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:,} photos, {seconds:.0f} s, {found:,} pairs; {memory:,.0f} MB, {before:,.0f} before")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("near.jpg"))
    parser.add_argument("--pairs", type=int, default=300, help="made pairs of each kind")
    parser.add_argument("--hashes", type=int, help="instead: compare those of so many made photos")
    given = parser.parse_args()
    time_hashes(given.hashes) if given.hashes else measure(given.photos, given.out, given.pairs)
