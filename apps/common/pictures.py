"""Pictures that people look at: text on them, contact sheets, JPEG bytes, files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

JPEG_QUALITY, RESULT_QUALITY = 88, 90  # 90: what predict writes
PAPER, LABEL_PAPER, INK = (255, 255, 255), (255, 255, 80), (0, 30, 60)  # RGB


def write_picture(path: Path, picture: np.ndarray, *, quality: int = JPEG_QUALITY) -> None:
    """Write a picture (H, W, 3) uint8 RGB, whole or not at all, in the format that the suffix of its file names.

    Args:
        quality: of a JPEG, 0 to 100.

    Raises:
        ValueError: no format has this suffix.
        OSError: the file cannot be written.
    """
    from backbone.files import written_whole  # here: its package loads torch

    if not cv2.haveImageWriter(path.name):
        raise ValueError(f"cannot write {path}: no picture format has the suffix {path.suffix!r}; use .png or .jpg")
    data = encode_picture(picture, path.suffix, quality=quality)
    with written_whole(path, flush=False) as temporary:  # pictures are many, and can be drawn again
        temporary.write_bytes(data)


def encode_picture(picture: np.ndarray, suffix: str = ".jpg", *, quality: int = JPEG_QUALITY) -> bytes:
    """The bytes of a file of a picture (H, W, 3) uint8 RGB, in the format that `suffix` names; see `write_picture`."""
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8, "(H, W, 3) uint8"
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix.lower() in (".jpg", ".jpeg") else []
    done, data = cv2.imencode(suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done
    return data.tobytes()


def write_contact_sheet(path: Path, pictures: Iterable[np.ndarray], *, width: int = 1600, num_rows: int = 5) -> None:
    """Write one image file with the first pictures (H, W, 3) RGB, all of one height, row by row in white frames."""
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
    """Write a word on a yellow label into an RGB picture, its lower left corner there, or lower if it does not fit."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    wide, tall = cv2.getTextSize(text, font, 0.4, 1)[0]
    top = max(bottom - tall - 5, 0)
    cv2.rectangle(picture, (left, top), (left + wide + 3, top + tall + 4), LABEL_PAPER, -1)
    cv2.putText(picture, text, (left + 2, top + tall + 2), font, 0.4, INK, 1, cv2.LINE_AA)


def write_lines(picture: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """A copy of a picture (H, W, 3) with lines on white in its upper left corner."""
    picture = picture.copy()
    if not lines:
        return picture
    scale = max(0.45, max(picture.shape) / 1100)
    font, thickness, step = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.6 * scale)), round(36 * scale)
    width = max(cv2.getTextSize(line, font, scale, thickness)[0][0] for line in lines)
    under = picture[: step * len(lines) + step // 2, : width + step]
    under[:] = under // 5 + 204  # white paper that lets a little through
    for i, line in enumerate(lines, start=1):
        cv2.putText(picture, line, (step // 2, i * step), font, scale, (20, 20, 20), thickness, cv2.LINE_AA)
    return picture
