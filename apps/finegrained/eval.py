"""Evaluate a classifier on a split.

    python apps/finegrained/eval.py --checkpoint runs/finegrained/NAME/best --data PATH --split test
    python apps/finegrained/eval.py --checkpoint runs/finegrained/NAME/best --data PATH --split val --calibrate
    python apps/finegrained/eval.py --checkpoint runs/finegrained/NAME/best --resolutions 96 128 160 --unknown FOLDER
    python apps/finegrained/eval.py --weights cub --backbone a100 --data CUB_200_2011 --split test

Writes metrics.json, confusion.csv, predictions.csv and report.html into --out, with --compare also compare.html.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from apps.common.cli import printable, run_command
from apps.common.options import DeviceOption, GivenFlags, ReadingOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DeviceOption, ReadingOptions, GivenFlags):
    """Evaluate a classifier on a split.

    example: python apps/finegrained/eval.py --checkpoint runs/finegrained/NAME --data PATH
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last: the newest finished run in runs/finegrained;
    default --weights"""
    weights: str | None = None
    """instead of --checkpoint: imagenet (of the width: what is on this machine, else the best published), cub (200
    birds, a100), a catalog name or a weight file"""
    backbone: str = "a100"
    """width of --weights"""
    data: str = "sample"
    """folder or CSV file of photos, name of a known data set, or "sample": the embedded set"""
    split: str = "val"
    """train, val or test"""
    resolutions: tuple[int, ...] = ()
    """further input sides in pixels at which the accuracy is measured; default none"""
    unknown: Path | None = None
    """folder of photos of none of the classes: measures how well they are separated from the known ones; default
    none"""
    calibrate: bool = False
    """fit the temperature and the threshold for "none of the classes" on val, and write them into the checkpoint"""
    compare: Path | None = None
    """run, model folder or file of export.py to compare on the same photos: differences with their intervals, and
    compare.html with the photos won and lost; default none"""
    batch_size: int = 32
    """photos per batch"""
    out: Path | None = None
    """folder for the results; default eval-SPLIT beside the checkpoint"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.finegrained.eval:evaluate", Config)

import torch

from apps.common.checkpoint import check_model_flags, model_folder, save_json, with_last
from apps.common.data.groups import grouping
from apps.common.data.photos import find_photos
from apps.common.data.tables import write_csv
from apps.common.deploy.formats import beside
from apps.common.deploy.sessions import device_for
from apps.common.evaluation.comparison import COMPARE, Comparison, check_names
from apps.finegrained.data.load import LabelledSplit, Photo, load_split
from apps.finegrained.evaluation.calibration import calibrate, calibrated, cross_validate, unknown_metrics
from apps.finegrained.evaluation.metrics import (
    calibration_error,
    classification_metrics,
    negative_log_likelihood,
    top_k_accuracy,
)
from apps.finegrained.evaluation.report import Evaluation, compare, picture_of_two, write_report
from apps.finegrained.model.classifier import APP, Classifier, known_score
from apps.finegrained.model.inference import predict_photos
from apps.finegrained.results import guess_cells, guess_header, make_guesses
from apps.finegrained.sample import make_sample
from backbone.mobilenet_v1 import MIN_RESOLUTION

TOP = 5  # guesses in predictions.csv
MOST_CONFUSED = 20  # pairs of classes in metrics.json


def evaluate(config: Config) -> dict[str, float | None]:
    """Print the main numbers, write all results, and return the single numbers by name."""
    config = with_last(config, APP)
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be 1 or more, got {config.batch_size}")
    if small := [side for side in config.resolutions if side < MIN_RESOLUTION]:
        raise ValueError(f"--resolutions must be {MIN_RESOLUTION} pixels or more, got {small[0]}")
    unknown = find_photos(config.unknown) if config.unknown else []
    classifier, results_folder = _load(config)
    other = None
    if config.compare:
        other = Classifier.load(config.compare, device=device_for("auto", config.device, config.compare))
        check_names(classifier.class_names, other.class_names, config.compare, what="classes")
    data = str(make_sample()) if config.data == "sample" else config.data
    split = load_split(
        data,
        config.split,
        class_names=classifier.class_names,
        bad_data=config.bad_data,
        open_photos=True,
        group_by=grouping(config),
    )
    if config.calibrate and split.name != "val":
        raise ValueError(f"--calibrate needs --split val, got {config.split}: {split.name} is not for fitting")
    print(split.describe())
    evaluation = measure(classifier, split, config, unknown=unknown)
    out = config.out or results_folder / f"eval-{split.name}"
    both = None
    if other:
        same = dataclasses.replace(config, checkpoint=config.compare, calibrate=False, resolutions=())
        rival = measure(other, split, same, unknown=[])
        both = compare(evaluation, rival)
        both.write(out / COMPARE, lambda i: picture_of_two(i, evaluation, rival))
    write_results(out, evaluation, both)
    if config.calibrate and config.checkpoint:
        classifier.save_calibration(config.checkpoint)
    print(describe(evaluation), *([both.describe()] if both else []), sep="\n")
    print(f"metrics.json, confusion.csv, predictions.csv{f', {COMPARE}' if both else ''} and report.html are in {out}")
    return evaluation.values


def _load(config: Config) -> tuple[Classifier, Path]:
    """The classifier, and the folder that its results go into."""
    device = device_for("auto", config.device, config.checkpoint)
    check_model_flags(config, "backbone", published="imagenet")
    if config.checkpoint is None:
        assert config.weights is not None
        if config.calibrate:
            raise ValueError("--calibrate writes into a --checkpoint, --weights has none")
        name = f"{config.backbone}-{Path(config.weights).name}"
        return Classifier.published(config.weights, backbone=config.backbone, device=device), Path("runs", APP, name)
    if config.calibrate:
        model_folder(config.checkpoint)  # an exported file has no room for it
    return Classifier.load(config.checkpoint, device=device), beside(config.checkpoint)


def measure(classifier: Classifier, split: LabelledSplit, config: Config, *, unknown: Sequence[Path]) -> Evaluation:
    """All numbers of a classifier on a split; with `config.calibrate` the classifier is first calibrated on it."""
    read = functools.partial(predict_photos, classifier, batch_size=config.batch_size, num_workers=config.num_workers)
    logits = read(split.photos, name=split.name)
    labels = torch.tensor([photo.label for photo in split.photos])
    if config.calibrate:
        classifier.temperature, classifier.unknown_threshold = calibrate(logits, labels)
    metrics = classification_metrics(logits, labels, split.class_names)
    on_val = split.name == "val"  # where it is fitted
    checked = cross_validate(logits, labels) if on_val else calibrated(classifier, logits)
    values: dict[str, float | None] = {
        **metrics.values,
        "loss_calibrated": None if checked.scaled is None else negative_log_likelihood(checked.scaled, labels),
        "ece_calibrated": None if checked.scaled is None else calibration_error(checked.scaled, labels),
        "temperature": classifier.temperature,
        "unknown_threshold": classifier.unknown_threshold,
        "known_kept": checked.known_kept,
    }
    by_resolution = {classifier.resolution: {name: metrics.values[name] for name in ("top1", "top5")}}
    for side in config.resolutions:
        if side not in by_resolution:
            other = read(split.photos, name=f"{split.name} at {side} pixels", resolution=side)
            by_resolution[side] = {f"top{k}": top_k_accuracy(other, labels, k=k) for k in (1, 5)}
    told_apart: dict[str, float] = {}
    if unknown:
        others = read([Photo(path, -1) for path in unknown], name="unknown")
        told_apart = unknown_metrics(known_score(logits), known_score(others), threshold=classifier.unknown_threshold)
    return Evaluation(
        model=str(config.checkpoint or f"--weights {config.weights} --backbone {config.backbone}"),
        classifier=classifier,
        split=split,
        logits=logits,
        labels=labels,
        scaled=checked.scaled,
        calibrated_by=checked.by,
        metrics=metrics,
        values=values,
        by_resolution=dict(sorted(by_resolution.items())),
        unknown=told_apart,
    )


def write_results(out: Path, evaluation: Evaluation, both: Comparison | None) -> None:
    """Write metrics.json, confusion.csv, predictions.csv and report.html."""
    classifier, split, names = evaluation.classifier, evaluation.split, evaluation.split.class_names
    content = {
        "model": evaluation.model,
        "split": split.name,
        "num_skipped": len(split.skipped),
        **evaluation.values,
        **evaluation.figures.as_json(),
        **(both.as_json() if both else {}),
        "calibrated": evaluation.calibrated_by,
        "by_resolution": evaluation.by_resolution,
        "unknown": evaluation.unknown,
        "most_confused": [pair._asdict() for pair in evaluation.metrics.confused[:MOST_CONFUSED]],
        "per_class": [one._asdict() for one in evaluation.metrics.per_class],
    }
    save_json(out / "metrics.json", content)
    counts = evaluation.metrics.confusion.tolist()
    table = ([name, *row] for name, row in zip(names, counts, strict=True))
    write_csv(out / "confusion.csv", ["true \\ predicted", *names], table)
    guesses = make_guesses(classifier, evaluation.logits, top=TOP)
    rows = (
        [photo.path, names[photo.label], *guess_cells(guess)]
        for photo, guess in zip(split.photos, guesses, strict=True)
    )
    write_csv(out / "predictions.csv", ["file", "true", *guess_header(classifier, TOP)], rows)
    write_report(out / "report.html", evaluation)


def describe(evaluation: Evaluation) -> str:
    """The main numbers as lines of text."""
    m, value = evaluation.metrics.values, evaluation.values
    absent = f" ({m['num_classes_without_photos']} of {m['num_classes']} classes do not occur)"
    calibrated = value["ece_calibrated"]
    after = "" if calibrated is None else f", calibrated {calibrated:.3f}"
    lines = [
        f"top-1 {m['top1']:.3f}, top-5 {m['top5']:.3f}, loss {m['loss']:.3f}",
        evaluation.figures.describe(),
        f"mean over classes: precision {m['macro_precision']:.3f}, recall {m['macro_recall']:.3f}, "
        f"F1 {m['macro_f1']:.3f}" + absent * bool(m["num_classes_without_photos"]),
        f"calibration error {m['ece']:.3f}{after} ({evaluation.calibrated_by})",
    ]
    if value["unknown_threshold"] is not None and value["known_kept"] is not None:
        lines.append(f"temperature {value['temperature']:.3f}; {value['known_kept']:.1%} of these photos pass as known")
    if len(evaluation.by_resolution) > 1:
        lines += [f"at {side} pixels: top-1 {v['top1']:.3f}" for side, v in evaluation.by_resolution.items()]
    if unknown := evaluation.unknown:
        line = f"{unknown['num_unknown']:,} unknown photos: AUROC {unknown['auroc']:.3f}, "
        lines.append(line + f"{unknown['fpr_at_95_tpr']:.1%} of them pass where 95 % of these do")
    for pair in evaluation.metrics.confused[:3]:
        lines.append(f"{pair.true} taken for {pair.predicted}: {pair.num_photos:,} times ({pair.share:.0%})")
    return "\n".join(map(printable, lines))
