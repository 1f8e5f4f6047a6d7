"""An evaluation as one page: metrics, causes of lost AP, thresholds, and photos with errors.

Letters in shapes: H W height and width, K classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apps.common.evaluation.intervals import Figures
from apps.common.evaluation.plots import confusion_figure, new_figure, with_letters
from apps.common.evaluation.report import Cell, Page
from apps.common.images import resize
from apps.common.pictures import put_box
from apps.detection.data.batches import read_sample
from apps.detection.data.coco_split import CocoSplit
from apps.detection.evaluation.analysis import Analysis, BadPhoto, confusions
from apps.detection.evaluation.errors import ERRORS, MEANING, ORACLES, Errors
from apps.detection.evaluation.metrics import CocoMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = 30  # classes that a confusion matrix can show with names and counts
MAX_SHOWN = 20  # of the most confused ones, where there are more
MAX_COLOURS = 7  # classes whose curves have different colours
NUM_PHOTOS = 12
SIDE = 640  # of the photos, pixels
RIGHT, WRONG, MISSED, TRUTH, CROWD = (60, 200, 80), (255, 80, 70), (255, 180, 0), (255, 255, 255), (150, 150, 150)
METRICS = {
    "AP": "mean over IoU 0.5 to 0.95 and over classes",
    "AP50": "at an IoU of 0.5",
    "AP75": "at an IoU of 0.75",
    "APs": "objects up to 32x32 pixels",
    "APm": "objects from 32x32 to 96x96 pixels",
    "APl": "objects larger than 96x96 pixels",
    "AR1": "recall, mean over IoU 0.5 to 0.95, with 1 detection of a class and photo",
    "AR10": "... with 10",
    "AR100": "... with 100",
    "ARs": "... objects up to 32x32 pixels",
    "ARm": "... objects from 32x32 to 96x96 pixels",
    "ARl": "... objects larger than 96x96 pixels",
}


def write_report(
    path: Path, *, model: str, split: CocoSplit, metrics: CocoMetrics, analysis: Analysis, figures: Figures
) -> None:
    """Write report.html.

    Args:
        model: the checkpoint's name.
        figures: AP and AP50, for their intervals.
    """
    page = Page(f"{model} on {split.name}")
    page.paragraph(split.describe())
    page.heading("COCO's 12 numbers")
    rows = [
        (name, None if value < 0 else value, METRICS[name] + figures.note(name))
        for name, value in metrics.values.items()
    ]
    page.table(["", "value", "meaning"], rows)
    if meaning := figures.meaning():
        page.paragraph(meaning)
    if any(value is None for _, value, _ in rows):
        page.paragraph("A dash (-1 in metrics.json): the split has no such object.")
    _add_errors(page, analysis.errors)
    _add_thresholds(page, analysis)
    page.heading("By size of the objects")
    page.table(["size", "objects", "AP", "AP50", "AP75", "AR100"], analysis.sizes)
    _add_confusion(page, analysis, split.class_names)
    _add_photos(page, analysis, split)
    _add_classes(page, analysis)
    page.save(path)


def _add_errors(page: Page, errors: Errors) -> None:
    page.heading("Where the missing AP goes")
    if errors.ap50 is None:
        page.paragraph("The split has no objects: there is nothing to find, and no AP to miss.")
        return
    page.paragraph(
        f"AP50 is {errors.ap50:.3f}. Each line corrects one kind of error alone (the oracles of the TIDE paper, "
        "arXiv 2008.08115); the AP50 gained is the cost of the error. The gains do not add up to the missing AP, since "
        "errors hide each other. All detections count, down to the lowest score."
    )
    page.figure(errors_figure(errors), "AP50 gained by correcting each kind of error alone.")
    rows: list[list[Cell]] = [[kind, errors.counts[kind], errors.gains[kind], MEANING[kind]] for kind in ORACLES]
    page.table(["error", "count", "AP50 gained", "meaning"], rows)


def errors_figure(errors: Errors) -> "Figure":
    """The gain of each of `ORACLES` as bars; the two sums of kinds in another colour."""
    figure = new_figure(7.5, 3.2)
    axes = figure.subplots()
    gains = [errors.gains[kind] or 0.0 for kind in ORACLES]
    bars = axes.barh(ORACLES, gains, color=["tab:blue" if kind in ERRORS else "tab:gray" for kind in ORACLES])
    axes.bar_label(bars, [f"{gain:.3f}" for gain in gains], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="AP50 gained", xlim=(0, max(0.05, 1.15 * max(gains))))
    axes.grid(axis="x", alpha=0.3)
    return figure


def _add_thresholds(page: Page, analysis: Analysis) -> None:
    page.heading("Which threshold?")
    best = analysis.curve.best
    if best.threshold is None:
        page.paragraph("No detection is correct: no threshold can be recommended.")
        return
    page.paragraph(
        f"All classes together, at an IoU of 0.5: F1 is best, {best.f1:.3f}, where scores from {best.threshold:.3f} on "
        f"count; precision is {best.precision:.3f} and recall {best.recall:.3f} there. The confusions and the photos "
        "below use this threshold; each class's own is in the last table."
    )
    page.figure(curves_figure(analysis), "Thick: all classes together, a dot at the best F1. Thin: the classes.")


def curves_figure(analysis: Analysis) -> "Figure":
    """Precision over recall, and F1 over the threshold, of all classes together and of each."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    many = len(analysis.classes) > MAX_COLOURS
    for i, (curve, one) in enumerate(zip(analysis.class_curves, analysis.classes, strict=True)):
        if curve.best.threshold is not None:
            name = with_letters([one.name])[0].replace("$", r"\$")
            style = {"color": "gray" if many else f"C{i + 3}", "linewidth": 0.5 if many else 1, "alpha": 0.5}
            left.plot(curve.recall, curve.precision, label=None if many else name, **style)
            right.plot(curve.thresholds, curve.f1, **style)
    curve, best = analysis.curve, analysis.curve.best
    left.plot(curve.recall, curve.precision, color="C0", linewidth=2.5, label="all classes together")
    left.plot([best.recall], [best.precision], "o", color="C0")
    for i, (values, label) in enumerate(((curve.f1, "F1"), (curve.precision, "precision"), (curve.recall, "recall"))):
        right.plot(curve.thresholds, values, color=f"C{i}", linewidth=1 if i else 2.5, label=label)
    right.plot([best.threshold], [best.f1], "o", color="C0")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure


def _add_confusion(page: Page, analysis: Analysis, class_names: Sequence[str]) -> None:
    """The whole matrix and, if it is too large to read, its part of the most confused classes."""
    page.heading("Confusions")
    matrix, names = analysis.confusion, [*class_names, "background"]
    if not matrix.any():
        page.paragraph("There are neither objects nor detections.")
        return
    caption = "Row: true class; column: predicted class; the colour is the share of the row."
    meaning = "The last column holds missed objects, the last row detections without an object."
    if len(class_names) <= MAX_NAMED:
        page.figure(confusion_figure(matrix, names), f"{caption} {meaning}")
        return
    page.figure(confusion_figure(matrix, None), f"All {len(class_names)} classes and background. {caption} {meaning}")
    pairs = confusions(analysis, background=False)
    if not pairs:
        page.paragraph("No object is predicted as another class.")
        return
    mixed_up = dict.fromkeys(name for pair in pairs for name in (pair.true, pair.predicted))
    most = [*sorted(names.index(str(name)) for name in list(mixed_up)[:MAX_SHOWN]), len(class_names)]
    part = confusion_figure(matrix[np.ix_(most, most)], [names[k] for k in most], total=matrix.sum(axis=1)[most])
    page.figure(part, f"The {len(most) - 1} most confused classes and background. {caption}")


def _add_photos(page: Page, analysis: Analysis, split: CocoSplit) -> None:
    page.heading("The worst photos")
    if not analysis.bad_photos:
        page.paragraph("No photo has an error.")
        return
    page.paragraph(
        f"{len(analysis.bad_photos):,} of {len(split.records):,} photos have errors; these have the most. "
        "White: an object; green: the detection that matches it; red: a wrong detection and the kind of its error; "
        "orange: a missed object; gray: a crowd, which is ignored."
    )
    page.gallery(_photo(bad, analysis, split) for bad in analysis.bad_photos[:NUM_PHOTOS])


def _photo(bad: BadPhoto, analysis: Analysis, split: CocoSplit) -> tuple[np.ndarray, str]:
    record = split.records[bad.record_index]
    picture = draw_outcomes(read_sample(record).image, bad.record_index, analysis, split)
    return picture, f"{bad.num_wrong:,} wrong, {bad.num_missed:,} missed: {record.path.name}"


def picture_of_two(index: int, ours: Analysis, theirs: Analysis, split: CocoSplit) -> tuple[np.ndarray, str]:
    """A photo with the outcomes of two detectors side by side, and a caption."""
    record = split.records[index]
    image = read_sample(record).image
    pictures = [draw_outcomes(image, index, one, split) for one in (ours, theirs)]
    left, right = (int(one.mistakes(split)[index]) for one in (ours, theirs))
    text = f"{left:,} mistake{'s' * (left != 1)} against {right:,}: {record.path.name}"
    return np.hstack([pictures[0], np.full_like(pictures[0][:, :4], 128), pictures[1]]), text


def draw_outcomes(image: np.ndarray, index: int, analysis: Analysis, split: CocoSplit) -> np.ndarray:
    """A copy of a photo (H, W, 3) RGB, its longer side `SIDE`, with objects and the detections above the threshold.

    Args:
        index: of the photo in the split's records.
    """
    scale = SIDE / max(image.shape[:2])
    picture = resize(image, max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    outcomes, names, record = analysis.outcomes, split.class_names, split.records[index]
    found = outcomes.matches[analysis.kept & (outcomes.matches >= 0)]
    for box in record.boxes_xyxy_px[record.is_crowd]:
        put_box(picture, box * scale, CROWD)
    objects = np.flatnonzero(outcomes.object_images == index)
    for g in objects[np.isin(objects, found)]:
        put_box(picture, _corners(outcomes.object_boxes_xywh_px[g]) * scale, TRUTH)
    detections = np.flatnonzero((outcomes.images == index) & analysis.kept)
    for d in detections[np.argsort(outcomes.scores[detections])]:
        right = outcomes.matches[d] >= 0
        name, kind = names[outcomes.classes[d]], "" if right else f": {ERRORS[analysis.errors.kinds[d]]}"
        box, text = _corners(outcomes.boxes_xywh_px[d]) * scale, f"{name} {outcomes.scores[d]:.2f}{kind}"
        put_box(picture, box, RIGHT if right else WRONG, text, thickness=2)
    for g in objects[~np.isin(objects, found)]:
        box, text = _corners(outcomes.object_boxes_xywh_px[g]) * scale, names[outcomes.object_classes[g]]
        put_box(picture, box, MISSED, text, thickness=2)
    return picture


def _corners(box_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate((box_xywh[:2], box_xywh[:2] + box_xywh[2:]))


def _add_classes(page: Page, analysis: Analysis) -> None:
    """Every class, the lowest AP first, those without objects last."""
    classes = sorted(analysis.classes, key=lambda one: (one.ap is None, one.ap or 0.0, one.name))
    absent = sum(not one.num_objects for one in classes)
    page.heading("Every class, worst first")
    if absent:
        page.paragraph(f"{absent:,} of the {len(classes):,} classes have no object here and are left out of the means.")
    page.paragraph("Precision, recall and F1 hold at the class's own best threshold and an IoU of 0.5.")
    shown = ("num_objects", "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "threshold", "precision")
    fields = ("name", *shown, "recall", "f1", "main_error", "main_error_gain")
    header = ("class", "objects", "AP", "AP50", "AP75", "small", "medium", "large", "threshold", "precision", "recall")
    rows = [[getattr(one, field) for field in fields] for one in classes]
    page.table([*header, "F1", "costs most", "AP50"], rows)
