"""A picture's EXIF orientation: 1 to 8; 1 is upright, and above 4 width and height are swapped."""

from PIL import Image

ORIENTATION = 0x0112  # the tag's number


def orientation_of(picture: Image.Image) -> tuple[int, bool]:
    """The orientation, and whether all readers of the file agree on it.

    They disagree if the tag is not EXIF's short number, is only in XMP, or occurs twice.
    """
    stored = _as_stored(picture.info.get("exif", b""))
    several = sum(data.startswith(b"Exif\0") for _, data in getattr(picture, "applist", ())) > 1
    is_sure = not several and (stored == 1 or picture.format != "PNG")
    return stored, is_sure and picture.getexif().get(ORIENTATION, 1) == stored


def _as_stored(exif: bytes) -> int:
    """The orientation that OpenCV reads, which ignores the tag's type and count."""
    tiff = exif.removeprefix(b"Exif\0\0")

    def number(at: int, size: int) -> int:
        part = tiff[at : at + size]
        return int.from_bytes(part[::-1] if tiff.startswith(b"II") else part, "big")

    if number(2, 2) != 42:
        return 1
    start = number(4, 4)
    for at in range(start + 2, min(start + 2 + 12 * number(start, 2), len(tiff)), 12):
        if number(at, 2) == ORIENTATION:
            return value if (value := number(at + 8, 2)) in range(1, 9) else 1
    return 1
