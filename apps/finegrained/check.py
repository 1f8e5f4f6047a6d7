"""Check a data set of labelled photos for errors before training.

    python apps/finegrained/check.py --data PATH           a folder, a CSV file or a name, as for train.py
    python apps/finegrained/check.py --data PATH --fix     and write PATH-clean.csv, which train.py reads as --data
    python apps/finegrained/check.py --data PATH --checkpoint RUN     and list labels that a model disagrees with

Opens every photo (about 800 per second and core at 200 to 300 pixels) and changes none. Exit code 1 if there are
errors, which would make training or its metrics wrong, else 0; 2 for wrong input.
"""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.common.cli import run_command, say
from apps.common.options import CheckOptions
from apps.finegrained.choices import VAL_FRACTION


@dataclass(frozen=True, kw_only=True)
class Config(CheckOptions):
    """Check a data set of labelled photos for errors.

    example: python apps/finegrained/check.py --data PATH
    """

    data: str
    """a folder, a CSV file, the name of a data set (see layouts.py, known_sets.py), or "sample": the embedded set"""
    out: Path | None = None
    """folder for check.json; default runs/finegrained/check-NAME"""
    fix: bool = False
    """write NAME-clean.csv beside the data: the photos without errors and copies"""
    min_photos: int = 5
    """smallest number of photos of a class in train without a warning"""
    max_imbalance: float = 10.0
    """highest ratio of the largest to the smallest class of train without a warning"""
    val_fraction: float = VAL_FRACTION
    """share of train that becomes val where the data has none"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.finegrained.check:main", Config)

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
from apps.common.data.photos import inspect_photos
from apps.common.evaluation.suspects import Suspect, load_reviewer, write_suspects
from apps.common.images import read_image
from apps.finegrained.data.batches import to_square
from apps.finegrained.data.findings import Checked, class_findings, copy_findings
from apps.finegrained.data.layouts import SPLITS
from apps.finegrained.data.listing import Listing
from apps.finegrained.data.load import list_data, load_splits
from apps.finegrained.data.splits import split_entries
from apps.finegrained.evaluation.suspects import find_suspects
from apps.finegrained.model.classifier import APP, Classifier
from apps.finegrained.model.inference import predict_photos
from apps.finegrained.sample import make_sample
from backbone.files import written_whole

SIDE = 224  # of a suspect's picture, pixels


def check(config: Config) -> list[Finding]:
    """Open every photo, print what is wrong, write check.json (and the clean CSV), and return the findings."""
    refuse_negative(config, "examples", "min_photos", "min_side")
    listing = list_data(str(make_sample()) if config.data == "sample" else config.data)
    splits, note = split_entries(listing, val_fraction=config.val_fraction, seed=config.seed, group_by=config.group_by)
    entries = [(entry, split) for split, group in splits.items() for entry in group]
    facts = inspect_photos([entry.path for entry, _ in entries], num_workers=config.num_workers)
    photos = [Checked(entry.class_name, split, fact) for (entry, split), fact in zip(entries, facts, strict=True)]
    copies = find_duplicates(photos, facts)
    counts = Counter((photo.class_name, photo.split) for photo in photos)
    out = folder_of(config)
    findings = [
        *file_findings(facts, min_side=config.min_side),
        Finding("error", "files, rows or folders that cannot be used", [p.sentence for p in listing.problems]),
        *copy_findings(copies),
        *near_findings(photos, [photo.split for photo in photos], facts, out / "near.jpg"),
        *class_findings(counts, list(splits), min_photos=config.min_photos, max_imbalance=config.max_imbalance),
        similar_names(sorted({name for name, _ in counts})),
        photos_outside([listing.folder], [fact.path for fact in facts]),
        Finding("note", "files skipped: no photos by their names", [p.sentence for p in listing.skipped]),
    ]
    findings = worst_first(findings)
    print_report(listing, counts, list(splits), note, findings, config.examples)
    save_findings(
        out / "check.json",
        findings,
        data=config.data,
        layout=listing.layout,
        num_photos={split: len(group) for split, group in splits.items()},
        classes={name: {split: counts[name, split] for split in splits} for name in sorted({c for c, _ in counts})},
    )
    print(f"all cases are in {out / 'check.json'}")
    if config.fix:
        write_clean(listing, photos, copies)
    return findings


def print_report(
    listing: Listing,
    counts: Counter[tuple[str, str]],
    splits: Sequence[str],
    note: str,
    findings: Sequence[Finding],
    examples: int,
) -> None:
    """The counts, then the findings, worst first, each with some of its cases."""
    classes = sorted({name for name, _ in counts})
    say(f"{listing.source}: {listing.layout}, {counts.total():,} photos of {len(classes):,} classes")
    print(f"{note}\n" * bool(note))
    width = max(len(name) for name in [*classes, "photos"])
    print(f"{'photos':{width}}" + "".join(f"{split:>8}" for split in splits))
    for name in classes:
        say(f"{name:{width}}" + "".join(f"{counts[name, split]:8,}" for split in splits))
    totals = [sum(counts[name, split] for name in classes) for split in splits]
    print(f"{'total':{width}}" + "".join(f"{total:8,}" for total in totals))
    print_findings(findings, examples=examples)


def clean_photos(photos: Sequence[Checked], copies: Sequence[Sequence[Checked]]) -> list[Checked]:
    """The photos that can be read and learnt, without duplicates.

    One of several duplicates with the same label is kept, preferably in test, then val, then train, so that the
    evaluation splits are unchanged; if their labels differ none is kept, since it is unknown which label is right.
    """
    dropped: set[int] = set()
    for group in copies:
        best = max(group, key=lambda photo: SPLITS.index(photo.split))
        agree = len({photo.class_name for photo in group}) == 1
        dropped |= {id(photo) for photo in group if not agree or photo is not best}
    kept = [photo for photo in photos if photo.facts.problem is None and id(photo) not in dropped]
    learnt = {photo.class_name for photo in kept if photo.split == "train"}
    return [photo for photo in kept if photo.class_name in learnt] if learnt else kept


def write_clean(listing: Listing, photos: Sequence[Checked], copies: Sequence[Sequence[Checked]]) -> Path:
    """Write NAME-clean.csv beside the data (columns file, label, split; paths as seen from there) and say so.

    Raises:
        ValueError: nothing is left to write.
    """
    source = Path(os.path.abspath(listing.source))
    path = source.parent / f"{source.stem if source.is_file() else source.name}-clean.csv"
    kept = clean_photos(photos, copies)
    if not kept:
        raise ValueError(f"{listing.source}: no photo is left to write to {path.name}")
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "label", "split"))
        for photo in kept:
            relative_path = Path(os.path.relpath(photo.facts.path, path.parent)).as_posix()
            writer.writerow((relative_path, photo.class_name, photo.split))
    print(f"{path} has {len(kept):,} of {len(photos):,} photos; no photo was changed")
    lost = {photo.class_name for photo in photos} - {photo.class_name for photo in kept}
    if lost:
        print(f"classes left out, since no photo of them is in train: {', '.join(sorted(lost))}")
    return path


def folder_of(config: Config) -> Path:
    """Where the results go."""
    return config.out or Path("runs/finegrained") / f"check-{Path(os.path.abspath(config.data)).stem}"


def list_suspects(config: Config, classifier: Classifier) -> list[Suspect]:
    """Write suspects.html and suspects.json: photos classified as another class, the most confident first."""
    data = str(make_sample()) if config.data == "sample" else config.data
    given: dict[str, Any] = {"val_fraction": config.val_fraction, "seed": config.seed, "group_by": config.group_by}
    names = list(split_entries(list_data(data), **given)[0])
    suspects: list[Suspect] = []
    for split in load_splits(
        data, names, class_names=classifier.class_names, bad_data="skip", open_photos=True, **given
    ):
        print(split.describe())
        workers = config.num_workers or 2
        logits = predict_photos(classifier, split.photos, name=split.name, batch_size=32, num_workers=workers)
        suspects += find_suspects(split, logits.double() / classifier.temperature)
    return write_suspects(
        folder_of(config),
        suspects,
        about={"model": str(config.checkpoint), "data": config.data},
        draw=lambda one: to_square(read_image(one.path), SIDE, 1.0),
        shown=config.examples,
    )


def main(config: Config) -> None:
    """The command: exit code 1 if there are errors."""
    classifier = load_reviewer(config, APP, Classifier.load)
    findings = check(config)
    if classifier:
        list_suspects(config, classifier)
    exit_on_errors(findings)
