"""Find photos, and collect the facts about each file for the check.py scripts; no file is changed."""

import hashlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from apps.common.data.exif import orientation_of
from apps.common.headers import is_truncated
from apps.common.images import HEIC_IS_READ, bits_seen, read_image
from backbone.files import open_plain

SUFFIXES_OF_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
} | ({"HEIF": (".heic", ".heif")} if HEIC_IS_READ else {})
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF_FORMAT.values() for suffix in suffixes)
"""What `read_image` reads, in lower case."""

UNREAD_SUFFIXES = (
    frozenset((".heic", ".heif", ".jxl", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"))
    - IMAGE_SUFFIXES
)
"""Pictures, too, but not for `read_image`: to be converted, not skipped."""

_CHANNELS = {"1": "gray", "L": "gray", "I": "gray", "F": "gray", "LA": "gray+alpha", "P": "palette", "PA": "palette"}
_STORED_AS_SIZED = ("JPEG", "MPO", "PNG", "WEBP", "AVIF")  # Pillow may turn others as EXIF says, or may not
_END_MARKS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # of JPEG and PNG, by their first bytes
_START, _TAIL = 65_536, 4096  # bytes read of a large file

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PhotoFacts:
    """Facts about a photo's file.

    Attributes:
        path: the file.
        problem: a sentence that names the file if `read_image` refuses it, else None.
        width, height: in pixels after rotation by EXIF, as in training; 0 if there is a problem.
        channels: as stored: "RGB", "gray", "gray+alpha", "RGBA", "CMYK", "palette"; "" if not known.
        bits: of one channel; 0 if not known.
        bits_seen: the photo is read from the high 8 of this many low bits; 0 if it has 8 bits or fewer.
        orientation: EXIF's, 1 to 8; 1 is upright, also where it is unknown whether the reader rotates the picture.
        format: from the first bytes, usually a key of `SUFFIXES_OF_FORMAT`; "" if not known.
        pixel_hash: of the decoded pixels and their shape; "" if there is a problem.
    """

    path: Path
    problem: str | None = None
    width: int = 0
    height: int = 0
    channels: str = ""
    bits: int = 0
    bits_seen: int = 0
    orientation: int = 1
    format: str = ""
    pixel_hash: str = ""

    @property
    def depth(self) -> str:
        """The bit depth of a photo with more than 8 bits, and which bits are read."""
        used = f", of which {self.bits_seen} are used" if 0 < self.bits_seen < self.bits else ""
        return f"{self.bits} bits{used}" + ": the high 8 of them are read" * bool(self.bits_seen)

    @property
    def suffix_is_wrong(self) -> bool:
        """Whether the suffix of the file belongs to another format than its content."""
        allowed = SUFFIXES_OF_FORMAT.get(self.format)
        return allowed is not None and self.path.suffix.lower() not in allowed


def find_photos(source: Path) -> list[Path]:
    """The photo itself, or all photos in a folder and its subfolders, in order; hidden files are not photos.

    Broken links are included, so that `read_image` reports them.

    Args:
        source: a file of any name, or a folder.

    Raises:
        ValueError: no such file or folder, or a folder without photos.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ValueError(f"{source}: there is no such file or folder")
    photos = sorted(path for path in walk(source) if is_photo_name(path.name))
    if not photos:
        raise ValueError(f"{source}: no photos in it (read are {', '.join(sorted(IMAGE_SUFFIXES))})")
    return photos


def walk(folder: Path) -> Iterator[Path]:
    """All files in a folder and its subfolders, except hidden ones.

    Links to other folders are followed, each folder once; a folder that cannot be entered is reported on stderr.
    """
    root = Path(os.path.realpath(folder))
    seen: set[str] = set()
    waiting = [os.fspath(folder)]
    for start in waiting:  # links are put behind, so that a folder is found under its own name if it has one
        if start != waiting[0] and root.is_relative_to(os.path.realpath(start)):
            continue
        for parent, folders, files in os.walk(start, onerror=_say_closed):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
            waiting += [path for name in folders if os.path.islink(path := os.path.join(parent, name))]
            yield from (Path(parent, name) for name in sorted(files) if name[0] != ".")


def _say_closed(error: OSError) -> None:
    from apps.common.cli import printable

    why = f"cannot be entered ({error.strerror}): what is in it is skipped"
    print(f"note: {printable(error.filename)} {why}", file=sys.stderr)


def evenly_spaced(total: int, count: int) -> list[int]:
    """Indices from 0 to `total` - 1: all if there are at most `count`, else `count` evenly spaced ones."""
    count = min(total, count)
    return [i * total // count for i in range(count)]


def is_photo_name(name: str) -> bool:
    """Whether a file of this name is a photo that `read_image` may read; hidden ones (".x", "._x") are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def inspect_photos(paths: Sequence[Path], *, num_workers: int | None = None, progress: bool = True) -> list[PhotoFacts]:
    """Open and decode every file, as in training, and collect its facts, in the order of `paths`.

    Args:
        num_workers: threads (reading, decoding and hashing run beside each other); default one for each core.
        progress: show a bar.
    """
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    return of_each(inspect_photo, paths, num_workers=num_workers, progress=progress)


class Glance(NamedTuple):
    """Facts from both ends of a file.

    Attributes:
        problem: a sentence that names the file if `read_image` refuses it, else None.
        width, height: pixels as stored; 0 if unknown.
        turned: EXIF rotates the picture by 90 degrees.
    """

    problem: str | None = None
    width: int = 0
    height: int = 0
    turned: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height after rotation by EXIF, as in training."""
        return (self.height, self.width) if self.turned else (self.width, self.height)


def glance_at_photos(paths: Sequence[Path]) -> list[Glance]:
    """Whether files are photos, and their sizes, from their first and last bytes, in the order of `paths`.

    Several times faster than `inspect_photos`, but damage in the middle of a file is not noticed. A progress bar is
    shown after two seconds.
    """
    return of_each(glance_at_photo, paths, delay=2.0)


def unreadable(paths: Sequence[Path]) -> dict[int, str]:
    """Indices of the files that `read_image` refuses at a glance, and the reasons."""
    return {i: seen.problem for i, seen in enumerate(glance_at_photos(paths)) if seen.problem is not None}


def glance_at_photo(path: Path) -> Glance:
    """The glance at one file. A suspicious file is read completely: `read_image` decides."""
    seen, stored = Glance(), None
    try:
        with open_plain(path) as file:
            with Image.open(file) as picture:
                stored = picture.size
                orientation, is_sure = orientation_of(picture)
                if is_sure and (orientation <= 4 or picture.format in _STORED_AS_SIZED):
                    seen = Glance(None, *picture.size, orientation > 4)
            file.seek(0)
            start = file.read(_START)
            if len(start) < _START:
                whole = not is_truncated(start)
            else:  # thumbnails with end marks of their own are behind us
                file.seek(-_TAIL, os.SEEK_END)
                whole = _END_MARKS.get(start[:2], b"") in file.read()
            if whole and seen.width:
                return seen
    except Exception:  # Pillow raises many kinds for a damaged header
        pass
    try:
        height, width = read_image(path).shape[:2]
    except ValueError as error:
        return seen._replace(problem=str(error))
    turned = width != height and stored == (height, width)
    return seen if seen.width else Glance(None, *((height, width) if turned else (width, height)), turned)


def of_each(
    look: Callable[[S], T],
    items: Sequence[S],
    *,
    num_workers: int | None = None,
    progress: bool = True,
    delay: float = 0.0,
) -> list[T]:
    """The function's result for each item, computed in threads, with a progress bar after `delay` seconds."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    with ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is allowed: `read_image` decides
        try:
            answers = pool.map(look, items)
            bar = {"unit": "photo", "disable": not progress, "mininterval": interval, "delay": delay}
            return list(tqdm(answers, total=len(items), **bar))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def inspect_photo(path: Path) -> PhotoFacts:
    """The facts about one file; for a file that cannot be used, `problem` says why."""
    try:
        with open_plain(path) as file:
            data = file.read()
    except OSError:
        data = b""
    facts = PhotoFacts(path=path, **_header(data))
    try:
        image = read_image(path)
    except ValueError as error:
        return replace(facts, problem=str(error))
    height, width = image.shape[:2]
    if facts.bits == 16:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        facts = replace(facts, bits_seen=16 if stored is None else bits_seen(stored))
    return replace(facts, width=width, height=height, pixel_hash=_hash_pixels(image))


def _header(data: bytes) -> dict[str, Any]:
    """Facts from a file's first bytes; empty if Pillow does not know the format."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            mode, kind = picture.mode, picture.format or ""
            orientation = orientation_of(picture)[0] if kind in _STORED_AS_SIZED else 1
    except Exception:  # Pillow raises many kinds for a damaged header; `read_image` decides
        return {}
    bits = 1 if mode == "1" else 16 if mode.startswith("I") else 32 if mode == "F" else 8
    if kind == "PNG":
        bits = data[24]  # of IHDR, since Pillow shows 16 bits of colour as 8
    return {
        "channels": "gray" if mode.startswith("I;") else _CHANNELS.get(mode, mode),
        "bits": bits,
        "orientation": orientation,
        "format": "JPEG" if kind == "MPO" else kind,  # phones' JPEG with a second picture behind the first
    }


def _hash_pixels(image: np.ndarray) -> str:
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
