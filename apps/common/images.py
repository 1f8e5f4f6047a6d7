"""Images from disk to the network's input.

Letters in shapes: B batch, H W height and width.
"""

import dataclasses
import importlib.util
import io
import multiprocessing
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from apps.common.headers import (
    MANY_PIXELS,
    READ_FORMATS,
    check_png,
    check_size,
    check_work,
    is_truncated,
    jpeg_header,
    picture_format,
)
from backbone.files import open_plain

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its warnings do not say which file they are about
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `check_size` decides
warnings.filterwarnings("ignore", module="PIL")

HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None
_SAID: set[str] = set()
_LOCK = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Normalisation of pixels 0 to 255: (pixel - mean) / std for R, G and B.

    The default gives -1 to 1, as for TensorFlow's MobileNets.
    """

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Normalisation":
        """From `mean` and `std` in a model's JSON file."""
        (r, g, b), (r_std, g_std, b_std) = stored["mean"], stored["std"]
        return cls(mean=(r, g, b), std=(r_std, g_std, b_std))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB to float32, in the same memory format."""
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return images.float().sub_(mean).div_(std)


def read_image(path: Path, *, orient: bool = True, silent: bool = False) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Gray becomes RGB. Transparent pixels are put on white, as viewers show them. 16 bits become 8; if a file uses at
    most 14 of the 16, its range is stretched.

    Args:
        path: of a format of `READ_FORMATS`, by its first bytes; HEIC needs the package pillow-heif.
        orient: rotate the picture by its EXIF tag.
        silent: suppress the decoder's warnings about a damaged JPEG; decoding it then takes twice the time.

    Raises:
        ValueError: missing, empty, truncated or not an image; the message names the file.
    """
    try:
        with open_plain(Path(path)) as file:
            data = file.read()
    except FileNotFoundError:
        raise ValueError(f"image {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"image {path} cannot be read: {getattr(error, 'strerror', error)}") from None
    return decode_image(data, path, orient=orient, silent=silent)


def decode_image(data: bytes, path: Path | str, *, orient: bool = True, silent: bool = False) -> np.ndarray:
    """A file's bytes as an image; all else as `read_image`.

    Args:
        path: for messages.
    """
    if not data:
        raise ValueError(f"image {path} is empty (0 bytes)")
    if not (kind := picture_format(data)):
        if data.startswith(b"version https://git-lfs"):
            raise ValueError(f"image {path} is not an image but a Git LFS pointer to one: run `git lfs pull`")
        raise ValueError(f"image {path} is not an image: read are {', '.join(READ_FORMATS)}")
    if is_truncated(data):
        raise ValueError(f"image {path} is truncated: its end is missing ({len(data)} bytes)")
    if kind == "HEIC" and not HEIC_IS_READ:
        how = "`python -m pip install pillow-heif`, or save it as JPEG"
        raise ValueError(f"image {path} is in HEIC, which needs another package: {how}")
    try:
        image = _decode(data, kind, path, orient=orient, silent=silent)
    except cv2.error as error:
        raise ValueError(f"image {path} cannot be decoded: {error.err}") from None
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise ValueError(f"image {path} cannot be decoded: {str(error) or type(error).__name__}") from None
    return check_image(image)


def _decode(data: bytes, kind: str, path: Path | str, *, orient: bool, silent: bool) -> np.ndarray:
    """The pixels of a file, decoded by OpenCV, or by Pillow where OpenCV is wrong or prints warnings."""
    check_work(data, kind)
    if kind == "JPEG":
        width, height, is_odd = jpeg_header(data)
        check_size(width, height, data)
        if silent:
            return _by_pillow(data, kind, path, orient=orient)
        if is_odd:  # of which OpenCV writes to the terminal
            with suppress(Image.UnidentifiedImageError, SyntaxError):
                return _by_pillow(data, kind, path, orient=orient)
        return _by_opencv(data, kind, path, orient=orient)
    if kind == "PNG":
        check_png(data)
    if kind == "HEIC":
        importlib.import_module("pillow_heif").register_heif_opener()
    alpha = False  # of kinds that OpenCV alone reads
    try:
        with Image.open(io.BytesIO(data)) as header:
            check_size(*header.size, data)
            alpha = header.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in header.info
    except Image.DecompressionBombError:
        check_size(MANY_PIXELS + 1, 1, data)
    except (Image.UnidentifiedImageError, SyntaxError, OSError, KeyError):
        if kind in ("AVIF", "HEIC"):
            raise
    if kind in ("AVIF", "HEIC") or alpha:
        return _by_pillow(data, kind, path, orient=orient)
    return _by_opencv(data, kind, path, orient=orient)


def _by_pillow(data: bytes, kind: str, path: Path | str, *, orient: bool) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        picture: Image.Image = opened
        picture.load()
        if deep := _deep_rgba(data, kind, path):
            picture, deep.info = deep, picture.info  # which says how it is turned
        if orient and opened.format != "TIFF":  # which Pillow turns by itself
            picture = ImageOps.exif_transpose(picture)
        if "A" not in picture.getbands() and "a" not in picture.getbands() and "transparency" not in picture.info:
            return np.array(picture.convert("RGB"))
        return _on_white(np.array(picture.convert("RGBA")), path, opaque=opened.format == "BMP")  # as browsers show it


def _deep_rgba(data: bytes, kind: str, path: Path | str) -> Image.Image | None:
    """A 16-bit picture with transparency in 8 bits, as Pillow would drop the low ones; None for any other."""
    if kind not in ("TIFF", "JPEG2000") and not (kind == "PNG" and data[24] == 16):
        return None
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.shape[2:] != (4,):
        return None
    colours, alpha = stored[..., 2::-1], stored[..., 3]
    used = 16 if bits_seen(alpha) == 16 else max(bits_seen(colours), bits_seen(alpha))
    eight = np.right_shift(alpha, used - 8).astype(np.uint8)
    return Image.fromarray(np.dstack([_eight_bits(colours, path), eight]))


def _by_opencv(data: bytes, kind: str, path: Path | str, *, orient: bool) -> np.ndarray:
    flags = cv2.IMREAD_COLOR | (0 if kind in ("JPEG", "WEBP", "GIF", "BMP") else cv2.IMREAD_ANYDEPTH)
    flags |= 0 if orient else cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("it is damaged, or of a kind that OpenCV does not read")
    if image.dtype == np.uint16:
        image = _eight_bits(image, path)
    if image.dtype != np.uint8:
        raise ValueError(f"it holds {image.dtype} numbers, no colours: save it with 8 or 16 bits")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def bits_seen(image: np.ndarray) -> int:
    """How many of an image's 16 bits are used: `read_image` keeps the high 8 of these."""
    used = max(8, int(image.max()).bit_length())
    return 16 if used > 14 else used


def _eight_bits(image: np.ndarray, path: Path | str) -> np.ndarray:
    """Convert 16 bits to 8, stretched if at most 14 are used."""
    used = bits_seen(image)
    if 8 < used < 16:
        _say_once(f"of 16-bit photos, the bits that are used are stretched ({used} in {path})", "16 bits")
    return (image >> (used - 8)).astype(np.uint8)


def _on_white(image: np.ndarray, path: Path | str, *, opaque: bool) -> np.ndarray:
    """(H, W, 4) RGBA to RGB, transparent pixels on white; with `opaque`, alpha 0 everywhere means no transparency."""
    if image[..., 3].min() == 255 or (opaque and not image[..., 3].any()):
        return np.ascontiguousarray(image[..., :3])
    _say_once(f"what is transparent in pictures is put on white ({path})", "alpha")
    picture = Image.fromarray(image)
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


def _say_once(sentence: str, about: str) -> None:
    """A note on stderr, once in a run; data processes are silent."""
    from apps.common.cli import printable  # not with this file: what draws a sample set must not depend on all flags

    with _LOCK:
        if about in _SAID or multiprocessing.parent_process() is not None:
            return
        _SAID.add(about)
    print(f"note: {printable(sentence)}", file=sys.stderr)


def check_image(image: Any) -> np.ndarray:
    """The image itself; ValueError if it is not (H, W, 3) uint8 RGB, as `read_image` returns."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be an array, or the path of a photo, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be (H, W, 3) uint8 RGB, 0 to 255, got {image.shape} {image.dtype}")
    return image


def as_image(given: Any) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB: an array unchanged, or the photo at a path; ValueError for anything else."""
    return read_image(Path(given)) if isinstance(given, str | Path) else check_image(given)


RESIZING = (
    "linear (cv2.INTER_LINEAR); where both sides are twice as long as they will be, or one three times, before that to "
    "1/n of each, n the whole times it is as long (cv2.INTER_AREA)"
)  # what `resize` does, in words


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) to (height, width, 3): linear; for strong reductions, groups of pixels are averaged first.

    Averaging alone, by fractions of pixels, takes ten times as long (1.5 ms from 640x480 to 300x300) and detects no
    better: AP of the published COCO detector on 106 photos is 0.225 with it, 0.223 without.
    """
    down_x, down_y = image.shape[1] // width, image.shape[0] // height
    if min(down_x, down_y) > 1 or max(down_x, down_y) > 2:
        size = (image.shape[1] // max(1, down_x), image.shape[0] // max(1, down_y))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def stack_images(images: list[np.ndarray]) -> Tensor:
    """Images (H, W, 3) uint8 of one size to a batch (B, 3, H, W), channels last in memory, without a transpose."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
