"""Evaluate a detector on a split with COCO's 12 metrics, and analyse its errors.

    python apps/detection/eval.py --checkpoint runs/detection/NAME/best --data PATH --split val
    python apps/detection/eval.py --checkpoint runs/detection/NAME/best --data PATH --calibrate
    python apps/detection/eval.py --checkpoint runs/detection/NAME/best --data PATH --compare runs/detection/OTHER
    python apps/detection/eval.py --weights coco --backbone a075 --data PATH

Writes metrics.json, predictions.json (COCO's results format: pycocotools' `loadRes` reads it) and report.html into
--out, with --compare also compare.html.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.cli import printable, run_command
from apps.common.options import DeviceOption, GivenFlags, ReadingOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DeviceOption, ReadingOptions, GivenFlags):
    """Evaluate a detector on a split with COCO's 12 metrics.

    example: python apps/detection/eval.py --checkpoint runs/detection/NAME --data PATH
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last: the newest finished run in runs/detection;
    default --weights"""
    weights: str | None = None
    """instead of --checkpoint: coco (a published detector), a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights"""
    resolution: int | None = None
    """side of the square input for --weights, in pixels; default the one it was trained at"""
    data: str = "sample"
    """folder with COCO, Pascal VOC or YOLO annotations, or "sample": the embedded set"""
    split: str = "val"
    """train, val, test, or the name of a COCO file's split"""
    calibrate: bool = False
    """also write the threshold of best F1 on this split into the checkpoint, for predict.py, exports and pages"""
    compare: Path | None = None
    """run, model folder or file of export.py to compare on the same photos: differences with their intervals, and
    compare.html with the photos won and lost; default none"""
    batch_size: int = 16
    """images per batch"""
    out: Path | None = None
    """folder for metrics.json, predictions.json and report.html; default eval-SPLIT beside the checkpoint, or in
    runs/detection/"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.detection.eval:evaluate", Config)

from apps.common.checkpoint import DESCRIPTION, check_model_flags, load_json, model_folder, save_json, with_last
from apps.common.data.groups import grouping
from apps.common.deploy.formats import beside
from apps.common.deploy.sessions import device_for
from apps.common.evaluation.comparison import COMPARE, Comparison
from apps.common.evaluation.intervals import Figures
from apps.detection.data.coco_split import CocoSplit
from apps.detection.data.load import load_split
from apps.detection.evaluation.analysis import Analysis, analyse, best_threshold, confusions
from apps.detection.evaluation.errors import ERRORS, ORACLES
from apps.detection.evaluation.metrics import CocoMetrics, crowded_note, run_cocoeval, summarise
from apps.detection.evaluation.report import picture_of_two, write_report
from apps.detection.evaluation.resampling import ap_measure
from apps.detection.model.detector import Detector
from apps.detection.model.inference import predict_split
from apps.detection.model.pretrained import APP
from apps.detection.sample import make_sample


def evaluate(config: Config) -> dict[str, float]:
    """Print the 12 metrics, write them, the detections and a report, and return them by name."""
    config = with_last(config, APP)
    if config.calibrate and config.checkpoint is None:
        raise ValueError("--calibrate writes into a --checkpoint: published weights keep the threshold that they have")
    if config.calibrate:
        model_folder(Path(str(config.checkpoint)))  # an exported file has no room for it
    detector = load_detector(config)
    other = None
    if config.compare:
        other = Detector.load(config.compare, device=device_for("auto", config.device, config.compare))
    root = make_sample() if config.data == "sample" else Path(config.data)
    split = load_split(root, config.split, bad_data=config.bad_data, group_by=grouping(config))
    print(split.describe())
    results, metrics, analysis, figures = measure(detector, split, config)
    model = str(config.checkpoint or f"{config.weights}-{config.backbone}")
    out = config.out or default_out(config)
    save_json(out / "predictions.json", results)
    lines, content = [metrics.text, figures.describe(), describe(analysis)], figures.as_json()
    if other:
        rival = measure(other, split, config)
        gains = rival.analysis.mistakes(split) - analysis.mistakes(split)
        both = Comparison(model, str(config.compare), figures, rival.figures, gains)
        both.write(out / COMPARE, lambda i: picture_of_two(i, analysis, rival.analysis, split))
        lines, content = [*lines, both.describe()], {**content, **both.as_json()}
    of_model = {"model": model, "split": config.split, **metrics.values}
    save_json(out / "metrics.json", {**of_model, **content, **as_json(analysis)})
    write_report(out / "report.html", model=model, split=split, metrics=metrics, analysis=analysis, figures=figures)
    print(*filter(None, lines), sep="\n")
    if note := crowded_note(split.name, (int((~record.is_crowd).sum()) for record in split.records)):
        print(note)
    print(f"metrics.json, predictions.json{f', {COMPARE}' if other else ''} and report.html are in {out}")
    if config.calibrate:
        assert config.checkpoint is not None
        set_threshold(model_folder(config.checkpoint), analysis)
    return metrics.values


class Measured(NamedTuple):
    """A detector's detections on a split, in COCO's results format, and their evaluation."""

    results: list[dict[str, Any]]
    metrics: CocoMetrics
    analysis: Analysis
    figures: Figures


def measure(detector: Detector, split: CocoSplit, config: Config) -> Measured:
    """All numbers of a detector on a split."""
    results = predict_split(detector, split, batch_size=config.batch_size, num_workers=config.num_workers)
    evaluation = run_cocoeval(split, results)
    figures = Figures.of(ap_measure(evaluation), len(split.records))
    return Measured(results, summarise(evaluation), analyse(split, evaluation), figures)


def set_threshold(folder: Path, analysis: Analysis) -> None:
    """Write the threshold of best F1 into a model folder.

    Raises:
        ValueError: there is none.
    """
    threshold = best_threshold(analysis.curve)
    if threshold is None:
        raise ValueError("--calibrate: no detection is right, so no threshold is best; the checkpoint is as it was")
    save_json(folder / DESCRIPTION, {**load_json(folder / DESCRIPTION), "threshold": threshold})
    print(f"{folder} now has the threshold {threshold:.3f}")


def as_json(analysis: Analysis) -> dict[str, Any]:
    """metrics.json's content besides the 12 numbers; null for undefined numbers, and for background as a class."""
    errors = analysis.errors
    return {
        "best_threshold": analysis.curve.best._asdict(),
        "errors": {kind: {"count": errors.counts[kind], "ap50_gain": errors.gains[kind]} for kind in ORACLES},
        "per_size": [one._asdict() for one in analysis.sizes],
        "per_class": [one._asdict() for one in analysis.classes],
        "confusion": [pair._asdict() for pair in confusions(analysis)],
    }


def describe(analysis: Analysis) -> str:
    """The main findings as lines of text."""
    best, errors = analysis.curve.best, analysis.errors
    if errors.ap50 is None:
        return "the split has no objects: there is nothing to find, and no AP"
    if best.threshold is None:
        lines = ["no detection is right: no threshold can be recommended"]
    else:
        lines = [
            f"best threshold {best.threshold:.3f}: precision {best.precision:.3f}, recall {best.recall:.3f}, "
            f"F1 {best.f1:.3f} (all classes together, IoU 0.5)"
        ]
    gains = {kind: errors.gains[kind] or 0.0 for kind in ERRORS}
    costs = ", ".join(f"{kind} {gains[kind]:.3f}" for kind in sorted(gains, key=lambda kind: -gains[kind]))
    lines.append(f"AP50 is {errors.ap50:.3f}; correcting one kind of error alone would add: {costs}")
    mixed = confusions(analysis, background=False)[:3]
    return "\n".join([*lines, *(printable(f"{pair.true} taken for {pair.predicted}: {pair.num:,}") for pair in mixed)])


def load_detector(config: Config) -> Detector:
    """The detector given by --checkpoint or --weights.

    Raises:
        ValueError: neither or both are given, or it cannot be loaded.
    """
    device = device_for("auto", config.device, config.checkpoint)
    check_model_flags(config, "backbone", "resolution", published="coco")
    if config.weights is not None:
        return Detector.published(config.weights, backbone=config.backbone, device=device, resolution=config.resolution)
    assert config.checkpoint is not None
    return Detector.load(config.checkpoint, device=device)


def default_out(config: Config) -> Path:
    """The folder for results: beside the checkpoint, or for published weights in runs/."""
    if config.checkpoint is not None:
        return beside(config.checkpoint) / f"eval-{config.split}"
    return Path("runs/detection") / f"{Path(str(config.weights)).stem}-{config.backbone}-eval-{config.split}"
