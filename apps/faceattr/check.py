"""Check sets of labelled faces for errors before training.

    python apps/faceattr/check.py --data PATH [PATH ...]           folders or lists of labels, as for train.py
    python apps/faceattr/check.py --data PATH [PATH ...] --fix     and write PATH-clean.csv, which train.py reads
    python apps/faceattr/check.py --data PATH --checkpoint RUN      and list labels that a model disagrees with

Opens every photo and changes none. Exit code 1 if there are errors, which would make training or its metrics wrong,
else 0; 2 for wrong input.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.common.cli import run_command, say
from apps.common.options import CheckOptions
from apps.faceattr.choices import TEST_FRACTION, VAL_FRACTION


@dataclass(frozen=True, kw_only=True)
class Config(CheckOptions):
    """Check sets of labelled faces for errors.

    example: python apps/faceattr/check.py --data PATH
    """

    data: tuple[str, ...]
    """folders or lists of labels (see layouts.py), or "sample": the embedded set"""
    out: Path | None = None
    """folder for check.json; default runs/faceattr/check-NAME"""
    fix: bool = False
    """write NAME-clean.csv beside the first set: the photos without errors and copies"""
    min_known: int = 100
    """number of photos in a split with a known value of an attribute, below which there is a warning"""
    min_rarer: int = 20
    """number of photos in a split with, and without, an attribute, below which there is a warning"""
    val_fraction: float = VAL_FRACTION
    """share that becomes val where a set has none"""
    test_fraction: float = TEST_FRACTION
    """share that becomes test where a set has no splits"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.check:main", Config)

from apps.common.data.copies import find_duplicates
from apps.common.data.findings import (
    Finding,
    exit_on_errors,
    file_findings,
    photos_outside,
    print_findings,
    refuse_negative,
    save_findings,
    worst_first,
)
from apps.common.data.near_findings import near_findings
from apps.common.data.photos import PhotoFacts, inspect_photos
from apps.common.data.problems import some_of
from apps.common.data.tables import SPLITS
from apps.common.evaluation.suspects import Suspect, load_reviewer, write_suspects
from apps.common.images import read_image
from apps.faceattr.data.batches import to_square
from apps.faceattr.data.findings import (
    CountTable,
    contradicted,
    copy_findings,
    count_findings,
    count_labels,
    label_findings,
)
from apps.faceattr.data.listing import FaceListing, attribute_key
from apps.faceattr.data.load import list_data, load_splits
from apps.faceattr.data.splits import assign_splits, people_of, rank_of
from apps.faceattr.evaluation.suspects import find_suspects
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import APP, Tagger
from apps.faceattr.sample import make_sample
from backbone.files import written_whole

SIDE = 144  # of a suspect's picture, pixels


def check(config: Config) -> list[Finding]:
    """Open every photo, print what is wrong, write check.json (and the clean CSV), and return the findings."""
    refuse_negative(config, "examples", "min_known", "min_rarer", "min_side")
    listing = list_data([make_sample() if source == "sample" else source for source in config.data])
    assigned = assign_splits(
        listing,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        group_by=config.group_by,
    )
    splits = assigned.splits
    facts = inspect_photos(listing.paths, num_workers=config.num_workers)
    copies = find_duplicates(range(len(facts)), facts)
    name, out = name_of(config), folder_of(config)
    counts = count_labels(listing, splits)
    findings = worst_first(
        [
            *file_findings(facts, min_side=config.min_side),
            Finding("error", "rows, photos or columns that cannot be used", [p.sentence for p in listing.problems]),
            *copy_findings(listing, splits, copies),
            *near_findings(
                [f"{f.path} ({s})" for f, s in zip(facts, splits, strict=True)], splits, facts, out / "near.jpg"
            ),
            *count_findings(counts, min_known=config.min_known, min_rarer=config.min_rarer),
            *label_findings(listing, facts, min_rarer=config.min_rarer),
            photos_outside(
                [source.parent.parent if source.parent.name == "Anno" else source.parent for source in listing.sources],
                listing.paths,
            ),
            Finding("note", "about the lists", [*listing.notes, *([assigned.note] if assigned.note else [])]),
        ]
    )
    print_report(listing, splits, counts)
    print_findings(findings, examples=config.examples)
    save_findings(
        out / "check.json",
        findings,
        data=list(config.data),
        layout=listing.layout,
        num_photos={split: splits.count(split) for split in SPLITS if split in splits},
        attributes={
            name: {split: count._asdict() for split, count in of_split.items()} for name, of_split in counts.items()
        },
    )
    print(f"all cases are in {out / 'check.json'}")
    if config.fix:
        kept = clean_rows(listing, splits, facts, copies)
        write_clean(Path(os.path.abspath(config.data[0])).parent / f"{name}-clean.csv", listing, splits, kept)
    return findings


def print_report(listing: FaceListing, splits: Sequence[str], counts: CountTable) -> None:
    """Photos, people, and for each attribute the known labels and the positive share."""
    there = [name for name in SPLITS if name in splits]
    print(f"{listing.name}: {listing.layout}, {len(splits):,} photos, {len(counts)} attributes\n")
    width = max(len(name) for name in [*counts, "attribute"])
    print(f"{'':{width}}" + "".join(f"{split:>17}" for split in there))
    print(f"{'photos':{width}}" + "".join(f"{splits.count(split):17,}" for split in there))
    if any(identity is not None for identity in listing.identities):
        pairs = set(zip(splits, listing.identities, strict=True))
        people = [sum(s == split and identity is not None for s, identity in pairs) for split in there]
        print(f"{'people':{width}}" + "".join(f"{count:17,}" for count in people))
    print(f"{'attribute':{width}}" + f"{'known':>9}{'have it':>8}" * len(there))
    for name, of_split in counts.items():
        cells = (of_split[split] for split in there)
        shares = (f"{c.known:9,}" + (f"{c.positive / c.known:8.1%}" if c.known else f"{'-':>8}") for c in cells)
        say(f"{name:{width}}" + "".join(shares))


def clean_rows(
    listing: FaceListing, splits: Sequence[str], facts: Sequence[PhotoFacts], copies: Sequence[Sequence[int]]
) -> list[int]:
    """Indices of readable photos, without duplicates, and without people who are also in a preferred split.

    Test is preferred to val, and val to train, so that the evaluation splits are unchanged. One of several duplicates
    is kept; if their labels contradict each other none is kept, since it is unknown which labels are right.
    """
    dropped = {i for i, fact in enumerate(facts) if fact.problem is not None}
    for group in copies:
        best = max(group, key=lambda i: rank_of(splits[i]))
        dropped |= set(group) - (set() if contradicted(listing, group) else {best})
    for group in people_of(listing).values():
        left = [i for i in group if i not in dropped]
        highest = max((rank_of(splits[i]) for i in left), default=0)
        dropped |= {i for i in left if rank_of(splits[i]) < highest}
    return [i for i in range(len(splits)) if i not in dropped]


def write_clean(path: Path, listing: FaceListing, splits: Sequence[str], rows: Sequence[int]) -> None:
    """Write a table of these photos (columns file, the attributes, split, identity; paths as seen from there).

    Raises:
        ValueError: nothing is left to write.
    """
    if not rows:
        raise ValueError(f"{listing.name}: no photo is left to write to {path.name}")
    words = {1: "1", 0: "-1", -1: ""}
    people = ["identity"] if any(identity is not None for identity in listing.identities) else []
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", *listing.attributes, "split", *people))
        for i in rows:
            relative_path = Path(os.path.relpath(listing.paths[i], path.parent)).as_posix()
            labels = [words[label] for label in listing.labels[i].tolist()]
            writer.writerow((relative_path, *labels, splits[i], *([listing.identities[i] or ""] if people else [])))
    print(f"{path} has {len(rows):,} of {len(splits):,} photos; no photo was changed")


def name_of(config: Config) -> str:
    """Of all sets together."""
    return "+".join(Path(os.path.abspath(source)).stem for source in config.data)


def folder_of(config: Config) -> Path:
    """Where the results go."""
    return config.out or Path("runs/faceattr") / f"check-{name_of(config)}"


def list_suspects(config: Config, tagger: Tagger) -> list[Suspect]:
    """Write suspects.html and suspects.json: labels that a model disagrees with, the most confident first."""
    data = [make_sample() if source == "sample" else source for source in config.data]
    fractions = {"val_fraction": config.val_fraction, "test_fraction": config.test_fraction}
    given: dict[str, Any] = {**fractions, "seed": config.seed, "group_by": config.group_by}
    listing = list_data(data)
    there = {attribute_key(name) for name in listing.attributes}
    shared = [name for name in tagger.attributes if attribute_key(name) in there]
    if not shared:
        raise ValueError(
            f"{listing.name} has none of the model's attributes {some_of(tagger.attributes)}; it has "
            f"{some_of(listing.attributes)}"
        )
    splits = assign_splits(listing, **given).splits
    names = [name for name in SPLITS if name in splits]
    suspects: list[Suspect] = []
    for split in load_splits(data, names, attributes=shared, bad_data="skip", open_photos=True, **given):
        print(split.describe())
        logits = predict_photos(
            tagger, split.paths, name=split.name, batch_size=32, num_workers=config.num_workers or 2
        )
        probs = tagger.calibrated(logits)[:, [tagger.attributes.index(name) for name in shared]]
        suspects += find_suspects(split, probs)
    return write_suspects(
        folder_of(config),
        suspects,
        about={"model": str(config.checkpoint), "data": " ".join(config.data)},
        draw=lambda one: to_square(read_image(one.path), SIDE),
        shown=config.examples,
    )


def main(config: Config) -> None:
    """The command: exit code 1 if there are errors."""
    tagger = load_reviewer(config, APP, Tagger.load)
    findings = check(config)
    if tagger:
        list_suspects(config, tagger)
    exit_on_errors(findings)
