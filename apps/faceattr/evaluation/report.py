"""An evaluation as one page: metrics of attributes and subgroups, and faces with wrong predictions.

Letters in shapes: N photos, A attributes.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from apps.common.evaluation.calibration import Bin, draw_reliability, reliability_bins
from apps.common.evaluation.comparison import Comparison
from apps.common.evaluation.intervals import Figures
from apps.common.evaluation.plots import new_figure, with_letters
from apps.common.evaluation.report import Cell, Page
from apps.common.images import read_image
from apps.faceattr.data.batches import to_square
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.load import AttributeSplit
from apps.faceattr.evaluation.calibration import Decisions
from apps.faceattr.evaluation.metrics import FEW, Agreement, Metrics, mean_ap_measure
from apps.faceattr.evaluation.subgroups import Subgroups
from apps.faceattr.model.tagger import Tagger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 128  # of the photos, pixels
NUM_WRONG = 5  # photos of an attribute


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results of a model on a split.

    Attributes:
        model: the checkpoint's name.
        logits, labels: (N, A) of the split's photos; labels are 1, 0 or -1 for unknown.
        decisions: probabilities and decisions.
        metrics: by them.
        uncalibrated: each attribute's calibration error with temperature 1; None where nothing is known.
        values: all single numbers by name; None where a number has no meaning.
        undecided: attributes with too few photos of a value for a threshold; empty unless calibrated here.
        teacher, agreement: the teacher's name and how alike the two are; empty without one.
        subgroups: None if not asked for.
    """

    model: str
    tagger: Tagger
    split: AttributeSplit
    logits: Tensor
    labels: Tensor
    decisions: Decisions
    metrics: Metrics
    uncalibrated: list[float | None]
    values: dict[str, float | None]
    undecided: list[str]
    teacher: str
    agreement: list[Agreement]
    subgroups: Subgroups | None

    @functools.cached_property
    def figures(self) -> Figures:
        """Mean average precision, with its interval."""
        return Figures.of(mean_ap_measure(self.logits, self.labels), len(self.labels))

    def is_right(self) -> Tensor:
        """(N, A) bool: the label is known and predicted."""
        return (self.labels != UNKNOWN) & (self.decisions.present == (self.labels == 1))


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write report.html."""
    page = Page(f"{evaluation.model} on {evaluation.split.name}")
    page.paragraph(evaluation.split.describe())
    _add_headline(page, evaluation)
    _add_attributes(page, evaluation)
    page.heading("Calibration")
    caption = (
        f"Share of faces that have an attribute by its probability, all attributes. After: {evaluation.decisions.by}."
    )
    page.figure(reliability_figure(evaluation), caption)
    if evaluation.subgroups:
        _add_subgroups(page, evaluation.subgroups)
    if evaluation.agreement:
        _add_agreement(page, evaluation)
    _add_wrong_photos(page, evaluation)
    page.save(path)


def _add_headline(page: Page, evaluation: Evaluation) -> None:
    value, tagger, figures = evaluation.values, evaluation.tagger, evaluation.figures
    measured = f"mean over {value['num_measured']} of {value['num_attributes']} attributes"
    rows: list[tuple[str, Cell, str]] = [
        ("mean average precision", value["mean_ap"], f"{measured}; the paper's measure{figures.note('mean_ap')}"),
        ("balanced accuracy", value["mean_balanced_accuracy"], f"{measured}; chance level is 0.5"),
        ("F1", value["mean_f1"], f'{measured}; of "present"'),
        ("accuracy", value["mean_accuracy"], f"{measured}; always predicting the commoner value does well, too"),
        ("calibration error", value["mean_ece"], f"{measured}; {evaluation.decisions.by}"),
        ("calibration error, temperature 1", value["mean_ece_uncalibrated"], measured),
        ("mult-adds", _count(value["mult_adds"]), f"{tagger.backbone} at {tagger.resolution} pixels, one face"),
        ("parameters", _count(value["params"]), ""),
    ]
    if evaluation.agreement:
        rows += [
            ("mean average precision, teacher", value["teacher_mean_ap"], evaluation.teacher),
            ("equal decisions", value["teacher_same"], "share of student's and teacher's"),
            ("difference of probabilities", value["teacher_difference"], "mean absolute, student's and teacher's"),
        ]
    page.heading("Headline numbers")
    page.table(["", "value", "meaning"], rows)
    if meaning := figures.meaning():
        page.paragraph(meaning)
    if evaluation.metrics.not_measured:
        names = ", ".join(evaluation.metrics.not_measured)
        page.paragraph(f"Not averaged: labels have only one of the two values: {names}.")


def _count(value: float | None) -> str:
    return "not known of an exported file" if value is None else f"{value:,.0f}"


def _add_attributes(page: Page, evaluation: Evaluation) -> None:
    """Every attribute, the lowest average precision first, those without last."""
    page.heading("Every attribute, worst first")
    if any(one.few for one in evaluation.metrics.per_attribute):
        page.figure(precision_figure(evaluation.metrics), "Average precision; the mark is the chance level.")
    tagger = evaluation.tagger
    rows: list[list[Cell]] = []
    for one, before, threshold, temperature in zip(
        evaluation.metrics.per_attribute, evaluation.uncalibrated, tagger.thresholds, tagger.temperatures, strict=True
    ):
        name = one.name + " *" * (one.few < FEW)
        rows.append([name, one.known, one.positive, *one[3:], before, threshold, temperature])
    rows.sort(key=lambda row: (row[3] is None, row[3] or 0.0))
    header = ["attribute", "known", "have it", "AP", "balanced", "F1", "accuracy", "ECE", "ECE, T 1"]
    few = f"* fewer than {FEW} photos with or without it: unreliable"
    page.table([*header, "threshold", "T"], rows, caption=few * any(str(row[0]).endswith("*") for row in rows))
    if evaluation.undecided:
        names = ", ".join(evaluation.undecided)
        page.paragraph(f"Too few photos in val to choose a threshold, which stays 0.5: {names}.")


def precision_figure(metrics: Metrics) -> "Figure":
    """Bars of average precision, best on top, with the share of present ones, which guessing has, as a mark."""
    measured = [(one.ap, one) for one in metrics.per_attribute if one.ap is not None]
    drawn = sorted(measured, key=lambda pair: pair[0])
    figure = new_figure(7, 1 + 0.26 * len(drawn))
    axes = figure.subplots()
    heights = range(len(drawn))
    axes.barh(heights, [ap for ap, _ in drawn], color="#4c86c6")
    axes.plot(
        [one.positive / one.known for _, one in drawn], heights, "|", color="black", markersize=9, markeredgewidth=2
    )
    axes.set_yticks(heights, with_letters([one.name for _, one in drawn]), fontsize=9, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(drawn) - 0.4), xlabel="average precision")
    axes.grid(axis="x", alpha=0.3)
    return figure


def reliability_figure(evaluation: Evaluation) -> "Figure":
    """Share that has an attribute by its probability, before and after calibration; dots are as large as the bin."""
    drawn = {"temperature 1": evaluation.logits.double().sigmoid(), "after": evaluation.decisions.probs}
    figure = new_figure(9, 4.2)
    for axes, (when, probs) in zip(figure.subplots(1, 2), drawn.items(), strict=True):
        draw_reliability(axes, reliability(probs, evaluation.labels))
        axes.set(title=when, xlabel="probability", xlim=(-0.02, 1.02), ylim=(-0.05, 1.05))
    figure.axes[0].set_ylabel("share that has it")
    return figure


def reliability(probs: Tensor, labels: Tensor) -> list[Bin]:
    """Of each bin that holds known labels: their number, mean probability and share present; probs, labels (N, A)."""
    known = labels != UNKNOWN
    return reliability_bins(probs[known].double(), labels[known])


def _add_subgroups(page: Page, groups: Subgroups) -> None:
    page.heading(f"By {groups.by}")
    page.paragraph(
        f"{groups.num_with_it:,} faces have it, {groups.num_without:,} do not, and for {groups.num_unknown:,} it is "
        "unknown. A gap is the first less the second. Where the groups have an attribute in different shares, average "
        "precision differs even if the attribute is predicted equally well: look at the balanced accuracy."
    )
    header = ["attribute", "known", "have it", "predicted", "AP", "balanced"]
    header += ["known, not", "have it, not", "predicted, not"]
    rows: list[list[Cell]] = []
    for row in sorted(groups.rows, key=lambda row: -abs(row.gap("balanced_accuracy") or 0.0)):
        one, other = row.with_it, row.without
        first: list[Cell] = [one.known, one.positive, row.said_with_it, one.ap, one.balanced_accuracy]
        second: list[Cell] = [other.known, other.positive, row.said_without, other.ap, other.balanced_accuracy]
        gaps = [row.gap("ap"), row.gap("balanced_accuracy")]
        rows.append([row.name + " *" * row.is_small, *first, *second, *gaps])
    few = f"* a group has fewer than {FEW} faces with one value: the gap says little"
    page.table(
        [*header, "AP, not", "balanced, not", "AP gap", "balanced gap"],
        rows,
        caption=few * any(row.is_small for row in groups.rows),
    )


def _add_agreement(page: Page, evaluation: Evaluation) -> None:
    page.heading("Student and teacher")
    page.paragraph(f"The teacher is {evaluation.teacher}. Equal decisions need no labels.")
    rows = sorted(evaluation.agreement, key=lambda one: one.same)
    page.table(["attribute", "equal", "difference", "AP", "AP, teacher"], rows)


def _add_wrong_photos(page: Page, evaluation: Evaluation) -> None:
    """For each attribute the photos with wrong predictions, the most confident first."""
    page.heading("Most wrong")
    labels, probs = evaluation.labels, evaluation.decisions.probs
    wrong = (labels != UNKNOWN) & (evaluation.decisions.present != (labels == 1))
    if not wrong.any():
        page.paragraph("All known attributes are predicted correctly.")
        return
    pictures = []
    for a, name in enumerate(evaluation.tagger.attributes):
        indices = wrong[:, a].nonzero().flatten()
        if not len(indices):
            continue
        farthest = (probs[indices, a] - labels[indices, a]).abs().argsort(descending=True, stable=True)[:NUM_WRONG]
        chosen = indices[farthest].tolist()
        predicted = "; ".join(
            f"{evaluation.split.paths[i].name} {'has it' if labels[i, a] == 1 else 'has not'}, {probs[i, a]:.2f}"
            for i in chosen
        )
        text = f"{name}: {len(indices):,} of {int((labels[:, a] != UNKNOWN).sum()):,} wrong: {predicted}"
        pictures.append((_beside([to_square(read_image(evaluation.split.paths[i]), SIDE) for i in chosen]), text))
    page.gallery(pictures)


def compare(ours: Evaluation, theirs: Evaluation) -> Comparison:
    """Two taggers on one split; a photo's gain is the number of attributes that are predicted correctly."""
    right = [one.is_right().sum(dim=1) for one in (ours, theirs)]
    return Comparison(ours.model, theirs.model, ours.figures, theirs.figures, (right[0] - right[1]).numpy())


def picture_of_two(index: int, ours: Evaluation, theirs: Evaluation) -> tuple[np.ndarray, str]:
    """A photo, and as its caption the attributes that only one of two taggers predicts correctly."""
    path, rights = ours.split.paths[index], [one.is_right()[index] for one in (ours, theirs)]
    alone = [
        ", ".join(name for name, a, b in zip(ours.tagger.attributes, *pair, strict=True) if a and not b) or "none"
        for pair in (rights, rights[::-1])
    ]
    return to_square(read_image(path), SIDE), f"{path.name}: right here alone {alone[0]}; there alone {alone[1]}"


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Up to `NUM_WRONG` images of one side in a row of always the same width."""
    row = np.full((SIDE, NUM_WRONG * (SIDE + 4) - 4, 3), 128, np.uint8)
    for i, image in enumerate(images):
        row[:, i * (SIDE + 4) : i * (SIDE + 4) + SIDE] = image
    return row
