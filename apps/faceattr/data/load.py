"""One split of labelled faces, checked: what training and evaluation read.

    train, val = load_splits(["faces", "more/attributes.csv"], ("train", "val"))
    test = load_split(["faces"], "test", attributes=tagger.attributes)

Several sets may label different attributes: all are learnt, each from the photos of which it is known.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.choices import BadData
from apps.common.data.copies import find_copies
from apps.common.data.photos import find_photos, unreadable
from apps.common.data.problems import Problem, did_you_mean, refuse_problems, skipped_words, some_of
from apps.common.data.tables import SPLIT_OF_NAME, SPLITS
from apps.faceattr.choices import TEST_FRACTION, VAL_FRACTION
from apps.faceattr.data.layouts import list_faces
from apps.faceattr.data.listing import UNKNOWN, FaceListing, attribute_key, join_listings
from apps.faceattr.data.splits import Assignment, assign_splits, find_leaks

FEW_ATTRIBUTES = 8  # of so few, a line shows each


@dataclass(frozen=True, kw_only=True)
class AttributeSplit:
    """A split of N photos and A attributes, checked.

    Attributes:
        name: "train", "val" or "test".
        attributes: A names; all that the data has, or those that were asked for.
        paths: the photos.
        labels: (N, A) int8: 1 (the face has it), 0 (it has not), -1 (unknown).
        identities: who is on the photo, or None.
        skipped: a sentence for each row or photo that was left out.
        notes: remarks, such as that val was taken out of train.
    """

    name: str
    attributes: list[str]
    paths: list[Path]
    labels: np.ndarray
    identities: list[str | None]
    skipped: list[str]
    notes: tuple[str, ...] = ()

    def take(self, indices: Sequence[int]) -> "AttributeSplit":
        """The photos at these positions."""
        rows = list(indices)
        return replace(
            self,
            paths=[self.paths[i] for i in rows],
            labels=np.ascontiguousarray(self.labels[rows]),
            identities=[self.identities[i] for i in rows],
        )

    @property
    def known(self) -> np.ndarray:
        """(A,) photos of which an attribute is known."""
        return (self.labels != UNKNOWN).sum(axis=0)

    @property
    def positive(self) -> np.ndarray:
        """(A,) photos that have an attribute."""
        return (self.labels == 1).sum(axis=0)

    def describe(self) -> str:
        """A line with the counts, what is rare or unknown, and what was left out."""
        people = {identity for identity in self.identities if identity is not None}
        strangers = self.identities.count(None)
        line = f"{self.name}: {len(self.paths):,} photos"
        if people:
            line += f" of {len(people):,} people" + f" ({strangers:,} of nobody known)" * bool(strangers)
        counts = list(zip(self.attributes, self.known.tolist(), self.positive.tolist(), strict=True))
        if len(counts) <= FEW_ATTRIBUTES:
            line += ", " + ", ".join(f"{name} {positive:,} of {known:,}" for name, known, positive in counts)
        else:
            line += f", {len(counts)} attributes, {np.mean(self.labels != UNKNOWN):.0%} of the labels known"
        absent = [name for name, known, positive in counts if known and not positive]
        unknown = [name for name, known, _ in counts if not known]
        line += f"; no label of {some_of(unknown)}" * bool(unknown)
        line += f"; no photo with {some_of(absent)}" * bool(absent)
        line += "".join(f"; {note}" for note in self.notes)
        return line + skipped_words(self.skipped)


def load_split(data: Sequence[str | Path], split: str, **options: Any) -> AttributeSplit:
    """Read and check one split of one or more data sets; arguments and errors are those of `load_splits`."""
    return load_splits(data, (split,), **options)[0]


def load_splits(
    data: Sequence[str | Path],
    names: Sequence[str],
    *,
    attributes: Sequence[str] | None = None,
    bad_data: BadData = "refuse",
    open_photos: bool = False,
    val_fraction: float = VAL_FRACTION,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    group_by: str | None = None,
) -> list[AttributeSplit]:
    """Read data sets once and check some of their splits.

    A person or photo of val or test that is in train, too, is a problem of train; of test in val, of val.

    Args:
        data: folders or lists of labels in a layout of `layouts.py`.
        names: of train, val, test.
        attributes: those that are wanted, in this order; by default all. Spelling may differ in case, spaces, "_".
        bad_data: "refuse" stops at the first look, with all problems counted; "skip" leaves out the photos that have
            one, and lists them in `skipped`.
        open_photos: glance at each file: those that cannot be read are problems.
        val_fraction, test_fraction: shares of sets that have no such splits, see `assign_splits`.
        seed: of that choice.
        group_by: what keeps photos together in it, see `groups.find_groups`.

    Raises:
        ValueError: no such data, split or attribute, or problems and `bad_data` is "refuse"; the message names the
            file.
    """
    listing = _without_unreadable(list_data(data), names) if open_photos else list_data(data)
    assignment = assign_splits(
        listing, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, group_by=group_by
    )
    known = list(attributes) if attributes is not None else _learnable(listing, assignment, bad_data)
    asked = attributes is not None
    return [_take_split(listing, assignment, name, known, asked=asked, bad_data=bad_data) for name in names]


def find_unlabelled(folders: Sequence[str | Path]) -> list[Path]:
    """All photos of folders and of the folders within; none twice.

    Raises:
        ValueError: a folder is not there or holds no photo.
    """
    photos = (photo for folder in folders for photo in find_photos(Path(folder)))
    return list({os.path.abspath(photo): photo for photo in photos}.values())


def readable(paths: Sequence[Path], bad_data: BadData) -> list[Path]:
    """The photos without labels that can be read; a line says how many are skipped.

    Raises:
        ValueError: one cannot, and `bad_data` is "refuse".
    """
    bad = unreadable(paths)
    refuse_problems(list(bad.values()), bad_data)
    if bad:
        print(f"photos without labels{skipped_words(list(bad.values()))}")
    return [photo for i, photo in enumerate(paths) if i not in bad]


def without_known(paths: Sequence[Path], splits: Sequence[AttributeSplit]) -> tuple[list[Path], str]:
    """Photos without labels that are not in val or test as well, to the byte, and a sentence about the rest, or "".

    Args:
        splits: those that measure; the labels of train's photos do no harm here.
    """
    others = [path for split in splits if split.name != "train" for path in split.paths]
    groups = find_copies([*paths, *others], sides=[True] * len(paths) + [False] * len(others))
    out = {i for group in groups for i in group}
    kept = [path for i, path in enumerate(paths) if i not in out]
    lost = len(paths) - len(kept)
    note = f"{lost:,} of {len(paths):,} photos without labels are left out: they are in val or test" if lost else ""
    return kept, note


def measuring_splits(data: Sequence[str | Path], group_by: str | None = None) -> list[AttributeSplit]:
    """Those of val and test that the data has, whatever is wrong with them: what training must not see."""
    listing = list_data(data)
    assignment = assign_splits(listing, group_by=group_by)
    names = [name for name in ("val", "test") if name in assignment.splits]
    return load_splits(data, names, bad_data="skip", group_by=group_by) if names else []


def _without_unreadable(listing: FaceListing, splits: Sequence[str]) -> FaceListing:
    """The listing without photos of some splits that cannot be read, each of which becomes a problem."""
    wanted = {None, *(SPLIT_OF_NAME.get(name.lower()) for name in splits)}
    looked = [i for i, split in enumerate(listing.splits) if split in wanted]
    bad = {looked[i]: reason for i, reason in unreadable([listing.paths[i] for i in looked]).items()}
    if not bad:
        return listing
    kept = [i for i in range(len(listing.paths)) if i not in bad]
    problems = [Problem(reason, listing.splits[i], path=listing.paths[i]) for i, reason in bad.items()]
    return replace(
        listing,
        paths=[listing.paths[i] for i in kept],
        labels=np.ascontiguousarray(listing.labels[kept]),
        splits=[listing.splits[i] for i in kept],
        identities=[listing.identities[i] for i in kept],
        origins=[listing.origins[i] for i in kept],
        problems=[*listing.problems, *problems],
    )


def list_data(data: Sequence[str | Path]) -> FaceListing:
    """All labelled faces of some data sets, in all splits.

    Raises:
        ValueError: one of them is not there or not readable, or none is given.
    """
    if isinstance(data, str | Path):
        data = [data]
    if not data:
        raise ValueError("--data names no labelled faces")
    return join_listings([list_faces(Path(source)) for source in data])


def _learnable(listing: FaceListing, assignment: Assignment, bad_data: BadData) -> list[str]:
    """All attributes; where bad data is skipped, those of which train has a label."""
    if bad_data == "refuse" or "train" not in assignment.splits:
        return listing.attributes
    rows = [i for i, split in enumerate(assignment.splits) if split == "train"]
    there = (listing.labels[rows] != UNKNOWN).any(axis=0)
    return [name for name, any_label in zip(listing.attributes, there, strict=True) if any_label]


def _take_split(
    listing: FaceListing, assignment: Assignment, split: str, attributes: list[str], *, asked: bool, bad_data: BadData
) -> AttributeSplit:
    name = SPLIT_OF_NAME.get(split.lower())
    if name not in assignment.splits:
        there = ", ".join(s for s in SPLITS if s in assignment.splits) or "none"
        why = assignment.note or (listing.problems[0].sentence if listing.problems and not listing.paths else "")
        raise ValueError(f"{listing.name} has no split {split!r}; there are {there}" + f" ({why})" * bool(why))
    columns, notes = _columns(listing, attributes, learn=name == "train", asked=asked)
    leaks = find_leaks(listing, assignment, name)
    rows = [i for i, s in enumerate(assignment.splits) if s == name and i not in leaks]
    labels = np.full((len(rows), len(attributes)), UNKNOWN, np.int8)
    for i, column in enumerate(columns):
        if column is not None:
            labels[:, i] = listing.labels[rows, column]
    of_interest = {None, name, "train"} if name in assignment.made else {None, name}
    problems = [problem.sentence for problem in listing.problems if problem.split in of_interest]
    problems += leaks.values()
    if name == "train":
        unknown = [attributes[i] for i in np.flatnonzero(~(labels != UNKNOWN).any(axis=0)).tolist()]
        problems += [f"{listing.name}: train has no label of {attribute}" for attribute in unknown]
    refuse_problems(problems, bad_data)
    if not rows:
        reason = f"; the first problem: {problems[0]}" if problems else ""
        raise ValueError(f"{listing.name}: no photo is left in {name}{reason}")
    made = (assignment.note,) if name in assignment.made else ()
    return AttributeSplit(
        name=name,
        attributes=attributes,
        paths=[listing.paths[i] for i in rows],
        labels=labels,
        identities=[listing.identities[i] for i in rows],
        skipped=problems,
        notes=(*made, *listing.notes, *notes),
    )


def _columns(
    listing: FaceListing, attributes: Sequence[str], *, learn: bool, asked: bool
) -> tuple[list[int | None], list[str]]:
    """The column of each attribute, None if the data lacks it, and notes about unused attributes.

    Raises:
        ValueError: the data lacks all of them, or one that training needs.
    """
    index_of = {attribute_key(name): i for i, name in enumerate(listing.attributes)}
    columns = [index_of.get(attribute_key(name)) for name in attributes]
    missing = [name for name, column in zip(attributes, columns, strict=True) if column is None]
    if missing and (learn or len(missing) == len(attributes)):
        hint = did_you_mean(missing[0], listing.attributes, otherwise=f"it has {', '.join(listing.attributes)}")
        raise ValueError(f"{listing.name} has no attribute {missing[0]!r}{hint}")
    unused = [name for i, name in enumerate(listing.attributes) if i not in columns]
    why = "" if asked else ": train has none"
    notes = [f"labels of {some_of(unused)} are not used{why}"] if unused else []
    return columns, notes
