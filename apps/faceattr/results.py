"""The predicted attributes of faces, drawn beside them and as rows of a table.

Letters in shapes: H W of a photo.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from apps.common.data.tables import write_csv
from apps.common.images import resize
from apps.common.media.cluster.table import Columns
from apps.common.pictures import HERSHEY, RESULT_QUALITY, letter_scale, put_text, text_size, write_picture
from apps.faceattr.model.face_finder import Box

MIN_SIDE = 800  # of a drawn picture's longer side, pixels, so that letters can be read
MAX_LINES = 8  # of attributes beside a face
COLOURS = ((230, 120, 40), (40, 130, 230), (60, 160, 70), (190, 70, 170), (200, 170, 30))  # RGB


class FaceAttributes(NamedTuple):
    """How one face appears.

    Attributes:
        box_xyxy_px: (x0, y0, x1, y1) in pixels of the photo; may reach beyond it.
        probs: the probability of each attribute shown, 0 to 1, calibrated.
        present: those at or above their threshold, the most probable first.
    """

    box_xyxy_px: Box
    probs: dict[str, float]
    present: list[str]

    def __str__(self) -> str:
        names = ", ".join(f"{name} {self.probs[name]:.2f}" for name in self.present)
        return f"appears {names or f'to have none of {len(self.probs)} attributes'}"


class Faces(list[FaceAttributes]):
    """The faces in a photo, the largest first.

    Attributes:
        image: the photo, (H, W, 3) uint8 RGB.
    """

    def __init__(self, faces: Iterable[FaceAttributes], image: np.ndarray) -> None:
        super().__init__(faces)
        self.image = image

    def draw(self) -> np.ndarray:
        """The photo with a box around each face and how it appears, enlarged if it is small."""
        return draw(self.image, self)

    def save(self, path: Path | str) -> None:
        """Write the drawn photo; see `write_picture`."""
        write_picture(Path(path), self.draw(), quality=RESULT_QUALITY)

    def to_dict(self) -> dict[str, Any]:
        """Of plain types, as JSON has them."""
        faces = [{**face._asdict(), "box_xyxy_px": list(face.box_xyxy_px)} for face in self]
        return {"width": self.image.shape[1], "height": self.image.shape[0], "faces": faces}


def draw(image: np.ndarray, faces: Sequence[FaceAttributes]) -> np.ndarray:
    """A copy of an image (H, W, 3) RGB with a box around each face and beside it how it appears.

    Small images are enlarged to 800 pixels.
    """
    zoom = max(1.0, MIN_SIDE / max(image.shape[:2]))
    picture = resize(image, *(max(1, round(zoom * side)) for side in image.shape[1::-1]))
    picture = picture.copy() if picture is image else picture
    scale = max(0.35, letter_scale(picture))
    boxes = [tuple(round(zoom * v) for v in face.box_xyxy_px) for face in faces]
    taken = list(boxes)
    for i, (face, box) in enumerate(zip(faces, boxes, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        cv2.rectangle(picture, box[:2], box[2:], colour, max(2, round(4 * scale)), cv2.LINE_AA)
        taken.append(_write_beside(picture, box, _lines(face), colour, taken, scale))
    return picture


def _lines(face: FaceAttributes) -> list[str]:
    lines = [f"{name.replace('_', ' ')} {face.probs[name]:.2f}" for name in face.present]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"and {len(lines) - MAX_LINES + 1} more"]
    return ["appears", *(lines or ["none of these"])]


def _write_beside(
    picture: np.ndarray, box: tuple[int, ...], lines: list[str], colour: Sequence[int], taken: list, scale: float
) -> tuple[int, int, int, int]:
    """Write lines where they hide least: right, left, below or above of a box; returns where: xyxy in pixels."""
    gap, size = max(2, round(6 * scale)), scale * HERSHEY
    text_sizes = [text_size(line, size) for line in lines]
    step = max(h for _, h in text_sizes)
    w, h = max(w for w, _ in text_sizes) + 2 * gap, step * len(lines) + 2 * gap
    x0, y0, x1, y1 = box
    candidates = []
    for left, top in ((x1 + gap, y0), (x0 - gap - w, y0), (x0, y1 + gap), (x0, y0 - gap - h)):
        left, top = max(0, min(left, picture.shape[1] - w)), max(0, min(top, picture.shape[0] - h))
        candidates.append((left, top, left + w, top + h))
    label_xyxy = min(candidates, key=lambda label_xyxy: sum(_overlap(label_xyxy, other) for other in taken))
    under = picture[label_xyxy[1] : label_xyxy[3], label_xyxy[0] : label_xyxy[2]]
    under[:] = under // 5 + 204  # white paper that lets a little through
    cv2.rectangle(picture, label_xyxy[:2], (label_xyxy[2] - 1, label_xyxy[3] - 1), colour, 1)
    for i, line in enumerate(lines):
        put_text(picture, line, label_xyxy[0] + gap, label_xyxy[1] + gap + i * step, size, (20, 20, 20))
    return label_xyxy


def _overlap(one: Sequence[int], other: Sequence[int]) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def write_attributes(path: Path, seen: Sequence[tuple[Path, FaceAttributes]], names: Sequence[str]) -> None:
    """Write how photos of one face each appear as train.py reads it: column file (as seen from the table), 1 or 0."""
    rows = (
        [Path(os.path.relpath(photo, path.parent)).as_posix(), *(int(name in face.present) for name in names)]
        for photo, face in seen
    )
    write_csv(path, ["file", *names], rows, harmless=False)


def _fields() -> list[tuple[str, Any]]:
    """Names and Arrow's types of faces, the largest first, boxes in pixels of the photo."""
    import pyarrow as pa

    box = [(side, pa.float64()) for side in ("x0", "y0", "x1", "y1")]
    attribute = pa.struct([("name", pa.string()), ("prob", pa.float64()), ("present", pa.bool_())])
    return [("faces", pa.list_(pa.struct([*box, ("attributes", pa.list_(attribute))])))]


def _row(faces: Sequence[FaceAttributes]) -> dict[str, Any]:
    """A photo's row in a Parquet table."""
    return {
        "faces": [
            {
                **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
                "attributes": [{"name": n, "prob": p, "present": n in present} for n, p in probs.items()],
            }
            for box, probs, present in faces
        ]
    }


TABLE = Columns(_fields, _row)
HEADER = ("face", "x0", "y0", "x1", "y1", "appears")


def face_rows(faces: Sequence[FaceAttributes], names: Sequence[str]) -> list[list[object]]:
    """Cells for each face: `HEADER`, then the probabilities of the attributes `names`.

    Faces are numbered from 1; where there are none, one row has the face 0.
    """
    if not faces:
        return [[0, *[""] * (5 + len(names))]]
    return [
        [
            i,
            *(f"{v:.1f}" for v in face.box_xyxy_px),
            "; ".join(face.present),
            *(f"{face.probs[name]:.6f}" for name in names),
        ]
        for i, face in enumerate(faces, start=1)
    ]
