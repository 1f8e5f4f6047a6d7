"""Check annotated photos for errors before training.

    python apps/detection/check.py --data PATH           a folder, COCO json file or data.yaml, as for train.py
    python apps/detection/check.py --data PATH --fix     and write PATH-clean.json, which train.py reads as --data
    python apps/detection/check.py --data PATH --checkpoint RUN     and list labels that a trained model disagrees with

Opens every photo and changes none. Writes check.json (all cases), boxes.jpg (some photos with their objects),
problems.jpg (photos with unusable objects), near.jpg (near-duplicates), and with --checkpoint suspects.html and
suspects.json. Exit code 1 if there are errors, which would make training or its metrics wrong, else 0; 2 for wrong
input.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.common.cli import run_command, say
from apps.common.options import CheckOptions
from apps.detection.choices import VAL_FRACTION


@dataclass(frozen=True, kw_only=True)
class Config(CheckOptions):
    """Check annotated photos for errors.

    example: python apps/detection/check.py --data PATH
    """

    data: str
    """folder with COCO, Pascal VOC or YOLO annotations, COCO json file, data.yaml, or "sample": the embedded set"""
    out: Path | None = None
    """folder for check.json and the pictures; default runs/detection/check-NAME"""
    fix: bool = False
    """write NAME-clean.json beside the data: without errors, copies and duplicate objects"""
    min_objects: int = 10
    """smallest number of objects of a class in train without a warning"""
    val_fraction: float = VAL_FRACTION
    """share of train that becomes val where the data has none"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.detection.check:main", Config)

import cv2
import numpy as np

from apps.common.data.copies import find_duplicates
from apps.common.data.findings import (
    Finding,
    exit_on_errors,
    file_findings,
    photos_outside,
    print_findings,
    refuse_negative,
    save_findings,
    similar_names,
    worst_first,
)
from apps.common.data.near_findings import near_findings
from apps.common.data.photos import evenly_spaced, inspect_photos
from apps.common.data.problems import Problem
from apps.common.evaluation.suspects import Suspect, load_reviewer, write_suspects
from apps.common.images import read_image
from apps.common.pictures import put_box, write_contact_sheet
from apps.detection.data.checks import Checked, check_part, check_split
from apps.detection.data.clean import write_clean
from apps.detection.data.coco_classes import match_names
from apps.detection.data.coco_files import data_folder
from apps.detection.data.coco_split import ImageRecord
from apps.detection.data.findings import (
    SIZES,
    Counts,
    CountTable,
    Photo,
    class_findings,
    copy_findings,
    count_objects,
    in_order,
    photo_findings,
    problem_findings,
)
from apps.detection.data.listing import NO_SIZE, Part
from apps.detection.data.load import find_data, joined_class_names, read_parts
from apps.detection.evaluation.metrics import crowded_note
from apps.detection.evaluation.suspects import draw_suspect, find_suspects
from apps.detection.model.detector import Detector
from apps.detection.model.inference import predict_split
from apps.detection.model.pretrained import APP
from apps.detection.sample import make_sample

SHEET_PHOTOS, SHEET_HEIGHT = 30, 240
GOOD, CROWD, WRONG = (255, 255, 80), (160, 160, 160), (255, 60, 60)  # RGB


def check(config: Config) -> list[Finding]:
    """Open every photo, print what is wrong, write check.json and the pictures, and return the findings."""
    refuse_negative(config, "examples", "min_objects", "min_side")
    root = make_sample() if config.data == "sample" else Path(config.data)
    layout = find_data(root)
    parts = read_parts(layout, val_fraction=config.val_fraction, seed=config.seed, group_by=config.group_by)
    class_names = joined_class_names(parts)
    checked = [check_part(part, class_names) for part in parts]
    problems = [problem for one in checked for problem in one.problems]
    records = [(str(part.split), record) for part, one in zip(parts, checked, strict=True) for record in one.records]
    paths = [record.path for _, record in records] + [p.path for p in problems if p.kind == NO_SIZE and p.path]
    facts = {fact.path: fact for fact in inspect_photos(list(dict.fromkeys(paths)), num_workers=config.num_workers)}
    photos = [Photo(split, record, facts[record.path]) for split, record in records]
    problems = [p for p in problems if p.kind != NO_SIZE or (p.path and not facts[p.path].problem)]
    spoilt = {problem.path for problem in problems if problem.path}
    copies = find_duplicates(photos, [photo.facts for photo in photos])
    out = folder_of(config)
    counts = count_objects(list_areas(parts, checked, class_names), class_names)
    notes = [note for part, one in zip(parts, checked, strict=True) for note in (*part.notes, *one.notes)]
    for split in in_order(photo.split for photo in photos):
        objects = (int((~p.record.is_crowd).sum()) for p in photos if p.split == split)
        notes += [note] if (note := crowded_note(split, objects)) else []
    findings = worst_first(
        [
            *file_findings(list(facts.values()), min_side=config.min_side),
            *problem_findings(problems),
            *copy_findings(copies),
            *near_findings(photos, [p.split for p in photos], [p.facts for p in photos], out / "near.jpg"),
            *photo_findings(photos, spoilt),
            *class_findings(counts, min_objects=config.min_objects),
            similar_names(class_names),
            photos_outside([data_folder(layout.source)], facts),
            Finding("note", "about the data", list(dict.fromkeys(notes))),
        ]
    )
    print_report(f"{layout.source}: {layout.name}", photos, counts)
    print_findings(findings, examples=config.examples)
    split_names = [photo.split for photo in photos]
    save_findings(
        out / "check.json",
        findings,
        data=config.data,
        layout=layout.name,
        num_photos={split: split_names.count(split) for split in in_order(split_names)},
        classes={
            name: {split: {"objects": count.objects, **count._asdict()} for split, count in of_split.items()}
            for name, of_split in counts.items()
        },
    )
    sheets = write_sheets(out, photos, problems, class_names)
    print(f"all cases are in {out / 'check.json'}, pictures in {', '.join(path.name for path in sheets) or 'none'}")
    if config.fix:
        write_clean(Path(os.path.abspath(root)), parts, class_names, photos, copies, spoilt)
    return findings


def list_areas(
    parts: Sequence[Part], checked: Sequence[Checked], class_names: Sequence[str]
) -> Iterator[tuple[str, str, float, bool]]:
    """Split, class, area in pixels and crowd of each object."""
    for part, one in zip(parts, checked, strict=True):
        names = dict(zip(one.category_ids, class_names, strict=True))
        for annotation in one.annotations:
            yield str(part.split), names[annotation["category_id"]], annotation["area"], bool(annotation["iscrowd"])


def print_report(title: str, photos: Sequence[Photo], counts: CountTable) -> None:
    """Photos, and the objects of each class by split and by size."""
    splits = in_order(photo.split for photo in photos)
    of_split = [sum(photo.split == split for photo in photos) for split in splits]
    print(f"{title}, {len(photos):,} photos, classes: {len(counts):,}; objects without crowds, sizes as COCO's\n")
    width = max(len(name) for name in [*counts, "objects"])
    print(f"{'':{width}}" + "".join(f"{head:>9}" for head in (*splits, *SIZES, "crowds")))
    print(f"{'photos':{width}}" + "".join(f"{count:9,}" for count in of_split))
    rows: dict[str, list[int]] = {}
    for name, count in counts.items():
        sums = [sum(values) for values in zip(*count.values(), strict=True)] or [0] * 4
        rows[name] = [*(count.get(split, Counts()).objects for split in splits), *sums]
    rows["total"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for name, numbers in rows.items():
        say(f"{name:{width}}" + "".join(f"{count:9,}" for count in numbers))


def write_sheets(
    out: Path, photos: Sequence[Photo], problems: Sequence[Problem], class_names: Sequence[str]
) -> list[Path]:
    """Write boxes.jpg, of photos evenly spaced in the data, and problems.jpg, with unusable boxes in red."""
    wrong: dict[Path, list[Problem]] = {}
    for problem in problems:
        if problem.path and problem.box_xyxy_px:
            wrong.setdefault(problem.path, []).append(problem)
    good = [photo for photo in photos if photo.facts.problem is None and len(photo.record.labels)]
    some = [good[i] for i in evenly_spaced(len(good), SHEET_PHOTOS)]
    bad = [photo for photo in photos if photo.record.path in wrong and photo.facts.problem is None][:SHEET_PHOTOS]
    sheets = []
    for name, shown in (("boxes.jpg", some), ("problems.jpg", bad)):
        (out / name).unlink(missing_ok=True)
        if shown:
            pictures = (draw_photo(photo, wrong.get(photo.record.path, []), class_names) for photo in shown)
            write_contact_sheet(out / name, pictures)
            sheets.append(out / name)
    return sheets


def draw_photo(photo: Photo, wrong: Sequence[Problem], class_names: Sequence[str]) -> np.ndarray:
    """A photo (SHEET_HEIGHT, W, 3) RGB with its objects, crowds in gray and unusable boxes in red."""
    record = photo.record
    as_stored = photo.facts.orientation > 4 and (record.width, record.height) != (photo.facts.width, photo.facts.height)
    image = read_image(record.path, orient=not as_stored)
    scale = SHEET_HEIGHT / image.shape[0]
    width = max(round(image.shape[1] * scale), 8)
    picture = cv2.resize(image, (width, SHEET_HEIGHT), interpolation=cv2.INTER_AREA)
    scales = np.array([width / record.width, SHEET_HEIGHT / record.height] * 2)

    for box, label, crowd in zip(record.boxes_xyxy_px, record.labels.tolist(), record.is_crowd, strict=True):
        put_box(picture, box * scales, CROWD if crowd else GOOD, class_names[label - 1])
    for problem in wrong:
        assert problem.box_xyxy_px is not None
        put_box(picture, np.asarray(problem.box_xyxy_px) * scales, WRONG, problem.kind, thickness=2)
    return picture


def folder_of(config: Config) -> Path:
    """Where the results go."""
    return config.out or Path("runs/detection") / f"check-{Path(os.path.abspath(config.data)).stem}"


def list_suspects(config: Config, detector: Detector) -> list[Suspect]:
    """Write suspects.html and suspects.json: annotations that a detector disagrees with, the most confident first."""
    layout = find_data(make_sample() if config.data == "sample" else Path(config.data))
    parts = read_parts(layout, val_fraction=config.val_fraction, seed=config.seed, group_by=config.group_by)
    class_names = joined_class_names(parts)
    suspects: list[Suspect] = []
    records: dict[tuple[str, Path], ImageRecord] = {}
    for part in parts:
        split = check_split(part, class_names, bad_data="skip", places=True)
        results = predict_split(detector, split, batch_size=16, num_workers=config.num_workers or 2)
        matched = match_names(detector.class_names, class_names)
        suspects += find_suspects(split, results, {split.category_ids[i] for i in matched if i is not None})
        records |= {(split.name, record.path): record for record in split.records}
    return write_suspects(
        folder_of(config),
        suspects,
        about={"model": str(config.checkpoint), "data": config.data},
        draw=lambda one: draw_suspect(one, records[one.split, one.path]),
        shown=config.examples,
    )


def main(config: Config) -> None:
    """The command: exit code 1 if there are errors."""
    detector = load_reviewer(config, APP, Detector.load)
    findings = check(config)
    if detector:
        list_suspects(config, detector)
    exit_on_errors(findings)
