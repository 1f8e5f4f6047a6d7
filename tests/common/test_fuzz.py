"""Damaged pictures and videos: images (H, W, 3) or one line that refuses them, whatever the bytes."""

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image, ImageCms

from apps.common.data.photos import glance_at_photo, inspect_photo
from apps.common.images import check_image, read_image
from apps.common.media.frames import read_video
from tests import damage_binary as damage
from tests.common.media_files import write_video
from tests.fuzzing import Format, fuzz

rows, columns = np.mgrid[:64, :72]
PHOTO = np.stack([columns * 3, rows * 4, 255 - columns * 2, 255 - rows], axis=2).astype(np.uint8)


def encoded(*suffixes_and_images: tuple[str, np.ndarray]) -> Callable[[], list[bytes]]:
    return lambda: [cv2.imencode(suffix, image)[1].tobytes() for suffix, image in suffixes_and_images]


def by_pillow(kind: str, *modes: str) -> Callable[[], list[bytes]]:
    def samples() -> list[bytes]:
        found = []
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        for mode in modes:
            exif = Image.Exif()
            exif[0x0112] = 6
            room = io.BytesIO()
            about = {"exif": exif.tobytes(), "icc_profile": profile if mode.startswith("RGB") else None}
            Image.fromarray(PHOTO).convert(mode).save(room, kind, **about)
            found.append(room.getvalue())
        return found

    return samples


def moving(suffix: str, codec: str) -> Callable[[], list[bytes]]:
    def samples() -> list[bytes]:
        with TemporaryDirectory() as folder:
            return [write_video(Path(folder) / f"a{suffix}", codec=codec).read_bytes()]

    return samples


def read(data: bytes, folder: Path) -> None:
    """As training and predict.py do, and as the check of a data set does: both refuse the same."""
    (folder / "photo.jpg").write_bytes(data)
    facts, seen = inspect_photo(folder / "photo.jpg"), glance_at_photo(folder / "photo.jpg")
    try:
        image = read_image(folder / "photo.jpg")
    except ValueError as error:
        assert facts.problem, f"check.py finds no problem, but {error}"
        raise
    check_image(image)
    size = image.shape[1::-1]
    assert (facts.width, facts.height) == size and seen.size == size, (facts, seen, size)


def read_moving(data: bytes, folder: Path) -> None:
    (folder / "a.mp4").write_bytes(data)
    numbers = []
    for frame in read_video(folder / "a.mp4", Path("a.mp4")):
        if frame.image is None:
            raise ValueError(frame.problem)
        check_image(frame.image)
        numbers.append(frame.number)
        assert 0 <= frame.seconds < 1e12 and 0.05 <= frame.rate <= 1000 and frame.total >= 0, frame
        if len(numbers) > 300:
            break
    assert numbers == list(range(len(numbers)))


COLOURS, GRAY, DEEP = PHOTO[..., :3], PHOTO[..., 0].copy(), PHOTO[..., :3].astype(np.uint16) * 16
FORMATS = {
    "jpeg": Format(by_pillow("JPEG", "RGB", "L", "CMYK"), read, damage=damage.in_jpeg),
    "png": Format(by_pillow("PNG", "RGB", "RGBA", "P", "1"), read, damage=damage.in_png),
    "png16": Format(encoded((".png", DEEP), (".png", DEEP[..., 0].copy())), read, damage=damage.in_png),
    "webp": Format(by_pillow("WEBP", "RGB", "RGBA"), read, damage=damage.in_riff),
    "bmp": Format(encoded((".bmp", COLOURS), (".bmp", GRAY)), read, damage=damage.in_header),
    "tiff": Format(by_pillow("TIFF", "RGB", "RGBA", "L"), read, damage=damage.in_tiff),
    "tiff16": Format(encoded((".tiff", DEEP)), read, damage=damage.in_tiff),
    "gif": Format(encoded((".gif", COLOURS)), read, damage=damage.in_header),
    "avif": Format(by_pillow("AVIF", "RGB", "RGBA"), read, damage=damage.in_boxes),
    "jpeg2000": Format(encoded((".jp2", COLOURS), (".jp2", DEEP)), read, damage=damage.in_boxes),
    "pnm": Format(encoded((".ppm", COLOURS), (".pgm", GRAY), (".ppm", DEEP)), read, damage=damage.in_pnm),
    "video mp4": Format(moving(".mp4", "mp4v"), read_moving, damage=damage.in_boxes, runs=60),
    "video avi": Format(moving(".avi", "MJPG"), read_moving, damage=damage.in_riff, runs=60),
    "video webm": Format(moving(".webm", "VP80"), read_moving, damage=damage.in_header, runs=60),
}


def test_damaged_pictures_and_videos(request):
    fuzz(__name__, request.config)
