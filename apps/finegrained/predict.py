"""Classify photos, videos and camera frames.

    python apps/finegrained/predict.py photo.jpg                       # the published ImageNet classifier
    python apps/finegrained/predict.py bird.jpg --weights cub          # 200 birds
    python apps/finegrained/predict.py photo.jpg --checkpoint last     # the newest run of train.py
    python apps/finegrained/predict.py photos/ --checkpoint runs/finegrained/NAME --out guesses/ --cam
    python apps/finegrained/predict.py PATH --checkpoint last --save-as csv --only-unlabelled      labels to correct
    python apps/finegrained/predict.py clip.mp4 --checkpoint runs/finegrained/NAME
    python apps/finegrained/predict.py 0 --checkpoint runs/finegrained/NAME        # a camera, in a window
    python apps/finegrained/predict.py photos/ --on ray --out guesses/     # millions of photos: docs/cluster.md

In Python:

    predict = Predictor("runs/finegrained/NAME/best")  # or Predictor(): ImageNet's classes
    guesses = predict("photo.jpg")                     # or an array (H, W, 3) uint8 RGB
    for name, prob in guesses: ...
    if guesses.is_unknown: ...                         # it is like none of the classes
    guesses.save("guesses.jpg")                        # drawn; .draw() is the picture, .to_dict() has plain types

Letters in shapes: B batch, H W of a photo, K classes.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from apps.common.choices import Precision, Runtime
from apps.common.cli import run_command, say
from apps.common.options import GivenFlags, PredictOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PredictOptions, GivenFlags):
    """Classify photos, videos and camera frames; the guesses go to a CSV file.

    example: python apps/finegrained/predict.py photos/ --checkpoint runs/finegrained/NAME
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last: the newest finished run in runs/finegrained;
    default the published classifier of --weights"""
    weights: str = "imagenet"
    """without --checkpoint: imagenet (1000 classes), cub (200 birds, a100), a catalog name or a weight file"""
    backbone: str = "a100"
    """width of --weights"""
    top: int = 5
    """guesses per photo"""
    cam: bool = False
    """draw a heat map of the best guess on each photo or frame: red is evidence for it"""
    save_as: Literal["csv"] | None = None
    """csv: also write the best guesses for photos as labels.csv, to correct and to train on; default none"""
    out: Path | None = None
    """folder for guesses.csv, videos and the pictures of --cam; default a new one, runs/finegrained/predict-N; of a
    camera nothing is written"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.finegrained.predict:predict", Config)

import numpy as np

from apps.common.checkpoint import check_model_flags, with_last
from apps.common.deploy.runtime import start_session
from apps.common.deploy.sessions import device_for
from apps.common.images import as_image, stack_images
from apps.common.media.answers import answered
from apps.common.media.cluster.predictions import Answering, predicted_on_ray
from apps.common.media.frame_table import FrameTable
from apps.common.media.watch import Watch
from apps.finegrained.data.batches import to_square
from apps.finegrained.data.load import list_data
from apps.finegrained.model.cam import draw_activations
from apps.finegrained.model.classifier import APP, Classifier
from apps.finegrained.results import TABLE, Guesses, draw, guess_cells, guess_header, make_guesses, write_labels

BATCH_SIZE = 8  # photos in memory at once
LABELS_FILE = "labels.csv"


class Predictor:
    """Classifies photos of any size, with calibrated probabilities.

    Args:
        checkpoint: a run of train.py or its best/, or a file of export.py; None for a published classifier.
        weights, backbone: which one, see `Classifier.published`.
        device: auto, cpu, cuda, mps.
        top: how many guesses to give, 1 or more; all classes if there are fewer.
        runtime: auto, torch, torch-compile, onnx, openvino: what computes, see `apps.common.deploy.runtime`.
        threads: on which to compute on a CPU; None for as many as torch uses.
        precision: auto or float32, see `apps.common.deploy.sessions.load_session`.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        *,
        weights: str = "imagenet",
        backbone: str = "a100",
        device: str = "auto",
        top: int = 5,
        runtime: Runtime = "auto",
        threads: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        if top < 1:
            raise ValueError(f"top must be 1 or more, got {top}")
        torch_device = device_for(runtime, device, checkpoint)
        if checkpoint is None:
            self.classifier = Classifier.published(weights, backbone=backbone, device=torch_device)
        else:
            self.classifier = Classifier.load(Path(checkpoint), device=torch_device)
        self.classifier.session = start_session(self.classifier, runtime, threads=threads, precision=precision)
        self.top = top

    def __call__(self, image: np.ndarray | Path | str) -> Guesses:
        """Guesses for an image (H, W, 3) uint8 RGB, or for the photo at a path."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[np.ndarray | Path | str]) -> list[Guesses]:
        """Guesses for each of some images (H, W, 3) uint8 RGB or photos, of any sizes, computed at once."""
        arrays, model = [as_image(image) for image in images], self.classifier
        if not arrays:
            return []
        squares = [to_square(image, model.resolution, model.crop) for image in arrays]
        guesses = make_guesses(model, model.logits(stack_images(squares)), top=self.top)
        for one, image in zip(guesses, arrays, strict=True):
            one.image = image
        return guesses

    def explain(self, image: np.ndarray | Path | str, name: str | None = None) -> np.ndarray:
        """The part of an image (H, W, 3) that the network sees, with evidence for a class in red: see `cam.overlay`.

        Args:
            name: of the class; None for the best guess.

        Raises:
            ValueError: the checkpoint has no such class.
        """
        image, names = as_image(image), self.classifier.class_names
        name = self(image)[0].name if name is None else name
        if name not in names:
            raise ValueError(f"no class {name!r}; the checkpoint has {', '.join(names[:5])}, ... ({len(names)} in all)")
        return draw_activations(self.classifier, image, [names.index(name)])[0]


def make_predictor(config: Config) -> Predictor:
    """The predictor that the flags ask for."""
    return Predictor(
        config.checkpoint,
        weights=config.weights,
        backbone=config.backbone,
        device=config.device,
        top=config.top,
        runtime=config.runtime,
        threads=config.threads,
        precision=config.precision,
    )


def on_ray(config: Config) -> Answering:
    """What an actor of --on ray holds."""
    predictor = make_predictor(config)
    return Answering(predictor.batch, BATCH_SIZE, TABLE, predictor.classifier.session.name)


def predict(config: Config) -> None:
    """Print the best guesses for each photo, and write them; on frames of videos and cameras they are drawn.

    Raises:
        ValueError: after all others are done, if something could not be read; each is named as it comes, too.
        KeyboardInterrupt: it was stopped; the guesses until then are written.
    """
    config = with_last(config, APP)
    check_model_flags(config, "backbone", published="imagenet")
    if predicted_on_ray(config, app=APP, answer=on_ray):
        return
    watch = Watch(config.all_sources, out=config.out, app=APP, title="Guesses", page="demos/finegrained.py")
    if config.save_as:
        watch.save_as(LABELS_FILE)
    if config.only_unlabelled:
        watch.leave_out_labelled(config.all_sources, lambda folder: (entry.path for entry in list_data(folder).entries))
    predictor = make_predictor(config)
    table = FrameTable(guess_header(predictor.classifier, config.top))
    labelled: list[tuple[Path, Guesses]] = []

    def write(out: Path) -> str:
        table.write(out / "guesses.csv")
        if config.save_as:
            write_labels(out / LABELS_FILE, labelled)
        written = "guesses.csv and pictures are" if config.cam or table.has_moving else "guesses.csv is"
        return f"{written} in {out}; computed by {predictor.classifier.session.name}"

    ending = "cam" * config.cam
    running = watch.results(
        table, write=write, file="guesses.csv", every=config.every, ending=ending, photos=config.cam
    )
    with running as (frames, showing):
        size = 1 if watch.live else BATCH_SIZE
        for frame, guesses in answered(
            frames, predictor.batch, batch_size=size, tally=watch.tally, at_once=watch.at_once
        ):
            table.add(frame, [guess_cells(guesses)] if guesses else [], names=[g.name for g in (guesses or [])[:1]])
            if guesses is None:
                continue
            labelled.append((frame.path or Path(), guesses))
            if frame.number is None:
                say(f"{frame.name}: {guesses}")
            if not showing.put(frame, partial(_picture, predictor, guesses, frame.number, config.cam)):
                break


def _picture(predictor: Predictor, guesses: Guesses, number: int | None, cam: bool, image: np.ndarray) -> np.ndarray:
    """The picture written for an image: its heat map with `cam` and, on numbered frames, the best guesses."""
    picture = predictor.explain(image, guesses[0].name) if cam else image
    return picture if number is None else draw(picture, guesses)
