"""An evaluation as one page: metrics, confusions, calibration, and photos with errors.

Letters in shapes: N photos, K classes.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from apps.common.deploy.exported import ExportedNetwork
from apps.common.evaluation.calibration import draw_reliability
from apps.common.evaluation.comparison import Comparison
from apps.common.evaluation.intervals import Figures
from apps.common.evaluation.plots import confusion_figure, new_figure
from apps.common.evaluation.report import Cell, Page
from apps.common.images import read_image
from apps.finegrained.data.batches import to_square
from apps.finegrained.data.load import LabelledSplit
from apps.finegrained.evaluation.metrics import ConfusedPair, Metrics, reliability, top1_measure
from apps.finegrained.model.cam import draw_activations
from apps.finegrained.model.classifier import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = 30  # classes that a confusion matrix can show with names and counts
MAX_SHOWN = 24  # of the most confused ones, where there are more
NUM_PAIRS, NUM_WRONG = 12, 12
SIDE = 224  # of the photos, pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results of a model on a split.

    Attributes:
        model: the checkpoint's name.
        logits: (N, K) of the split's photos.
        scaled: (N, K) logits after calibration; None if there is none.
        calibrated_by: a phrase: whose temperature `scaled` has.
        values: all single numbers by name; None where a number has no meaning.
        by_resolution: side of the input in pixels -> "top1" and "top5".
        unknown: of `calibration.unknown_metrics`; empty if no folder was given.
    """

    model: str
    classifier: Classifier
    split: LabelledSplit
    logits: Tensor
    labels: Tensor
    scaled: Tensor | None
    calibrated_by: str
    metrics: Metrics
    values: dict[str, float | None]
    by_resolution: dict[int, dict[str, float]]
    unknown: dict[str, float]

    @functools.cached_property
    def figures(self) -> Figures:
        """Top-1, with its interval."""
        return Figures.of(top1_measure(self.logits, self.labels), len(self.labels))

    def own_probs(self) -> Tensor:
        """(N,) the probability of each photo's true class, calibrated if there is a calibration."""
        logits = self.logits if self.scaled is None else self.scaled
        return logits.double().softmax(1).gather(1, self.labels[:, None])[:, 0]


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write report.html."""
    page = Page(f"{evaluation.model} on {evaluation.split.name}")
    page.paragraph(evaluation.split.describe())
    _add_headline(page, evaluation)
    _add_wrong_photos(page, evaluation)
    _add_confused_pairs(page, evaluation)
    _add_confusion(page, evaluation)
    page.heading("Calibration")
    after = "the checkpoint is not calibrated" if evaluation.scaled is None else evaluation.calibrated_by
    page.figure(reliability_figure(evaluation), f"Accuracy by confidence. After: {after}.")
    if len(evaluation.by_resolution) > 1:
        page.heading("Accuracy by test resolution")
        caption = f"The same photos at other input sides; the network is for {evaluation.classifier.resolution} pixels."
        page.figure(resolution_figure(evaluation), caption)
    _add_classes(page, evaluation)
    page.save(path)


def _add_headline(page: Page, evaluation: Evaluation) -> None:
    value = evaluation.values
    rows: list[tuple[str, Cell, str]] = [
        ("top-1", value["top1"], "share of photos whose class is the best guess" + evaluation.figures.note("top1")),
        ("top-5", value["top5"], "... is among the five best"),
        ("macro precision", value["macro_precision"], "mean over the classes that occur"),
        ("macro recall", value["macro_recall"], "mean over the classes that occur"),
        ("macro F1", value["macro_f1"], "mean over the classes that occur"),
        ("loss", value["loss"], "negative log-likelihood, temperature 1"),
        ("loss, calibrated", value["loss_calibrated"], evaluation.calibrated_by),
        ("calibration error", value["ece"], "expected, 15 bins, temperature 1"),
        ("calibration error, calibrated", value["ece_calibrated"], evaluation.calibrated_by),
        ("known photos kept", value["known_kept"], 'share not taken for "none of the classes"'),
    ]
    if evaluation.unknown:
        unknown = evaluation.unknown
        what = f"of {unknown['num_unknown']:,} unknown photos"
        rows += [
            ("AUROC, unknown", unknown["auroc"], f"known photos of this split against {what[3:]}"),
            ("unknown kept at 95 % known", unknown["fpr_at_95_tpr"], f"share {what}, at a threshold set here"),
            ("unknown kept", unknown.get("unknown_kept"), f"share {what}, at the checkpoint's threshold"),
        ]
    page.heading("Headline numbers")
    page.table(["", "value", "meaning"], rows)
    if meaning := evaluation.figures.meaning():
        page.paragraph(meaning)


def _add_wrong_photos(page: Page, evaluation: Evaluation) -> None:
    """The photos with the lowest probability of their class, with heat maps."""
    logits = evaluation.logits if evaluation.scaled is None else evaluation.scaled
    probs = logits.double().softmax(1)
    own = evaluation.own_probs()
    predicted = logits.argmax(1)
    wrong = [i for i in own.argsort().tolist() if predicted[i] != evaluation.labels[i]]
    page.heading("Most wrong")
    if not wrong:
        page.paragraph("All photos are classified correctly.")
        return
    explained = not isinstance(evaluation.classifier.network, ExportedNetwork)
    beside = "Beside each photo: the evidence for the predicted class and for the true class (red: most)." * explained
    page.paragraph(
        f"{len(wrong):,} of {len(own):,} photos are wrong; these give their true class the lowest probability. {beside}"
    )
    names = evaluation.split.class_names
    pictures = []
    for i in wrong[:NUM_WRONG]:
        path, label = evaluation.split.photos[i]
        guess = int(predicted[i])
        image = read_image(path)
        maps = draw_activations(evaluation.classifier, image, (guess, label), side=SIDE) if explained else []
        picture = _beside([to_square(image, SIDE, evaluation.classifier.crop), *maps])
        text = f"taken for {names[guess]} ({probs[i, guess]:.2f}), is {names[label]} ({own[i]:.2f}): {path.name}"
        pictures.append((picture, text))
    page.gallery(pictures)


def compare(ours: Evaluation, theirs: Evaluation) -> Comparison:
    """Two classifiers on one split; of the photos won or lost those come first whose probabilities differ most."""
    right, own = zip(*((one.logits.argmax(1) == one.labels, one.own_probs()) for one in (ours, theirs)), strict=True)
    gains = (right[0].double() - right[1].double()) * (1 + (own[0] - own[1]).abs())
    return Comparison(ours.model, theirs.model, ours.figures, theirs.figures, gains.numpy())


def picture_of_two(index: int, ours: Evaluation, theirs: Evaluation) -> tuple[np.ndarray, str]:
    """A photo, the evidence for what each of two classifiers predicts, and a caption."""
    path, label = ours.split.photos[index]
    image, names = read_image(path), ours.split.class_names
    guesses = [int(one.logits[index].argmax()) for one in (ours, theirs)]
    shown = to_square(image, SIDE, ours.classifier.crop)
    maps = [
        shown
        if isinstance(one.classifier.network, ExportedNetwork)
        else draw_activations(one.classifier, image, (guess,), side=SIDE)[0]
        for one, guess in zip((ours, theirs), guesses, strict=True)
    ]
    text = f"{names[guesses[0]]} against {names[guesses[1]]}, is {names[label]}: {path.name}"
    return _beside([maps[0], shown, maps[1]]), text


def _add_confused_pairs(page: Page, evaluation: Evaluation) -> None:
    """A wrong photo beside a typical one of the predicted class."""
    pairs = evaluation.metrics.confused[:NUM_PAIRS]
    if not pairs:
        return
    page.heading("Most confused classes")
    page.paragraph("Left: a wrong photo; right: a typical one of the predicted class.")
    page.gallery(_pair_picture(pair, evaluation) for pair in pairs)


def _pair_picture(pair: ConfusedPair, evaluation: Evaluation) -> tuple[np.ndarray, str]:
    names, labels = evaluation.split.class_names, evaluation.labels
    true, taken_for = names.index(pair.true), names.index(pair.predicted)
    probs = evaluation.logits.double().softmax(1)[:, taken_for]
    misnamed = ((labels == true) & (evaluation.logits.argmax(1) == taken_for)).nonzero().flatten()
    typical = (labels == taken_for).nonzero().flatten()
    shown = [misnamed[probs[misnamed].argmax()]]
    photos_of = f"{pair.num_photos:,} photo{'s' * (pair.num_photos != 1)}, {pair.share:.0%} of {pair.true}"
    text = f"{pair.true} taken for {pair.predicted}: {photos_of}"
    if len(typical):
        shown.append(typical[probs[typical].argmax()])
    else:
        text += f"; {evaluation.split.name} has no photo of {pair.predicted}"
    crop = evaluation.classifier.crop
    photos = [to_square(read_image(evaluation.split.photos[int(i)].path), SIDE, crop) for i in shown]
    if len(photos) == 1:
        photos.append(np.full_like(photos[0], 128))
    return _beside(photos), text


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one height, a gray line between them."""
    line = np.full((images[0].shape[0], 4, 3), 128, np.uint8)
    return np.hstack([part for image in images for part in (image, line)][:-1])


def _add_confusion(page: Page, evaluation: Evaluation) -> None:
    confusion, names = evaluation.metrics.confusion, evaluation.split.class_names
    page.heading("Confusion matrix")
    if len(names) <= MAX_NAMED:
        page.figure(confusion_figure(confusion, names), "Photos; the colour is the share of the true class.")
        return
    page.figure(confusion_figure(confusion, None), f"All {len(names)} classes in order; the colour is the share.")
    mixed_up = [names.index(name) for pair in evaluation.metrics.confused for name in (pair.true, pair.predicted)]
    if most := sorted(list(dict.fromkeys(mixed_up))[:MAX_SHOWN]):
        part = confusion_figure(confusion[np.ix_(most, most)], [names[k] for k in most], total=confusion.sum(1)[most])
        text = f"The {len(most)} most confused classes, photos; the colour is the share of the true class."
        page.figure(part, text)


def reliability_figure(evaluation: Evaluation) -> "Figure":
    """Accuracy by confidence, before and after calibration; the area of a dot is its share of the photos."""
    drawn = {"before": evaluation.logits} | ({} if evaluation.scaled is None else {"after": evaluation.scaled})
    errors = {"before": evaluation.values["ece"], "after": evaluation.values["ece_calibrated"]}
    figure = new_figure(4.5 * len(drawn), 4.2)
    for axes, (when, logits) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        draw_reliability(axes, reliability(logits, evaluation.labels))
        axes.set(title=f"{when}: error {errors[when]:.3f}", xlabel="confidence", xlim=(0, 1.02), ylim=(-0.02, 1.05))
    figure.axes[0].set_ylabel("accuracy")
    return figure


def resolution_figure(evaluation: Evaluation) -> "Figure":
    """Top-1 and top-5 over the side of the input."""
    sides = sorted(evaluation.by_resolution)
    figure = new_figure(6, 3.8)
    axes = figure.subplots()
    for name, label in (("top1", "top-1"), ("top5", "top-5")):
        axes.plot(sides, [evaluation.by_resolution[side][name] for side in sides], marker="o", label=label)
    axes.axvline(evaluation.classifier.resolution, color="gray", linewidth=1, linestyle="--")
    axes.set(xlabel="input side, pixels", ylabel="accuracy", xticks=sides)
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _add_classes(page: Page, evaluation: Evaluation) -> None:
    """Every class, the worst F1 first, those without photos last."""
    classes = sorted(evaluation.metrics.per_class, key=lambda one: (one.f1 is None, one.f1 or 0.0, one.name))
    absent = evaluation.metrics.values["num_classes_without_photos"]
    page.heading("Every class, worst first")
    if absent:
        page.paragraph(
            f"{absent} of the {len(classes)} classes have no photo here and are excluded from the macro means."
        )
    page.table(["class", "photos", "predicted", "precision", "recall", "F1"], classes)
