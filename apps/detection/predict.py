"""Detect objects in photos, videos and camera frames.

    python apps/detection/predict.py photo.jpg                       the published COCO detector, a075
    python apps/detection/predict.py photos/ more/ --checkpoint last --out found/       the newest run of train.py
    python apps/detection/predict.py "photos/**/*.jpg" --classes person "traffic light" --conf 0.5
    python apps/detection/predict.py clip.mp4                        a video with boxes
    python apps/detection/predict.py 0                               a camera, in a window
    find . -name "*.jpg" | python apps/detection/predict.py -
    python apps/detection/predict.py PATH --checkpoint last --save-as yolo --only-unlabelled     labels to correct
    python apps/detection/predict.py large.jpg --slice 300           small objects in large photos
    python apps/detection/predict.py photos/ --on ray --out found/   millions of photos: docs/cluster.md

It writes into a new folder, runs/detection/predict-N, or --out: the drawn pictures and videos, predictions.csv, and
predictions.json in COCO's results format, see `results.Results`.

In Python:

    detect = Predictor("runs/detection/NAME/best")       # or Predictor(): the published one
    found = detect("photo.jpg")                          # or an array (H, W, 3) uint8 RGB
    for box_xyxy_px, score, name in found: ...
    found.save("found.jpg")                              # drawn; .draw() is the picture, .to_dict() has plain types

Letters in shapes: H W of a photo.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from apps.common.choices import Precision, Runtime
from apps.common.cli import is_set, run_command, say
from apps.common.options import GivenFlags, PredictOptions
from apps.detection.choices import SaveAs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PredictOptions, GivenFlags):
    """Detect objects in photos, videos and camera frames; write pictures with boxes, JSON and CSV files.

    example: python apps/detection/predict.py photos/ --checkpoint runs/detection/NAME
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last: the newest finished run in runs/detection;
    default the published detector of --weights"""
    weights: str = "coco"
    """without --checkpoint: coco (a published detector), a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights"""
    conf: float | None = None
    """lowest score that is reported; default the model's own, of best F1 on its val split, and 0.3 where it has none"""
    classes: tuple[str, ...] = ()
    """names of the classes to report; default all"""
    all_names: bool = False
    """report a box for every class with a sufficient score; default only for the best one"""
    max_dets: int = 100
    """largest number of objects per image; the best are kept"""
    slice: int | None = None
    """side in pixels of additional tiles, for small objects in large photos (300 is a good start); default no tiles"""
    slice_overlap: float = 0.2
    """overlap of neighbouring tiles, as a share of their side; objects up to that size are complete in one of them"""
    batch_size: int = 8
    """photos, frames and tiles per batch; a camera's frames come one by one"""
    save: tuple[Literal["pictures", "crops"], ...] = ("pictures",)
    """pictures (drawn pictures and videos), crops (of all objects), both, or, with --save alone, only JSON and CSV"""
    save_as: SaveAs | None = None
    """also write the predictions as a data set to correct in CVAT, Label Studio or LabelImg and to train on, in
    dataset/ of --out: coco, yolo or voc; default none"""
    out: Path | None = None
    """folder for all results; default a new one, runs/detection/predict-N, or for a camera none"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.detection.predict:predict", Config)

import numpy as np

from apps.common.checkpoint import check_model_flags, with_last
from apps.common.deploy.runtime import start_session
from apps.common.deploy.sessions import device_for
from apps.common.images import as_image, stack_images
from apps.common.media.answers import answered
from apps.common.media.cluster.predictions import Answering, predicted_on_ray
from apps.common.media.watch import Watch
from apps.detection.boxes.postprocess import Detections
from apps.detection.boxes.slicing import check_slices, make_tiles, merge
from apps.detection.data.batches import to_square
from apps.detection.data.coco_classes import find_labels
from apps.detection.data.prelabels import DATA_SET, Labelled, choose_photos, write_data_set
from apps.detection.model.detector import Detector
from apps.detection.model.pretrained import APP
from apps.detection.results import TABLE, Detected, Found, Results, draw, one_name_each, save_crops

SAID = 12  # objects in a photo's line
EVERY_CANDIDATE = 100_000  # more candidates, as those of other classes are dropped afterwards


class Predictor:
    """Finds objects in photos of any size; several threads may call one at once.

    Args:
        checkpoint: a run of train.py or its best/, or a file of export.py; None for a published detector.
        weights, backbone: which published detector; see `pretrained.load_pretrained`.
        device: auto, cpu, cuda, mps.
        conf: lower scores are not reported; None for `threshold`.
        runtime: auto, torch, torch-compile, onnx or openvino, see `apps.common.deploy.runtime`.
        threads: compute threads on a CPU; None for as many as torch uses.
        precision: auto or float32, see `apps.common.deploy.sessions.load_session`.
        classes: names of the classes to report; none for all.
        all_names: whether overlapping boxes may have several names; else only the best is kept, see `one_name_each`.
        max_detections: largest number per photo; the best are kept.
        slice_side: side in pixels of additional tiles; None for the whole photo only.
        slice_overlap: of neighbouring tiles, as a share of their side.
        batch_size: photos and tiles per batch.

    Attributes:
        threshold: the model's own, or 0.3.

    Raises:
        ValueError: the detector cannot be loaded, has no such class, or a number is out of its range.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        *,
        weights: str = "coco",
        backbone: str = "a075",
        device: str = "auto",
        conf: float | None = None,
        runtime: Runtime = "auto",
        threads: int | None = None,
        precision: Precision = "float32",
        classes: Sequence[str] = (),
        all_names: bool = False,
        max_detections: int = 100,
        slice_side: int | None = None,
        slice_overlap: float = 0.2,
        batch_size: int = 8,
    ) -> None:
        if conf is not None and not 0 <= conf <= 1:
            raise ValueError(f"conf must be from 0 to 1, got {conf}")
        for name, value in (("max_detections", max_detections), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        check_slices(slice_side, slice_overlap)
        torch_device = device_for(runtime, device, checkpoint)
        if checkpoint is None:
            detector = Detector.published(weights, backbone=backbone, device=torch_device)
        else:
            detector = Detector.load(Path(checkpoint), device=torch_device)
        self.labels = find_labels(classes, detector.class_names)
        self.threshold = detector.usual_threshold
        self.all_names = all_names
        self.max_detections, self.batch_size = max_detections, batch_size
        self.slice_side, self.slice_overlap = slice_side, slice_overlap
        self.detector = detector.with_thresholds(
            score_threshold=self.threshold if conf is None else conf,
            max_detections=max_detections if all_names and not self.labels else EVERY_CANDIDATE,
            max_candidates=EVERY_CANDIDATE if self.labels else max(detector.postprocess.max_candidates, max_detections),
        )
        self.detector.session = start_session(self.detector, runtime, threads=threads, precision=precision)

    @property
    def class_names(self) -> list[str]:
        """Those that are reported."""
        return [n for k, n in enumerate(self.detector.class_names, start=1) if not self.labels or k in self.labels]

    def __call__(self, image: np.ndarray | Path | str) -> Detected:
        """Objects in an image (H, W, 3) uint8 RGB, or in the photo at a path, best first."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[np.ndarray | Path | str]) -> list[Detected]:
        """Objects in each of several images (H, W, 3) uint8 RGB or photos, of any sizes, in batches; best first."""
        arrays = [as_image(image) for image in images]
        tiles = [self._tiles(image) for image in arrays]
        detections = self._detect(
            part
            for image, some in zip(arrays, tiles, strict=True)
            for part in (image, *(image[y0:y1, x0:x1] for x0, y0, x1, y1 in some))
        )
        found = []
        for image, some in zip(arrays, tiles, strict=True):
            height, width = image.shape[:2]
            whole = next(detections)
            if some:
                in_tiles = [next(detections) for _ in some]
                most = self.detector.postprocess.max_detections
                whole = merge(whole, some, in_tiles, height=height, width=width, max_detections=most)
            found.append(Detected(self._name(whole, height=height, width=width), image))
        return found

    def _tiles(self, image: np.ndarray) -> list[tuple[int, int, int, int]]:
        if self.slice_side is None:
            return []
        return make_tiles(*image.shape[:2], side=self.slice_side, overlap=self.slice_overlap)

    def _detect(self, parts: Iterator[np.ndarray]) -> Iterator[Detections]:
        """Detections, boxes in image sides, in each image; `batch_size` images at once."""
        while squares := [to_square(part, self.detector.resolution) for part in islice(parts, self.batch_size)]:
            yield from self.detector(stack_images(squares))

    def _name(self, detections: Detections, *, height: int, width: int) -> list[Found]:
        names = self.detector.class_names
        boxes = detections.boxes_xyxy.cpu().double().numpy() * (width, height, width, height)
        every = zip(boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
        found = [
            Found((x0, y0, x1, y1), score, names[label - 1])
            for (x0, y0, x1, y1), score, label in every
            if not self.labels or label in self.labels
        ]
        found = found if self.all_names else one_name_each(found, iou=self.detector.postprocess.nms_iou)
        return found[: self.max_detections]


def make_predictor(config: Config) -> Predictor:
    """The predictor that the flags describe.

    Raises:
        ValueError: flags contradict each other, or see `Predictor`.
    """
    check_model_flags(config, "backbone", published="coco")
    return Predictor(
        config.checkpoint,
        weights=config.weights,
        backbone=config.backbone,
        device=config.device,
        conf=config.conf,
        runtime=config.runtime,
        threads=config.threads,
        precision=config.precision,
        classes=config.classes,
        all_names=config.all_names,
        max_detections=config.max_dets,
        slice_side=config.slice,
        slice_overlap=config.slice_overlap,
        batch_size=config.batch_size,
    )


def on_ray(config: Config) -> Answering:
    """What an actor of --on ray holds."""
    predictor = make_predictor(config)
    return Answering(predictor.batch, config.batch_size, TABLE, predictor.detector.session.name)


def predict(config: Config) -> None:
    """Detect objects in each photo, print and draw them, and write the results.

    Raises:
        ValueError: raised at the end if something could not be read; each problem is also printed at once.
        KeyboardInterrupt: it was stopped; the results so far are written.
    """
    if config.slice is None and is_set(config, "slice_overlap"):
        raise ValueError("--slice-overlap is for --slice: without it, it would change nothing")
    config = with_last(config, APP)
    if predicted_on_ray(config, app=APP, answer=on_ray):
        return
    watch = Watch(config.all_sources, out=config.out, app=APP, title="Objects", page="demos/detection.py")
    if watch.live and config.out is None and config.save != Config.save:
        raise ValueError("--save of a camera needs a folder: give --out, too")
    choose_photos(config, watch)
    predictor = make_predictor(config)
    results = Results(predictor.detector.class_names, predictor.detector.category_ids)
    photos: list[Labelled] = []

    def write(out: Path) -> str:
        results.write(out)
        if config.save_as:
            classes = {name: results.ids[name] for name in predictor.class_names}
            write_data_set(out / DATA_SET, config.save_as, photos, classes)
        return f"results are in {out}; computed by {predictor.detector.session.name}"

    drawn = "pictures" in config.save
    running = watch.results(results.table, write=write, file="predictions.csv", every=config.every, drawn=drawn)
    with running as (frames, showing):
        crops = watch.out / "crops" if watch.out and "crops" in config.save else None
        size = 1 if watch.live else config.batch_size
        answers = answered(frames, predictor.batch, batch_size=size, tally=watch.tally, at_once=watch.at_once)
        for frame, found in answers:
            results.add(frame, found or [])
            if found is None:
                continue
            if frame.number is None:
                say(f"{frame.name}: {_sentence(found)}")
            photos.append(Labelled.of_frame(frame, [(one.name, one.box_xyxy_px) for one in found]))
            if crops is not None:
                save_crops(crops, frame, found)
            if not showing.put(frame, partial(draw, found=found)):
                break


def _sentence(found: Sequence[Found]) -> str:
    """The best objects with their scores, and how many more there are."""
    more = f", and {len(found) - SAID} more" if len(found) > SAID else ""
    return ", ".join(f"{one.name} {one.score:.2f}" for one in found[:SAID]) + more if found else "nothing"
