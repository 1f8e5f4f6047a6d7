"""Evaluate a network of face attributes on a split.

    python apps/faceattr/eval.py --checkpoint runs/faceattr/NAME/best --data PATH MORE --split test
    python apps/faceattr/eval.py --checkpoint runs/faceattr/NAME/best --data PATH --split val --calibrate
    python apps/faceattr/eval.py --checkpoint runs/faceattr/NAME/best --data PATH --subgroup Male --teacher RUN/best

Writes metrics.json, predictions.csv and report.html into --out, with --compare also compare.html. All attributes are in
them, also those that predict.py hides.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from apps.common.cli import printable, run_command
from apps.common.options import DeviceOption, ReadingOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DeviceOption, ReadingOptions):
    """Evaluate a network of face attributes on a split.

    example: python apps/faceattr/eval.py --checkpoint runs/faceattr/NAME --data PATH
    """

    checkpoint: Path
    """run of train.py or teacher.py, its best/ folder, a file of export.py, or last: the newest finished run in
    runs/faceattr"""
    data: tuple[str, ...] = ("sample",)
    """folders or CSV files of labelled faces, one or more, or "sample": the embedded set"""
    split: str = "val"
    """train, val or test"""
    subgroup: str | None = None
    """attribute of the data: all others are evaluated on the faces with it and on those without; default none"""
    teacher: Path | None = None
    """run or its best/ folder with which the predictions are compared; default none"""
    calibrate: bool = False
    """fit temperatures and thresholds on val, and write them into the checkpoint"""
    compare: Path | None = None
    """run, model folder or file of export.py to compare on the same photos: differences with their intervals, and
    compare.html with the photos won and lost; default none"""
    batch_size: int = 32
    """photos per batch"""
    out: Path | None = None
    """folder for the results; default eval-SPLIT beside the checkpoint"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.eval:evaluate", Config)

import torch
from torch import Tensor

from apps.common.checkpoint import model_folder, save_json, with_last
from apps.common.data.groups import grouping
from apps.common.data.tables import write_csv
from apps.common.deploy.exported import ExportedNetwork
from apps.common.deploy.formats import beside
from apps.common.deploy.sessions import device_for
from apps.common.evaluation.comparison import COMPARE, Comparison, check_names
from apps.faceattr.data.listing import UNKNOWN, attribute_key
from apps.faceattr.data.load import AttributeSplit, load_split
from apps.faceattr.evaluation.calibration import Decisions, calibrate, cross_validate, decide, is_calibrated
from apps.faceattr.evaluation.metrics import Agreement, Metrics, agreement, attribute_metrics, mean, uncalibrated_errors
from apps.faceattr.evaluation.report import Evaluation, compare, picture_of_two, write_report
from apps.faceattr.evaluation.subgroups import Subgroups, subgroup_metrics
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import APP, Tagger
from apps.faceattr.sample import make_sample
from backbone.cost import count_module


def evaluate(config: Config) -> dict[str, float | None]:
    """Print the main numbers, write all results, and return the single numbers by name."""
    config = with_last(config, APP)
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be 1 or more, got {config.batch_size}")
    if config.calibrate:
        model_folder(config.checkpoint)  # an exported file has no room for it
    tagger = Tagger.load(config.checkpoint, device=device_for("auto", config.device, config.checkpoint))
    teacher = None
    if config.teacher:
        teacher = Tagger.load(config.teacher, device=device_for("auto", config.device, config.teacher))
        _shared(tagger, teacher)
    other = None
    if config.compare:
        other = Tagger.load(config.compare, device=device_for("auto", config.device, config.compare))
        check_names(tagger.attributes, other.attributes, config.compare, what="attributes")
    data = [str(make_sample()) if source == "sample" else source for source in config.data]
    split = load_split(
        data,
        config.split,
        attributes=_wanted(tagger, config.subgroup),
        bad_data=config.bad_data,
        open_photos=True,
        group_by=grouping(config),
    )
    if config.calibrate and split.name != "val":
        raise ValueError(f"--calibrate needs --split val, got {config.split}: {split.name} is not for fitting")
    print(split.describe())
    evaluation = measure(tagger, split, config, teacher=teacher)
    out = config.out or beside(config.checkpoint) / f"eval-{split.name}"
    both = None
    if config.compare and other:
        same = dataclasses.replace(config, checkpoint=config.compare, calibrate=False, subgroup=None)
        rival = measure(other, split, same, teacher=None)
        both = compare(evaluation, rival)
        both.write(out / COMPARE, lambda i: picture_of_two(i, evaluation, rival))
    write_results(out, evaluation, both)
    if config.calibrate:
        tagger.save_calibration(config.checkpoint)
    print(describe(evaluation), *([both.describe()] if both else []), sep="\n")
    print(f"metrics.json, predictions.csv{f', {COMPARE}' if both else ''} and report.html are in {out}")
    return evaluation.values


def measure(tagger: Tagger, split: AttributeSplit, config: Config, *, teacher: Tagger | None) -> Evaluation:
    """All numbers of a tagger on a split; with `config.calibrate` the tagger is first calibrated on it.

    The split has the tagger's attributes first, in their order.
    """
    names = tagger.attributes
    logits = predict_photos(
        tagger, split.paths, name=split.name, batch_size=config.batch_size, num_workers=config.num_workers
    )
    labels = torch.from_numpy(split.labels[:, : len(names)])
    undecided: list[str] = []
    if config.calibrate:
        tagger.temperatures, tagger.thresholds, undecided = calibrate(logits, labels, names)
    fitted_here = split.name == "val" and is_calibrated(tagger)
    decisions = cross_validate(logits, labels, names, split.identities) if fitted_here else decide(tagger, logits)
    metrics = attribute_metrics(logits, labels, names, probs=decisions.probs, present=decisions.present)
    uncalibrated = uncalibrated_errors(logits, labels)
    measured = [error for error, one in zip(uncalibrated, metrics.per_attribute, strict=True) if one.few]
    counted: tuple[int | None, int | None] = None, None  # an exported file's network is not known
    if not isinstance(tagger.network, ExportedNetwork):
        counted = count_module(tagger.network, (1, 3, tagger.resolution, tagger.resolution))
    values: dict[str, float | None] = {
        **metrics.values,
        "mean_ece_uncalibrated": mean([error for error in measured if error is not None]),
        "mult_adds": counted[0],
        "params": counted[1],
    }
    alike: list[Agreement] = []
    if teacher:
        alike, more = _compare(tagger, teacher, split, config, metrics=metrics, decisions=decisions)
        values |= more
    groups = _subgroups(config.subgroup, split, logits, labels, names, decisions) if config.subgroup else None
    return Evaluation(
        model=str(config.checkpoint),
        tagger=tagger,
        split=split,
        logits=logits,
        labels=labels,
        decisions=decisions,
        metrics=metrics,
        uncalibrated=uncalibrated,
        values=values,
        undecided=undecided,
        teacher=str(config.teacher) if teacher else "",
        agreement=alike,
        subgroups=groups,
    )


def _wanted(tagger: Tagger, subgroup: str | None) -> list[str]:
    """The tagger's attributes, and the one that makes the groups if it is another."""
    keys = {attribute_key(name) for name in tagger.attributes}
    return [*tagger.attributes, *([subgroup] if subgroup and attribute_key(subgroup) not in keys else [])]


def _subgroups(
    by: str, split: AttributeSplit, logits: Tensor, labels: Tensor, names: Sequence[str], decisions: Decisions
) -> Subgroups:
    (column,) = (i for i, name in enumerate(split.attributes) if attribute_key(name) == attribute_key(by))
    group = torch.from_numpy(split.labels[:, column])
    return subgroup_metrics(
        logits,
        labels,
        names,
        probs=decisions.probs,
        present=decisions.present,
        by=split.attributes[column],
        group=group,
    )


def _shared(tagger: Tagger, teacher: Tagger) -> list[str]:
    """The attributes that both know.

    Raises:
        ValueError: none.
    """
    shared = [name for name in tagger.attributes if name in teacher.attributes]
    if not shared:
        raise ValueError(f"--teacher knows none of the attributes {', '.join(tagger.attributes)}")
    return shared


def _compare(
    tagger: Tagger, teacher: Tagger, split: AttributeSplit, config: Config, *, metrics: Metrics, decisions: Decisions
) -> tuple[list[Agreement], dict[str, float | None]]:
    """The agreement of both on their common attributes, and its means."""
    shared = _shared(tagger, teacher)
    mine = [tagger.attributes.index(name) for name in shared]
    theirs = [teacher.attributes.index(name) for name in shared]
    logits = predict_photos(
        teacher, split.paths, name="teacher", batch_size=config.batch_size, num_workers=config.num_workers
    )
    said = decide(teacher, logits)
    probs, present = said.probs[:, theirs], said.present[:, theirs]
    labels = torch.from_numpy(split.labels[:, mine])
    of_teacher = attribute_metrics(logits[:, theirs], labels, shared, probs=probs, present=present)
    own = dataclasses.replace(metrics, per_attribute=[metrics.per_attribute[a] for a in mine])
    alike = agreement(own, decisions.probs[:, mine], decisions.present[:, mine], of_teacher, probs, present)
    more = {
        "teacher_mean_ap": of_teacher.values["mean_ap"],
        "teacher_same": mean([one.same for one in alike]),
        "teacher_difference": mean([one.difference for one in alike]),
    }
    return alike, more


def write_results(out: Path, evaluation: Evaluation, both: Comparison | None) -> None:
    """Write metrics.json, predictions.csv and report.html."""
    tagger, split, names = evaluation.tagger, evaluation.split, evaluation.tagger.attributes
    per_attribute = [
        {**one._asdict(), "ece_uncalibrated": error, "threshold": threshold, "temperature": temperature}
        for one, error, threshold, temperature in zip(
            evaluation.metrics.per_attribute,
            evaluation.uncalibrated,
            tagger.thresholds,
            tagger.temperatures,
            strict=True,
        )
    ]
    groups = evaluation.subgroups
    content = {
        "model": evaluation.model,
        "split": split.name,
        "num_skipped": len(split.skipped),
        **evaluation.values,
        **evaluation.figures.as_json(),
        **(both.as_json() if both else {}),
        "calibrated": evaluation.decisions.by,
        "not_measured": evaluation.metrics.not_measured,
        "per_attribute": per_attribute,
        "teacher": evaluation.teacher or None,
        "agreement": [one._asdict() for one in evaluation.agreement],
        "subgroups": groups and groups.as_json(),
    }
    save_json(out / "metrics.json", content)
    header = ["file", *(cell for name in names for cell in (name, f"{name} prob", f"{name} said"))]
    write_csv(out / "predictions.csv", header, _prediction_rows(evaluation))
    write_report(out / "report.html", evaluation)


def _prediction_rows(evaluation: Evaluation) -> list[list[object]]:
    """Path, and for each attribute the label (1, 0 or nothing), the probability and what is predicted (1 or 0)."""
    labels, decisions = evaluation.labels.tolist(), evaluation.decisions
    rows: list[list[object]] = []
    for i, (probs, present) in enumerate(zip(decisions.probs.tolist(), decisions.present.tolist(), strict=True)):
        cells: list[object] = [evaluation.split.paths[i]]
        for label, prob, said in zip(labels[i], probs, present, strict=True):
            cells += ["" if label == UNKNOWN else label, f"{prob:.6f}", int(said)]
        rows.append(cells)
    return rows


def describe(evaluation: Evaluation) -> str:
    """The main numbers as lines of text."""
    value, tagger = evaluation.values, evaluation.tagger
    width = max(len(name) for name in (*tagger.attributes, "mean"))
    lines = [f"{'':{width}}   known  have it     AP  balanced     F1  threshold"]
    for one, threshold in zip(evaluation.metrics.per_attribute, tagger.thresholds, strict=True):
        numbers = f"{_shown(one.ap):>5}  {_shown(one.balanced_accuracy):>8}  {_shown(one.f1):>5}  {threshold:9.3f}"
        lines.append(f"{one.name:{width}}  {one.known:6,}  {one.positive:7,}  {numbers}")
    means = [_shown(value[f"mean_{what}"]) for what in ("ap", "balanced_accuracy", "f1")]
    lines.append(f"{'mean':{width}}  {'':6}  {'':7}  {means[0]:>5}  {means[1]:>8}  {means[2]:>5}")
    lines += filter(None, [evaluation.figures.describe()])
    if evaluation.metrics.not_measured:
        names = ", ".join(evaluation.metrics.not_measured)
        lines.append(f"not in the mean, since not known both present and absent: {names}")
    errors = f"{_shown(value['mean_ece'])}, at temperature 1 {_shown(value['mean_ece_uncalibrated'])}"
    lines.append(f"calibration error {errors} ({evaluation.decisions.by})")
    if evaluation.undecided:
        lines.append(f"too few photos for a threshold, which stays 0.5: {', '.join(evaluation.undecided)}")
    if evaluation.agreement:
        same, difference = _shown(value["teacher_same"]), _shown(value["teacher_difference"])
        teacher = _shown(value["teacher_mean_ap"])
        lines.append(f"teacher: mean AP {teacher}, {same} equal decisions, probabilities differ by {difference}")
    if evaluation.subgroups:
        lines += evaluation.subgroups.describe()
    return "\n".join(map(printable, lines))


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"
