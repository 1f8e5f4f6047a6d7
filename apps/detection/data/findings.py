"""check.py's findings about annotated photos: duplicates, sizes, objects and classes.

Letters in shapes: N boxes of an image.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from apps.common.data.findings import Finding, Level
from apps.common.data.photos import PhotoFacts
from apps.common.data.problems import Problem
from apps.common.data.tables import SPLITS
from apps.detection.data.coco_split import ImageRecord
from apps.detection.data.listing import OTHER_SIZE

SMALL, MEDIUM = 32.0**2, 96.0**2  # COCO's limits of an object's area, in pixels of the photo
SIZES = ("small", "medium", "large")


class Photo(NamedTuple):
    """A photo with its split, its objects and the facts about its file."""

    split: str
    record: ImageRecord
    facts: PhotoFacts

    def __str__(self) -> str:
        return f"{self.record.path} ({self.split})"


class Counts(NamedTuple):
    """Counts of a class in a split: objects by size, in pixels of the photo, and crowds."""

    small: int = 0
    medium: int = 0
    large: int = 0
    crowds: int = 0

    @property
    def objects(self) -> int:
        """Without crowds."""
        return self.small + self.medium + self.large


CountTable = dict[str, dict[str, Counts]]


def count_objects(areas: Iterable[tuple[str, str, float, bool]], class_names: Sequence[str]) -> CountTable:
    """{class: {split: counts}} of (split, class, area in pixels, crowd) for each object."""
    numbers: Counter[tuple[str, str, int]] = Counter()
    for split, name, area, crowd in areas:
        numbers[split, name, 3 if crowd else (area >= SMALL) + (area >= MEDIUM)] += 1
    splits = in_order({split for split, _, _ in numbers})
    return {
        name: {split: Counts(*(numbers[split, name, k] for k in range(4))) for split in splits} for name in class_names
    }


def in_order(splits: Iterable[str]) -> list[str]:
    """train, val, test, then others by name."""
    there = set(splits)
    return [split for split in SPLITS if split in there] + sorted(there - set(SPLITS))


def rank_of(split: str) -> int:
    """The rank of a split; the highest one keeps a photo that is in two of them: test before val before train."""
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def problem_findings(problems: Sequence[Problem]) -> list[Finding]:
    """The problems by kind."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem.sentence)
    return [Finding("error", kind, sentences) for kind, sentences in kinds.items()]


def agree(group: Sequence[Photo]) -> bool:
    """Whether copies have the same objects, to the pixel."""
    return len({tuple(sorted(object_keys(photo.record))) for photo in group}) == 1


def object_keys(record: ImageRecord) -> list[tuple[int, ...]]:
    """Each object's label and box in whole pixels."""
    boxes = np.rint(record.boxes_xyxy_px).astype(int).tolist()
    return [(label, *box) for label, box in zip(record.labels.tolist(), boxes, strict=True)]


def copy_findings(copies: Sequence[Sequence[Photo]]) -> list[Finding]:
    """Duplicates by the harm they do; a group may be in the first two findings."""
    kinds = [(" = ".join(map(str, group)), agree(group), len({photo.split for photo in group})) for group in copies]
    return [
        Finding("error", "pictures in more than one split", [text for text, _, splits in kinds if splits > 1]),
        Finding("error", "copies of a picture with other objects", [text for text, same, _ in kinds if not same]),
        Finding("warning", "pictures twice in one split", [t for t, same, splits in kinds if same and splits == 1]),
    ]


def size_matches(photo: Photo) -> bool:
    """Whether the photo has the annotated size, after rotation by EXIF or as stored."""
    size, facts = (photo.record.width, photo.record.height), photo.facts
    return size == (facts.width, facts.height) or annotated_as_stored(photo)


def annotated_as_stored(photo: Photo) -> bool:
    """Whether the annotation fits the picture before its EXIF tag rotates it by 90 degrees."""
    size, facts = (photo.record.width, photo.record.height), photo.facts
    return facts.orientation > 4 and size == (facts.height, facts.width) and facts.height != facts.width


def is_empty(photo: Photo, spoilt: Container[Path]) -> bool:
    """Whether a photo has no objects, not even unusable ones: `spoilt` are the photos with problems."""
    return not len(photo.record.labels) and photo.record.path not in spoilt


def photo_findings(photos: Sequence[Photo], spoilt: Container[Path]) -> list[Finding]:
    """Findings about photos together with their objects; `spoilt` are the photos with problems."""
    readable = [photo for photo in photos if photo.facts.problem is None]
    other_size = [
        f"{photo}: {photo.facts.width}x{photo.facts.height} pixels, "
        f"its annotation says {photo.record.width}x{photo.record.height}"
        for photo in readable
        if not size_matches(photo)
    ]
    twice, two_classes = [], []
    for photo in photos:
        keys = object_keys(photo.record)
        if len(set(keys)) < len(keys):
            again = next(key for key, count in Counter(keys).items() if count > 1)
            twice.append(f"{photo}: {len(keys) - len(set(keys))}, as {list(again[1:])} (xyxy)")
        boxes = Counter(key[1:] for key in set(keys))
        if len(boxes) < len(set(keys)):
            box = next(box for box, count in boxes.items() if count > 1)
            two_classes.append(f"{photo}: {list(box)} (xyxy)")
    return [
        Finding("error", OTHER_SIZE, other_size),
        Finding("warning", "photos with an object that is there twice", twice),
        Finding("warning", "photos with a box of two classes", two_classes),
        Finding("note", "photos without objects", [str(photo) for photo in photos if is_empty(photo, spoilt)]),
        Finding(
            "note",
            "photos annotated as they are stored, not as EXIF turns them",
            [str(photo) for photo in readable if annotated_as_stored(photo)],
        ),
    ]


def class_findings(counts: CountTable, *, min_objects: int) -> list[Finding]:
    """Classes without objects, or with few."""
    splits = in_order({split for of_split in counts.values() for split in of_split})
    total = {name: sum(count.objects for count in of_split.values()) for name, of_split in counts.items()}
    if not any(total.values()):
        return [Finding("error", "data without an object to learn", [f"none of {', '.join(total)}"])]
    findings = [Finding("note", "classes without an object", [name for name, count in total.items() if not count])]
    for split in splits:
        here = {name: of_split[split].objects for name, of_split in counts.items() if total[name]}
        level: Level = "error" if split == "train" else "warning"
        missing = [f"{name}: {total[name]:,} in other splits" for name, count in here.items() if not count]
        findings.append(Finding(level, f"classes without an object in {split}", missing))
        if split == "train":
            few = [f"{name}: {count}" for name, count in here.items() if 0 < count < min_objects]
            findings.append(Finding("warning", f"classes with fewer than {min_objects} objects in train", few))
    return findings
