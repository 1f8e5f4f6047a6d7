"""Pictures for people to look at: text, boxes, contact sheets, JPEG bytes, files.

Text is drawn in a font that has its characters; those that no font has are written as their numbers, so that different
names stay different.
"""

import functools
import importlib.util
import os
import sys
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

JPEG_QUALITY, RESULT_QUALITY = 88, 90  # 90: what predict writes
PAPER, LABEL_PAPER, INK = (255, 255, 255), (255, 255, 80), (0, 30, 60)  # RGB
RIGHT, WRONG = (20, 120, 50), (200, 30, 30)
MOST_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".gif": 65_535}  # pixels that a format can hold

Colour = tuple[int, int, int]
FONT_FOLDERS = {
    "win32": ("C:/Windows/Fonts",),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
}.get(sys.platform, ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"))
LIKELY: tuple[str, ...] = (
    *("cjk", "wqy", "wenquan", "droidsansfallback", "unicode", "pingfang", "hiragino", "msyh", "malgun", "gothic"),
    *("meiryo", "simsun", "noto", "nanum", "ipa", "arial", "free", "unifont", "nirmala", "leelaw"),
)
MOST_FONTS = 60  # of the system's fonts that are searched, the likeliest ones first
NO_LETTER = "\U0010ffff"
LINE, BASE = 1.32, 1.02  # height of a line, and distance of its baseline from its top, in font sizes
LABEL_LETTERS = 12  # pixels, in labels of boxes and beside pictures
HERSHEY = 29  # font size in pixels whose letters are as tall as OpenCV's at scale 1


def write_picture(path: Path, picture: np.ndarray, *, quality: int = JPEG_QUALITY) -> None:
    """Write a picture (H, W, 3) uint8 RGB, completely or not at all, in the format given by the file's suffix.

    A picture that is too large for the format is scaled down.

    Args:
        quality: of a JPEG, 0 to 100.

    Raises:
        ValueError: no format has this suffix.
        OSError: the file cannot be written.
    """
    from backbone.files import written_whole  # here: its package loads torch

    if not (
        path.suffix.isascii() and cv2.haveImageWriter(f"a{path.suffix}")
    ):  # it crashes on characters that cannot be encoded
        raise ValueError(f"cannot write {path}: no picture format has the suffix {path.suffix!r}; use .png or .jpg")
    data = encode_picture(picture, path.suffix, quality=quality)
    with written_whole(path, flush=False) as temporary:  # there are many pictures, and they can be drawn again
        temporary.write_bytes(data)


def encode_picture(picture: np.ndarray, suffix: str = ".jpg", *, quality: int = JPEG_QUALITY) -> bytes:
    """Encode a picture (H, W, 3) uint8 RGB as a file in the format given by `suffix`; see `write_picture`."""
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8, "(H, W, 3) uint8"
    longest, allowed = max(picture.shape[:2]), MOST_SIDE.get(suffix.lower(), 1_000_000)
    if longest > allowed:  # not in this format
        height, width = (max(1, side * allowed // longest) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix.lower() in (".jpg", ".jpeg") else []
    done, data = cv2.imencode(suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done
    return data.tobytes()


def write_contact_sheet(path: Path, pictures: Iterable[np.ndarray], *, width: int = 1600, num_rows: int = 5) -> None:
    """Write one image file of the first pictures (H, W, 3) RGB, all of the same height, row by row in white frames."""
    rows: list[list[np.ndarray]] = [[]]
    for picture in pictures:
        framed = cv2.copyMakeBorder(picture[2:-2, 2:-2], 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=PAPER)
        if rows[-1] and sum(other.shape[1] for other in rows[-1]) + framed.shape[1] > width:
            if len(rows) == num_rows:
                break
            rows.append([])
        rows[-1].append(framed[:, :width])
    strips = []
    for row in rows:
        left = (width - sum(picture.shape[1] for picture in row)) // 2
        strip = np.full((row[0].shape[0] if row else 1, width, 3), PAPER, np.uint8)
        for picture in row:
            strip[:, left : left + picture.shape[1]] = picture
            left += picture.shape[1]
        strips.append(strip)
    write_picture(path, np.concatenate(strips))


def put_label(picture: np.ndarray, text: str, left: int, bottom: int) -> None:
    """Draw a yellow label with a word into an RGB picture; the lower left corner is given, moved down if needed."""
    wide, tall = text_size(text, 0.4 * HERSHEY)
    top = max(bottom - tall - 1, 0)
    cv2.rectangle(picture, (left, top), (left + wide + 3, top + tall), LABEL_PAPER, -1)
    put_text(picture, text, left + 2, top, 0.4 * HERSHEY, INK)


def put_box(
    picture: np.ndarray, box_xyxy: Iterable[float], colour: Colour, text: str = "", *, thickness: int = 1
) -> None:
    """Draw a box in pixels into an RGB picture and, if there is a text, a label above its upper left corner."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (round(min(2.0 * max(height, width), max(-1.0, float(v)))) for v in box_xyxy)
    cv2.rectangle(picture, (x0, y0), (min(x1, width - 1), min(y1, height - 1)), colour, thickness)
    if text:
        wide, tall = text_size(text, LABEL_LETTERS)
        left, bottom = max(2, min(x0, width - wide)), max(y0, tall)
        cv2.rectangle(picture, (left, bottom - tall), (left + wide, bottom), colour, -1)
        put_text(picture, text, left, bottom - tall, LABEL_LETTERS, (0, 0, 0))


def beside(picture: np.ndarray, columns: Iterable[Sequence[tuple[str, Colour]]]) -> np.ndarray:
    """A picture (H, W, 3) with columns of coloured lines on white at its right; (H, wider, 3)."""
    tall = text_size("", LABEL_LETTERS)[1]
    most, parts = max(1, picture.shape[0] // tall), [picture]
    for lines in columns:
        left_out = len(lines) - most + 1
        shown = [*lines[: most - 1], (f"and {left_out} more", INK)] if left_out > 1 else lines
        wide = max((text_size(line, LABEL_LETTERS)[0] for line, _ in shown), default=0) + 12
        parts.append(np.full((picture.shape[0], wide, 3), PAPER, np.uint8))
        for i, (line, ink) in enumerate(shown):
            put_text(parts[-1], line, 6, i * tall, LABEL_LETTERS, ink)
    return np.concatenate(parts, axis=1)


def write_lines(picture: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """A copy of a picture (H, W, 3) with lines on white in its upper left corner."""
    picture = picture.copy()
    if not lines:
        return picture
    scale = max(0.45, letter_scale(picture))
    size, step = scale * HERSHEY, round(36 * scale)
    width = max(text_size(line, size)[0] for line in lines)
    under = picture[: step * len(lines) + step // 2, : width + step]
    under[:] = under // 5 + 204  # white, slightly transparent
    for i, line in enumerate(lines):
        put_text(picture, line, step // 2, i * step + step // 5, size, (20, 20, 20))
    return picture


def letter_scale(picture: np.ndarray) -> float:
    """Font size for a picture (H, W, 3), in units of `HERSHEY`: from its longer side, or the shorter if very long."""
    height, width = picture.shape[:2]
    return min(max(height, width) / 1100, max(0.35, min(height, width) / 200))


def text_size(text: str, size: float) -> tuple[int, int]:
    """Width and height in pixels of a text at font size `size`; the height does not depend on the text."""
    height, width = _letters(text, max(6, round(size))).shape
    return width, height


def put_text(picture: np.ndarray, text: str, left: int, top: int, size: float, ink: Colour) -> None:
    """Draw a text into a picture (H, W, 3) uint8 at its upper left corner; what is outside the picture is clipped."""
    mask = _letters(text, max(6, round(size)))
    y0, x0 = max(0, -top), max(0, -left)
    under = picture[max(0, top) : max(0, top + mask.shape[0]), max(0, left) : max(0, left + mask.shape[1])]
    share = mask[y0 : y0 + under.shape[0], x0 : x0 + under.shape[1], None].astype(np.uint16)
    under[:] = (under * (255 - share) + np.array(ink, np.uint16) * share + 127) // 255


@functools.lru_cache(maxsize=2048)
def _letters(text: str, size: int) -> np.ndarray:
    """Opacity of the text at each pixel, (H, W) uint8."""
    runs = [(run, ImageFont.truetype(path, size, index=index)) for run, (path, index) in _runs(drawable(text))]
    width = sum(font.getlength(run) for run, font in runs)
    mask = Image.new("L", (max(1, int(np.ceil(width)) + 1), int(np.ceil(LINE * size))))
    brush, x = ImageDraw.Draw(mask), 0.0
    for run, font in runs:
        brush.text((x, round(BASE * size)), run, fill=255, font=font, anchor="ls")
        x += font.getlength(run)
    return np.asarray(mask)


def drawable(text: str) -> str:
    """A text of characters that some font has; others become their numbers, so that different names stay different."""
    from apps.common.cli import printable  # not with this file: what draws a sample set must not depend on all flags

    text = printable(unicodedata.normalize("NFC", text))
    words = []
    for there, group in groupby(text, lambda c: _font_of(c) is not None):
        run = "".join(group)
        if there:
            words.append(run)
        else:
            more = f" {zlib.crc32(run.encode()) & 0xFFFF:04X}" if len(run) > 4 else ""
            words.append("<" + " ".join(f"{ord(c):04X}" for c in run[: 3 if more else 4]) + more + ">")
    return "".join(words)


def fonts_of(text: str) -> set[str]:
    """The font files for its characters, except matplotlib's default."""
    return {font[0] for font in map(_font_of, text) if font is not None} - {_fonts()[0][0]}


def _runs(text: str) -> Iterator[tuple[str, tuple[str, int]]]:
    for font, run in groupby(text, _font_of):
        yield "".join(run), font or _fonts()[0]


@functools.cache
def _font_of(letter: str) -> tuple[str, int] | None:
    """File and index in it of the first font that has a character."""
    return next((font for font in _known_fonts(letter) if _has(font, letter)), None)


def _known_fonts(letter: str) -> Iterator[tuple[str, int]]:
    yield _fonts()[0]
    if not letter.isascii():
        yield from _fonts()[1:]


def _has(font: tuple[str, int], letter: str) -> bool:
    if letter.isspace():
        return True
    face = _face(font)
    return face is not None and bytes(face.getmask(letter)) not in (bytes(face.getmask(NO_LETTER)), b"")


@functools.cache
def _face(font: tuple[str, int]) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(font[0], 20, index=font[1])
    except OSError:
        return None


@functools.cache
def _fonts() -> list[tuple[str, int]]:
    """matplotlib's DejaVu Sans, then the system's fonts, those likely to have many characters first."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "matplotlib is a dependency"
    found = []
    for folder in FONT_FOLDERS:
        for parent, _, files in os.walk(os.path.expanduser(folder)):
            found += [os.path.join(parent, f) for f in files if f.lower().endswith((".ttf", ".otf", ".ttc"))]

    def rank(path: str) -> tuple[int, bool, str]:
        name = os.path.basename(path).lower()
        likely = next((i for i, word in enumerate(LIKELY) if word in name), len(LIKELY))
        return likely, not any(word in name for word in ("regular", "normal")), path

    own = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return [(str(own), 0), *((path, 0) for path in sorted(found, key=rank)[:MOST_FONTS])]
