"""Damaged pictures: an image (H, W, 3) or one line that refuses it, whatever the bytes."""

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from apps.common.images import check_image, read_image
from tests.fuzzing import Format, fuzz

rows, columns = np.mgrid[:64, :72]
PHOTO = np.stack([columns * 3, rows * 4, 255 - columns * 2, 255 - rows], axis=2).astype(np.uint8)


def encoded(*suffixes_and_images: tuple[str, np.ndarray]) -> Callable[[], list[bytes]]:
    return lambda: [cv2.imencode(suffix, image)[1].tobytes() for suffix, image in suffixes_and_images]


def by_pillow(kind: str, *modes: str) -> Callable[[], list[bytes]]:
    def samples() -> list[bytes]:
        found = []
        for mode in modes:
            exif = Image.Exif()
            exif[0x0112] = 6
            room = io.BytesIO()
            Image.fromarray(PHOTO).convert(mode).save(room, kind, exif=exif.tobytes())
            found.append(room.getvalue())
        return found

    return samples


def read(data: bytes, folder) -> None:
    (folder / "photo.jpg").write_bytes(data)
    check_image(read_image(folder / "photo.jpg"))


COLOURS, GRAY, DEEP = PHOTO[..., :3], PHOTO[..., 0].copy(), PHOTO[..., :3].astype(np.uint16) * 16
FORMATS = {
    "jpeg": Format(by_pillow("JPEG", "RGB", "L", "CMYK"), read),
    "png": Format(by_pillow("PNG", "RGB", "RGBA", "P", "1"), read),
    "png16": Format(encoded((".png", DEEP), (".png", DEEP[..., 0].copy())), read),
    "webp": Format(by_pillow("WEBP", "RGB", "RGBA"), read),
    "bmp": Format(encoded((".bmp", COLOURS), (".bmp", GRAY)), read),
    "tiff": Format(by_pillow("TIFF", "RGB", "RGBA", "L"), read),
    "tiff16": Format(encoded((".tiff", DEEP)), read),
    "gif": Format(encoded((".gif", COLOURS)), read),
    "avif": Format(by_pillow("AVIF", "RGB", "RGBA"), read),
    "jpeg2000": Format(encoded((".jp2", COLOURS), (".jp2", DEEP)), read),
    "pnm": Format(encoded((".ppm", COLOURS), (".pgm", GRAY), (".ppm", DEEP)), read),
}


def test_damaged_pictures(request):
    fuzz(__name__, request.config)
