"""The format of a picture from its first bytes, and checks before it is decoded: damage, memory and time."""

import re
import struct
import zlib
from collections.abc import Iterator

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    *((start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((start, "GIF") for start in (b"GIF87a", b"GIF89a")),
    *((start, "JPEG2000") for start in (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    *((b"P%d%c" % (kind, space), "PPM") for kind in range(1, 7) for space in b" \t\r\n"),
)
READ_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "HEIC")
MANY_PIXELS, PIXELS_PER_BYTE = 2**26, 64  # more pixels than the first number are accepted only from a file of some size
MAX_SCANS = 100  # of a JPEG; progressive ones have about ten, and a decoder goes over all pixels in each
_JPEG_MARK = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # of a segment, or of the end


def picture_format(data: bytes) -> str:
    """One of `READ_FORMATS`, from a file's first bytes, regardless of its name; "" for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = {data[i : i + 4] for i in range(8, min(int.from_bytes(data[:4], "big"), 128), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"} else ""
    return next((name for start, name in _SIGNATURES if data.startswith(start)), "")


def check_png(data: bytes) -> None:
    """Refuse a PNG with a wrong checksum, for which OpenCV would print a warning."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 <= len(data) and zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("it is damaged: a checksum is wrong")
        if data[position + 4 : position + 8] == b"IEND":
            return
        position = end + 4


def check_size(width: int, height: int, data: bytes) -> None:
    """Refuse a header whose picture would need far more memory than the file's size justifies."""
    if width * height > max(MANY_PIXELS, PIXELS_PER_BYTE * len(data)):
        raise ValueError(f"it has {len(data):,} bytes, but says that it is of {width:,} x {height:,} pixels")


def check_work(data: bytes, kind: str) -> None:
    """Refuse pictures that would take hours or gigabytes to decode, whatever their header says.

    Args:
        kind: see `picture_format`.

    Raises:
        ValueError: the file is refused; the message says why.
    """
    if kind == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS:
        _count_scans(data)
    elif kind == "TIFF":
        _check_tiff(data)


def _count_scans(data: bytes) -> None:
    num_scans, position = 0, 2
    while num_scans <= MAX_SCANS and (found := _JPEG_MARK.search(data, position)) and found[0] != b"\xff\xd9":
        num_scans += found[0] == b"\xff\xda"
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    if num_scans > MAX_SCANS:
        raise ValueError(f"it has more than {MAX_SCANS} scans, which would take too long")


def _check_tiff(data: bytes) -> None:
    """Refuse a TIFF with two sizes, of which Pillow uses the last and OpenCV the first, and one that neither reads
    correctly: gray with transparency in 16 bits, whose low bits OpenCV drops.
    """
    order = "<" if data.startswith(b"I") else ">"
    at, count, entry = ("Q", "Q", 20) if b"+" in data[2:4] else ("L", "H", 12)
    try:
        (start,) = struct.unpack_from(order + at, data, 8 if entry == 20 else 4)
        (num_tags,) = struct.unpack_from(order + count, data, start)
        start += struct.calcsize(order + count)
        form = f"{order}HH{at}H"  # number, type, count, and the value if it is one of two bytes
        tags = [struct.unpack_from(form, data, start + entry * i) for i in range(min(num_tags, 65536))]
    except struct.error:
        raise ValueError("it is damaged: its list of properties is cut") from None
    numbers = [tag[0] for tag in tags]
    if max(numbers.count(256), numbers.count(257)) > 1:
        raise ValueError("it is damaged: it says its size twice")
    values = {tag[0]: tag[3] for tag in tags}
    if (values.get(258), values.get(277)) == (16, 2):  # bits and samples of a pixel
        raise ValueError("it is gray with transparency in 16 bits, which is not read: save it as PNG")


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end mark; decoders silently fill the rest with gray."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if not data.startswith(b"\xff\xd8"):
        return False
    for mark, position in _jpeg_marks(data):
        if mark == 0xDA:  # start of scan: the picture itself
            return data.find(b"\xff\xd9", position) < 0
    return True


def _jpeg_marks(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers of a JPEG's segments up to its picture, and their positions; those of embedded thumbnails are skipped.

    Bytes between segments, which the format does not allow, are skipped, as by libjpeg.
    """
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        mark = data[position + 1]
        if mark == 0xFF:  # filling before a mark
            position += 1
        elif mark in (0x00, 0x01) or 0xD0 <= mark <= 0xD8:  # without a segment
            position += 2
        else:
            yield mark, position
            if mark == 0xDA:
                return
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def jpeg_header(data: bytes) -> tuple[int, int, bool]:
    """A JPEG's width and height, 0 if it has none, and whether there are bytes between its segments."""
    width, height, is_odd, end = 0, 0, False, 2
    for mark, position in _jpeg_marks(data):
        is_odd |= bool(data[end:position].strip(b"\xff"))
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
    return width, height, is_odd
