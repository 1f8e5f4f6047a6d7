"""Uploads of visitors: checked before they are decoded, and refused with a message.

Letters in shapes: H W height and width.
"""

import contextlib
import io
import lzma
import math
import mmap
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from apps.common.data.photos import SUFFIXES_OF_FORMAT, is_photo_name
from apps.common.headers import check_work, picture_format
from apps.common.images import read_image, resize

MAX_PHOTO_BYTES = 30_000_000
MAX_PIXELS = 60_000_000  # of a photo; 180 MB when decoded
MAX_FRAME_PIXELS = 4_000_000  # of the webcam or a video
MAX_PHOTOS = 500  # in one table
MAX_MEMBERS = 10_000  # of an archive, photos or not
# What Python's readers of archives raise for damaged ones, and for compressions that are not there.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError,
    IndexError, struct.error, OverflowError,
)  # fmt: skip
SHOWN_SIDE = 1600  # longer side of the pictures that are sent back, pixels
FORMATS = (*SUFFIXES_OF_FORMAT, "MPO")


class Sent(NamedTuple):
    """One of many files: its name, and the photo (H, W, 3) uint8 RGB or the problem."""

    name: str
    image: np.ndarray | None
    problem: str = ""


def read_photo(path: Path) -> np.ndarray:
    """Read an uploaded photo as (H, W, 3) uint8 RGB, after its header was checked.

    Raises:
        ValueError: no photo, too large, or damaged; the message has the file's name, not the server's folder.
    """
    path = Path(path)
    if not (size := path.stat().st_size):
        raise ValueError(f"{path.name} is empty (0 bytes)")
    if size > MAX_PHOTO_BYTES:
        raise ValueError(f"{path.name} has {size / 1e6:,.0f} MB; at most {MAX_PHOTO_BYTES / 1e6:,.0f} are read")
    with path.open("rb") as file:
        check_header(file, path.name, max_pixels=MAX_PIXELS)
    try:
        return read_image(path, silent=True)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from None


def check_header(file: io.IOBase, name: str, *, max_pixels: int) -> None:
    """Refuse files that are no picture or have too many pixels, by the header alone.

    Raises:
        ValueError: with what it is and what is allowed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:  # type: ignore[arg-type]
                width, height = picture.size
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has far too many pixels; at most {max_pixels / 1e6:,.0f} million are read") from None
    except Exception:  # Pillow raises many kinds for a damaged header
        known = ", ".join(SUFFIXES_OF_FORMAT)
        raise ValueError(f"{name} is not a picture that can be read (supported: {known})") from None
    if width * height > max_pixels:
        raise ValueError(
            f"{name} is {width} x {height} pixels, {width * height / 1e6:,.1f} million; "
            f"at most {max_pixels / 1e6:,.0f} million are read"
        )


def has_more_pictures(path: Path) -> bool:
    """Whether a file has more than one picture. To be called after `read_photo`; counting them may take hours."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.seek(1)
            return picture.format != "MPO"
    except Exception:
        return False


def decode_frame(data: bytes) -> np.ndarray:
    """A webcam's picture (H, W, 3) uint8 RGB from the bytes of a JPEG, PNG or WebP.

    Raises:
        ValueError: no picture, or too large.
    """
    check_header(io.BytesIO(data), "the camera's picture", max_pixels=MAX_FRAME_PIXELS)
    try:
        check_work(data, kind := picture_format(data))
    except ValueError as error:
        raise ValueError(f"the camera's picture is refused: {error}") from None
    image = None
    with contextlib.suppress(Exception):  # Pillow raises many kinds for a damaged file
        if kind == "JPEG":  # of which OpenCV writes to the terminal if it is damaged
            return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError("the camera's picture cannot be decoded")
    return image


def fit(image: np.ndarray, *, side: int = SHOWN_SIDE, least: int = 0) -> tuple[np.ndarray, float]:
    """An image (H, W, 3) with its longer side at most `side` and, if there is one, at least `least`; and the factor."""
    longer = max(image.shape[:2])
    factor = side / longer if longer > side else max(1.0, least / longer)
    if factor == 1:
        return image, 1.0
    height, width = (max(1, math.floor(factor * v + 0.5)) for v in image.shape[:2])
    return resize(image, width, height), factor


def open_photos(paths: Iterable[Path], room: Path) -> Iterator[Sent]:
    """All photos among uploaded files, also those in zip archives; unreadable ones come with the problem.

    Args:
        room: an empty folder for one file at a time.
    """
    for path in paths:
        if zipfile.is_zipfile(path):
            yield from _unzip(path, room)
        elif not is_photo_name(path.name):
            yield Sent(path.name, None, f"{path.name} is neither a photo nor a zip archive")
        else:
            yield _read(path, path.name)


def count_photos(paths: Iterable[Path]) -> int:
    """The number of photos that `open_photos` will give.

    Raises:
        ValueError: more than `MAX_PHOTOS`, or none.
    """
    num_photos = 0
    for path in paths:
        try:
            num_photos += len(_members(path)) if zipfile.is_zipfile(path) else 1
        except ARCHIVE_ERRORS:
            num_photos += 1
    if not 1 <= num_photos <= MAX_PHOTOS:
        raise ValueError(f"{num_photos:,} files were sent; a table is made of 1 to {MAX_PHOTOS}")
    return num_photos


def _read(path: Path, name: str) -> Sent:
    try:
        return Sent(name, read_photo(path))
    except ValueError as error:
        return Sent(name, None, str(error).replace(path.name, name))


def _members(path: Path) -> list[str]:
    """The files of an archive, without what macOS and Windows add."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = -1
        for _ in range(MAX_MEMBERS + 1):  # counted before zipfile makes an object of each
            if (at := data.find(b"PK\x01\x02", at + 1)) < 0:
                break
        else:
            raise ValueError(f"it has more than {MAX_MEMBERS:,} files")
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.filename.endswith("/")]
    return [name for name in names if not name.startswith("__MACOSX/") and Path(name).name not in (".DS_Store",)]


def _unzip(path: Path, room: Path) -> Iterator[Sent]:
    """The photos of an archive, one at a time and under a new name: names in an archive may point outside of it."""
    try:
        names = _members(path)
        with zipfile.ZipFile(path) as archive:
            for name in names:
                if not is_photo_name(Path(name).name):
                    yield Sent(name, None, f"{name} is no photo")
                    continue
                if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    yield Sent(name, None, f"{name} has an unsupported compression: pack it as an ordinary zip")
                    continue
                with archive.open(name) as member:
                    data = member.read(MAX_PHOTO_BYTES + 1)
                member_path = room / f"photo{Path(name).suffix.lower()}"
                member_path.write_bytes(data)
                yield _read(member_path, name)
                member_path.unlink()
    except ARCHIVE_ERRORS as error:
        yield Sent(path.name, None, f"{path.name}: the archive cannot be read any further ({error})")
