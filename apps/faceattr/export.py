"""Write a face attribute network as one file for other runtimes, and check it.

    python apps/faceattr/export.py --checkpoint runs/faceattr/NAME/best --data PATH
    python apps/faceattr/export.py --checkpoint runs/faceattr/NAME/best --data PATH --int8
    python apps/faceattr/export.py --checkpoint runs/faceattr/NAME/best --data PATH --format openvino

The file takes face crops (B, H, W, 3) uint8 RGB and gives logits (B, A); probabilities are
`sigmoid(logits / temperatures)`, with temperatures and thresholds in its metadata. It is kept only if its logits are
torch's on faces of the val split and the mean AP there is no worse than --max-drop allows (without --data, a model of
other attributes is compared by its logits alone).
"""

import dataclasses
from functools import partial
from pathlib import Path

from apps.common.cli import run_command
from apps.common.options import ExportOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ExportOptions):
    """Write a face attribute network as one file for other runtimes, and check it.

    example: python apps/faceattr/export.py --checkpoint runs/faceattr/NAME --data PATH
    """

    checkpoint: Path
    """run of train.py, its best/ folder, or last: the newest finished run in runs/faceattr"""
    dynamic_size: bool = False
    """let the file take any height and width from 32 pixels; slower in some runtimes"""
    data: tuple[str, ...] = ("sample",)
    """faces to check with (val) and to calibrate --int8 on (train), as for train.py"""
    max_drop: float | None = None
    """largest drop of mean AP, 0 to 1, that is accepted; default 0.001, with --int8 0.01"""
    out: Path | None = None
    """the file, or folder (openvino, ncnn, web); default in export/ beside the checkpoint"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.export:export", Config)

import torch
from torch import Tensor

from apps.common.checkpoint import model_folder, with_last
from apps.common.data.groups import grouping
from apps.common.data.photos import evenly_spaced
from apps.common.deploy.export import PARITY_PHOTOS, Checks, Metric, checkpoint_facts, choose_target, write_checked
from apps.common.deploy.sessions import Session
from apps.common.deploy.web import WebPage
from apps.common.images import RESIZING, read_image, stack_images
from apps.faceattr.data.batches import to_square
from apps.faceattr.data.listing import attribute_key
from apps.faceattr.data.load import AttributeSplit, load_split
from apps.faceattr.data.sensitive import shown
from apps.faceattr.evaluation.metrics import attribute_metrics
from apps.faceattr.model.face_finder import model_of_any_size
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import APP, Tagger
from apps.faceattr.sample import ATTRIBUTES, make_sample


def export(config: Config) -> Path:
    """Write and check the file; return its path.

    Raises:
        ValueError: the data does not fit, a package is missing, or a check failed: then nothing is written.
    """
    config = with_last(config, APP)
    model = Tagger.load(config.checkpoint, device=torch.device("cpu"))
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
        page=make_page(model, config),
    )
    return out


def describe(model: Tagger) -> dict[str, object]:
    """What the file's metadata says about the model."""
    return {
        "app": APP,
        "backbone": model.backbone,
        "class_names": model.attributes,
        "preprocessing": "RGB; the central square of a face crop, resized",
        "resizing": RESIZING,
        "face_margin": model.margin,
        "face_drop": model.drop,
        "thresholds": model.thresholds,
        "temperatures": model.temperatures,
    }


def make_page(model: Tagger, config: Config) -> WebPage:
    """What the browser needs to find faces, and the attributes that it shows: without the sensitive ones."""
    if config.format != "web":
        return WebPage()
    return WebPage(config.ort, {"shown": shown(model.attributes, False)}, {"faces.onnx": model_of_any_size()})


def read_checks(model: Tagger, config: Config) -> Checks:
    """What the file is checked with: faces of val."""
    val = _load_some("val", model, config)
    return Checks(read_squares(model, val.paths[:PARITY_PHOTOS]), make_metric(model, val, config))


def read_calibration(model: Tagger, config: Config) -> Tensor:
    """Faces of train as the network sees them, (B, 3, H, W) uint8.

    Raises:
        ValueError: they are a sample set with none of the model's attributes; 8 bits need representative faces.
    """
    if _is_foreign(model, config):
        raise ValueError("--data sample has none of this model's attributes: give faces like those it is for")
    return read_squares(model, _load_some("train", model, config).paths)


def read_squares(model: Tagger, paths: list[Path]) -> Tensor:
    """Face crops as the network sees them, (B, 3, H, W) uint8."""
    return stack_images([to_square(read_image(path), model.resolution) for path in paths])


def make_metric(model: Tagger, split: AttributeSplit, config: Config) -> Metric | None:
    """Mean AP; None, and a line that says so, where none can be measured.

    So it is where no attribute is known to be both present and absent, and on a sample set with none of the model's.
    """
    if _is_foreign(model, config):
        print("the sample set has none of this model's attributes: mean AP is not measured (--data PATH does)")
        return None
    columns = [split.labels[:, a] for a in range(split.labels.shape[1])]
    if not any((column == 1).any() and (column == 0).any() for column in columns):
        print(f"{split.name}: no attribute is known to be both present and absent: mean AP is not measured")
        return None
    return Metric("mean AP", partial(mean_ap, model, split), model.session, len(split.paths))


def mean_ap(model: Tagger, split: AttributeSplit, session: Session) -> float:
    """Mean AP with the outputs of a session."""
    measured = dataclasses.replace(model, session=session)
    logits = predict_photos(measured, split.paths, name=split.name, batch_size=16, num_workers=0, progress=False)
    probs, labels = logits.sigmoid(), torch.from_numpy(split.labels)
    value = attribute_metrics(logits, labels, split.attributes, probs=probs, present=probs >= 0.5).values["mean_ap"]
    assert value is not None  # `make_metric` looked
    return value


def _load_some(name: str, model: Tagger, config: Config) -> AttributeSplit:
    """At most `--num-photos` faces of a split, evenly spaced; if it `_is_foreign`, with labels of its own."""
    data = [str(make_sample()) if source == "sample" else source for source in config.data]
    names = None if _is_foreign(model, config) else model.attributes
    split = load_split(
        data, name, attributes=names, bad_data=config.bad_data, open_photos=True, group_by=grouping(config)
    )
    return split.take(evenly_spaced(len(split.paths), config.num_photos))


def _is_foreign(model: Tagger, config: Config) -> bool:
    """Whether the photos are the sample set's alone, and the model knows none of its attributes."""
    known = set(map(attribute_key, model.attributes))
    return set(config.data) == {"sample"} and known.isdisjoint(map(attribute_key, ATTRIBUTES))
