"""Write a detector as one file for other runtimes, and check it.

    python apps/detection/export.py --checkpoint runs/detection/NAME/best --data PATH
    python apps/detection/export.py --checkpoint runs/detection/NAME/best --data PATH --outputs detections
    python apps/detection/export.py --weights coco --backbone a075 --data PATH --int8
    python apps/detection/export.py --checkpoint runs/detection/NAME/best --data PATH --format openvino

The input is photos (B, H, W, 3) uint8 RGB, resized to a square, ignoring the aspect ratio. With `--outputs raw` the
outputs are `class_logits` (B, A, K + 1) and `offsets` (B, A, 4), with the anchors and the decoding in the metadata;
with `--outputs detections`, `boxes_xyxy` (B, D, 4) in image sides, `scores` (B, D) and `labels` (B, D), 1 to K, the
best first, padded with zeros. The file is only kept if its outputs agree with torch's on photos of the val split, and
its AP there is within --max-drop.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from apps.common.choices import Input
from apps.common.cli import is_set, run_command
from apps.common.options import ExportOptions, GivenFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ExportOptions, GivenFlags):
    """Write a detector as one file for other runtimes, and check it.

    example: python apps/detection/export.py --checkpoint runs/detection/NAME --data PATH
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, or last: the newest finished run in runs/detection; default --weights"""
    weights: str | None = None
    """instead of --checkpoint: coco (a published detector), a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights"""
    outputs: Literal["raw", "detections"] | None = None
    """outputs of the file: raw (of the network, to be decoded outside) or detections (decoding and NMS are in the
    file); default raw, for web detections"""
    score_threshold: float = 0.01
    """lowest reported score with --outputs detections"""
    data: str = "sample"
    """photos to check with (val) and to calibrate --int8 on (train), as for train.py"""
    max_drop: float | None = None
    """largest accepted drop of AP, 0 to 1; default 0.001, with --int8 0.01"""
    out: Path | None = None
    """the file, or folder (openvino, ncnn, web); default in export/ beside the checkpoint, else in
    runs/detection/export"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.detection.export:export", Config)

import torch
from torch import Tensor

from apps.common.checkpoint import check_model_flags, model_folder, with_last
from apps.common.data.groups import grouping
from apps.common.data.photos import evenly_spaced
from apps.common.deploy.agreement import difference
from apps.common.deploy.export import PARITY_PHOTOS, Checks, Metric, checkpoint_facts, choose_target, write_checked
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import Session
from apps.common.deploy.web import WebPage
from apps.common.images import RESIZING, stack_images
from apps.detection.boxes.boxes import CENTRE_SCALE, MAX_LOG_RATIO, SIZE_SCALE, box_iou
from apps.detection.data.batches import make_eval_set
from apps.detection.data.coco_classes import match_names
from apps.detection.data.coco_split import CocoSplit
from apps.detection.data.load import load_split
from apps.detection.evaluation.metrics import coco_metrics
from apps.detection.model.detector import Detector
from apps.detection.model.end_to_end import OUTPUTS, EndToEnd, translations
from apps.detection.model.inference import predict_split
from apps.detection.model.pretrained import APP
from apps.detection.sample import make_sample

SAME_IOU = 0.99  # IoU from which two boxes count as equal
MAY_DIFFER = 0.02  # share of the detections: boxes of equal scores may suppress each other in either order


def export(config: Config) -> Path:
    """Write and check the file; return its path.

    Raises:
        ValueError: the data does not fit, a package is missing, or a check failed: then nothing is written.
    """
    is_page = config.format == "web"
    config = dataclasses.replace(config, outputs=config.outputs or ("detections" if is_page else "raw"))
    finished = config.outputs == "detections"
    if is_page and not finished:
        raise ValueError("--format web needs --outputs detections: its page does not decode raw outputs")
    if not finished and is_set(config, "score_threshold"):
        raise ValueError("--score-threshold is for --outputs detections: raw outputs have no scores")
    config = with_last(config, APP)
    detector, folder = _load(config)
    name = f"{APP}-{detector.backbone}-{detector.resolution}" + "-nms" * (finished and not is_page)
    if not 0 <= config.score_threshold < 1:
        raise ValueError(f"--score-threshold must be from 0 to below 1, got {config.score_threshold}")
    detector = detector.with_thresholds(score_threshold=config.score_threshold)
    out = choose_target(config, folder or Path("runs") / APP / "-", name, suppressed=finished)
    if config.io == "int8" and detector.head == "pyramid":
        raise ValueError(
            "--io int8: the pyramid decodes its boxes in floats: use --io float, or a detector of --head ssd"
        )
    write_checked(
        out,
        make_graph(detector, finished=finished, input=config.input),
        format=config.format,
        resolution=detector.resolution,
        metadata=describe(detector, config) | checkpoint_facts(folder),
        checks=partial(read_checks, detector, config),
        calibration=partial(read_calibration, detector, config) if config.int8 else None,
        max_drop=config.max_drop,
        io=config.io,
        compare=compare_detections if finished else difference,
        translations=translations() if finished and config.format not in ("tflite", "executorch", "ncnn") else None,
        page=WebPage(config.ort),
    )
    return out


def make_graph(detector: Detector, *, finished: bool, input: Input) -> Graph:
    """The network in the form for the file; `finished` includes decoding and NMS."""
    if not finished:
        return detector.graph(input=input)
    network = EndToEnd(detector.network, detector.postprocess)
    return Graph(network, OUTPUTS, preprocessing=detector.preprocessing, input=input)


def describe(detector: Detector, config: Config) -> dict[str, Any]:
    """The model's part of the file's metadata."""
    facts: dict[str, Any] = {
        "app": APP,
        "backbone": detector.backbone,
        "class_names": detector.class_names,
        "category_ids": detector.category_ids,
        "preprocessing": "RGB; resized to a square, the aspect ratio not kept",
        "resizing": RESIZING,
        "nms_iou": detector.postprocess.nms_iou,
    }
    if detector.threshold is not None:
        facts["threshold"] = detector.threshold
    if config.outputs == "detections":
        return facts | {"score_threshold": detector.postprocess.score_threshold}
    return facts | {
        "score_function": detector.score_function,
        "anchors_cxcywh": [[round(v, 7) for v in row] for row in detector.network.anchors_cxcywh.tolist()],
        "decoding": f"centre = offset / {CENTRE_SCALE:g} * anchor size + anchor centre; "
        f"size = exp(min(offset / {SIZE_SCALE:g}, {MAX_LOG_RATIO:g})) * anchor size; class 0 is background",
    }


def compare_detections(reference: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> float:
    """The largest difference of the ordered scores; infinite if more than a few boxes have no match of their class."""
    if any(given[name].shape != reference[name].shape for name in OUTPUTS):
        return float("inf")
    unmatched = total = 0
    for boxes, scores, labels, their_boxes, their_labels in zip(
        *(reference[name] for name in OUTPUTS), given["boxes_xyxy"], given["labels"], strict=True
    ):
        found = scores > 0
        same = box_iou(boxes[found], their_boxes) > SAME_IOU
        same &= labels[found, None] == their_labels
        no_area = (boxes[found, 2:] <= boxes[found, :2]).any(1)  # at the border; the IoU says nothing
        unmatched += int((~same.any(1) & ~no_area).sum())
        total += int(found.sum())
    if unmatched > MAY_DIFFER * total + 1:
        return float("inf")
    far = (reference["scores"] - given["scores"]).abs()
    return torch.nan_to_num(far, nan=torch.inf).max().item()


def read_checks(detector: Detector, config: Config) -> Checks:
    """What the file is checked with: photos of val."""
    val = _load_some("val", config)
    return Checks(read_squares(detector, val, PARITY_PHOTOS), make_metric(detector, val, config))


def read_calibration(detector: Detector, config: Config) -> Tensor:
    """Photos of train as the network sees them, (B, 3, H, W) uint8."""
    return read_squares(detector, _load_some("train", config), config.num_photos)


def make_metric(detector: Detector, split: CocoSplit, config: Config) -> Metric | None:
    """AP on a split; None, with a message, if the sample set has none of the detector's classes.

    Raises:
        ValueError: the same for given data, or for 8 bits, which need representative photos.
    """
    if any(label is not None for label in match_names(detector.class_names, split.class_names)):
        return Metric("AP", partial(average_precision, detector, split), detector.session, len(split.records))
    if config.data != "sample" or config.int8:
        raise ValueError(
            f"--data {config.data} has none of the detector's classes ({', '.join(detector.class_names[:3])}, ...): "
            "give photos like those it is for"
        )
    print("the sample set has none of this detector's classes: AP is not measured (--data PATH does)")
    return None


def average_precision(detector: Detector, split: CocoSplit, session: Session) -> float:
    """AP with the outputs of a session."""
    measured = dataclasses.replace(detector, session=session)
    results = predict_split(measured, split, batch_size=8, num_workers=0, progress=False)
    return max(0.0, coco_metrics(split, results).values["AP"])  # -1 without any object


def read_squares(detector: Detector, split: CocoSplit, num_photos: int) -> Tensor:
    """At most `num_photos` preprocessed photos of a split, (B, 3, H, W) uint8."""
    squares = make_eval_set(split, resolution=detector.resolution)
    return stack_images([squares[i] for i in range(min(num_photos, len(squares)))])


def _load(config: Config) -> tuple[Detector, Path | None]:
    cpu = torch.device("cpu")
    check_model_flags(config, "backbone", published="coco")
    if config.weights is not None:
        return Detector.published(config.weights, backbone=config.backbone, device=cpu), None
    assert config.checkpoint is not None
    return Detector.load(config.checkpoint, device=cpu), model_folder(config.checkpoint)


def _load_some(name: str, config: Config) -> CocoSplit:
    """At most `--num-photos` images of a split, evenly spaced."""
    root = make_sample() if config.data == "sample" else Path(config.data)
    split = load_split(root, name, bad_data=config.bad_data, group_by=grouping(config))
    return split.take(evenly_spaced(len(split.records), config.num_photos))
