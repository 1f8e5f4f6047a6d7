"""Write a classifier as one file for other runtimes, and check it.

    python apps/finegrained/export.py --checkpoint runs/finegrained/NAME/best --data PATH
    python apps/finegrained/export.py --checkpoint runs/finegrained/NAME/best --data PATH --int8
    python apps/finegrained/export.py --checkpoint runs/finegrained/NAME/best --data PATH --format openvino

The file takes photos (B, H, W, 3) uint8 RGB, cut to the central square and resized as `preprocessing` in its metadata
says, and gives logits (B, K). It is kept only if its logits are torch's on photos of the val split and top-1 accuracy
there is no worse than --max-drop allows (without --data, a model of other classes is compared by its logits alone).
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from apps.common.cli import run_command
from apps.common.options import ExportOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ExportOptions):
    """Write a classifier as one file for other runtimes, and check it.

    example: python apps/finegrained/export.py --checkpoint runs/finegrained/NAME --data PATH
    """

    checkpoint: Path
    """run of train.py, its best/ folder, or last: the newest finished run in runs/finegrained"""
    dynamic_size: bool = False
    """let the file take any height and width from 32 pixels; slower in some runtimes"""
    data: str = "sample"
    """photos to check with (val) and to calibrate --int8 on (train), as for train.py"""
    max_drop: float | None = None
    """largest drop of top-1 accuracy, 0 to 1, that is accepted; default 0.001, with --int8 0.01"""
    out: Path | None = None
    """the file, or folder (openvino, ncnn, web); default in export/ beside the checkpoint"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.finegrained.export:export", Config)

import torch
from torch import Tensor

from apps.common.checkpoint import model_folder, with_last
from apps.common.data.groups import grouping
from apps.common.data.photos import evenly_spaced
from apps.common.deploy.export import PARITY_PHOTOS, Checks, Metric, checkpoint_facts, choose_target, write_checked
from apps.common.deploy.sessions import Session
from apps.common.deploy.web import WebPage
from apps.common.images import RESIZING, read_image, stack_images
from apps.finegrained.data.batches import to_square
from apps.finegrained.data.load import Photo, load_split
from apps.finegrained.evaluation.metrics import top_k_accuracy
from apps.finegrained.model.classifier import APP, Classifier
from apps.finegrained.model.inference import predict_photos
from apps.finegrained.sample import SPECIES, make_sample


def export(config: Config) -> Path:
    """Write and check the file; return its path.

    Raises:
        ValueError: the data does not fit, a package is missing, or a check failed: then nothing is written.
    """
    config = with_last(config, APP)
    model = Classifier.load(config.checkpoint, device=torch.device("cpu"))
    folder = model_folder(config.checkpoint)
    name = f"{APP}-{model.backbone}-{model.resolution}"
    out = choose_target(config, folder, name, dynamic_size=config.dynamic_size)
    write_checked(
        out,
        model.graph(input=config.input),
        format=config.format,
        resolution=model.resolution,
        metadata=describe(model) | checkpoint_facts(folder),
        checks=partial(read_checks, model, config),
        calibration=partial(read_calibration, model, config) if config.int8 else None,
        max_drop=config.max_drop,
        io=config.io,
        dynamic_size=config.dynamic_size,
        page=WebPage(config.ort),
    )
    return out


def describe(model: Classifier) -> dict[str, object]:
    """What the file's metadata says about the model."""
    return {
        "app": APP,
        "backbone": model.backbone,
        "class_names": model.class_names,
        "preprocessing": f"RGB; the central square, {model.crop} of the short side, resized",
        "resizing": RESIZING,
        "crop": model.crop,
        "temperature": model.temperature,
        "unknown_threshold": model.unknown_threshold,
    }


def read_checks(model: Classifier, config: Config) -> Checks:
    """What the file is checked with: photos of val. Top-1 is not measured on a sample set of other classes."""
    val = _load_some("val", model, config)
    squares = read_squares(model, val[:PARITY_PHOTOS])
    if not _is_foreign(model, config):
        return Checks(squares, Metric("top-1", partial(accuracy, model, val), model.session, len(val)))
    print("the sample set has other classes than this model: top-1 is not measured (--data PATH does)")
    return Checks(squares)


def read_calibration(model: Classifier, config: Config) -> Tensor:
    """Photos of train as the network sees them, (B, 3, H, W) uint8.

    Raises:
        ValueError: they are a sample set of other classes; 8 bits need representative photos.
    """
    if _is_foreign(model, config):
        raise ValueError("--data sample has other classes than this model: give photos like those it is for")
    return read_squares(model, _load_some("train", model, config))


def read_squares(model: Classifier, photos: Sequence[Photo]) -> Tensor:
    """Photos as the network sees them, (B, 3, H, W) uint8."""
    return stack_images([to_square(read_image(photo.path), model.resolution, model.crop) for photo in photos])


def accuracy(model: Classifier, photos: Sequence[Photo], session: Session) -> float:
    """Top-1 accuracy with the outputs of a session."""
    measured = dataclasses.replace(model, session=session)
    logits = predict_photos(measured, photos, name="photos", batch_size=16, num_workers=0, progress=False)
    return top_k_accuracy(logits, torch.tensor([photo.label for photo in photos]), k=1)


def _load_some(name: str, model: Classifier, config: Config) -> list[Photo]:
    """At most `--num-photos` photos of a split, evenly spaced; if it `_is_foreign`, without the model's labels."""
    data = str(make_sample()) if config.data == "sample" else config.data
    names = None if _is_foreign(model, config) else model.class_names
    photos = load_split(
        data, name, class_names=names, bad_data=config.bad_data, open_photos=True, group_by=grouping(config)
    ).photos
    return [photos[i] for i in evenly_spaced(len(photos), config.num_photos)]


def _is_foreign(model: Classifier, config: Config) -> bool:
    """Whether the photos are the sample set's, and the model does not know all of its classes."""
    return config.data == "sample" and not set(SPECIES) <= set(model.class_names)
