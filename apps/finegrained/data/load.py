"""One split of labelled photos, checked by name: what training and evaluation read.

The data is a folder or CSV file in a layout of `layouts.py`, or a data set of `known_sets.py`. Where it has no val
split, val is taken out of train: of each class a share, chosen by the seed and the file names alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apps.common.choices import BadData
from apps.common.data.data_record import Content
from apps.common.data.photos import unreadable
from apps.common.data.problems import Problem, did_you_mean, names_beside, refuse_problems, skipped_words, some_of
from apps.common.data.splits import say_shared
from apps.finegrained.choices import VAL_FRACTION
from apps.finegrained.data.known_sets import NAMED, list_named, list_packed
from apps.finegrained.data.layouts import SPLIT_OF_NAME, list_photos
from apps.finegrained.data.listing import Entry, Listing
from apps.finegrained.data.splits import split_entries
from backbone.files import cache_dir


class Photo(NamedTuple):
    """A file and its class, an index into `class_names`."""

    path: Path
    label: int


@dataclass(frozen=True, kw_only=True)
class LabelledSplit:
    """A split, checked.

    Attributes:
        name: "train", "val" or "test".
        class_names: of label 0, 1, ... K - 1; all that the data has in any split, or those that were asked for.
        photos: in the order of the data's list or file names.
        skipped: a sentence for each file, row or class that was left out.
        notes: remarks, such as that val was taken out of train.
    """

    name: str
    class_names: list[str]
    photos: list[Photo]
    skipped: list[str]
    notes: tuple[str, ...] = ()

    @property
    def content(self) -> Content:
        """What a run must find again when it is resumed."""
        return Content([photo.path for photo in self.photos], [np.array([photo.label for photo in self.photos])])

    @property
    def counts(self) -> list[int]:
        """Photos of class 0, 1, ... K - 1."""
        counts = [0] * len(self.class_names)
        for photo in self.photos:
            counts[photo.label] += 1
        return counts

    def describe(self) -> str:
        """A line with the counts, which classes have no photos, and what was left out."""
        counts = self.counts
        empty = [name for name, count in zip(self.class_names, counts, strict=True) if not count]
        present = [count for count in counts if count]
        classes = f"{len(present)} of {len(counts)}" if empty else f"{len(counts)}"
        each = f"{min(present):,}" + f" to {max(present):,}" * (max(present) > min(present)) if present else "0"
        line = f"{self.name}: {len(self.photos):,} photos of {classes} classes, {each} of each"
        if empty:
            line += f"; none of {some_of(empty)}"
        line += "".join(f"; {note}" for note in self.notes)
        return line + skipped_words(self.skipped)


def load_split(data: str | Path, split: str, **options: Any) -> LabelledSplit:
    """Read and check one split; arguments and errors are those of `load_splits`."""
    return load_splits(data, [split], **options)[0]


def load_splits(
    data: str | Path,
    names: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    bad_data: BadData = "refuse",
    open_photos: bool = False,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    group_by: str | None = None,
    download_dir: Path | None = None,
) -> list[LabelledSplit]:
    """List what --data names once, and check some of its splits, with one list of classes.

    Args:
        data: a name of `known_sets.NAMED`, a folder or a CSV file.
        names: of train, val, test.
        class_names: a trained model's: labels are mapped by name, and other classes are problems.
        bad_data: "refuse" stops at the first look, with all problems counted; "skip" leaves out the photos that have
            one, and lists them in `skipped`.
        open_photos: glance at each file: those that cannot be read are problems.
        val_fraction: share of each class that val takes out of train where the data has no val; 0 to below 1.
        seed: of that choice.
        group_by: what keeps photos together in it, see `groups.find_groups`.
        download_dir: where named data sets are kept; default in the cache.

    Raises:
        ValueError: no such data or split, or problems and `bad_data` is "refuse"; the message names the file.
    """
    listing = list_data(data, download_dir=download_dir)
    listing = _without_unreadable(listing, names) if open_photos else listing
    splits, note = split_entries(listing, val_fraction=val_fraction, seed=seed, group_by=group_by)
    given: dict[str, Any] = {"class_names": class_names, "bad_data": bad_data}
    return say_shared([_take_split(listing, splits, note, name, **given) for name in names])


def _without_unreadable(listing: Listing, splits: Sequence[str]) -> Listing:
    """The listing without photos of some splits that cannot be read, each of which becomes a problem."""
    wanted = {None, *(SPLIT_OF_NAME.get(name.lower()) for name in splits)}
    looked = [entry for entry in listing.entries if entry.split in wanted]
    bad = {looked[i]: reason for i, reason in unreadable([entry.path for entry in looked]).items()}
    problems = [Problem(reason, entry.split, path=entry.path) for entry, reason in bad.items()]
    entries = [entry for entry in listing.entries if entry not in bad]
    return replace(listing, entries=entries, problems=[*listing.problems, *problems]) if bad else listing


def list_data(data: str | Path, *, download_dir: Path | None = None) -> Listing:
    """All that --data names, in all splits.

    Raises:
        ValueError: it is nothing that is known or there; the message has the nearest name that is.
    """
    if data in NAMED and Path(data).is_dir():
        raise ValueError(f"--data {data} is a data set known by name, and a folder here: ./{data} is the folder")
    if data in NAMED:
        return list_named(str(data), download_dir or cache_dir() / "data")
    path = Path(data)
    if not path.exists():
        hint = did_you_mean(
            path.name,
            [*NAMED, *names_beside(path)],
            otherwise=f"data sets known by name are {', '.join(NAMED)}",
            shown=lambda name: name if name in NAMED else path.parent / name,
        )
        raise ValueError(f"--data {path}: there is no such folder or CSV file{hint}")
    packed = list_packed(path) if path.is_dir() else None
    return packed or list_photos(path)


def _take_split(
    listing: Listing,
    splits: dict[str, list[Entry]],
    note: str,
    split: str,
    *,
    class_names: Sequence[str] | None,
    bad_data: BadData,
) -> LabelledSplit:
    name = SPLIT_OF_NAME.get(split.lower())
    if name is None or name not in splits:
        there = ", ".join(splits) or "none"
        refuse_problems([problem.sentence for problem in listing.problems if problem.split is None], bad_data)
        raise ValueError(f"{listing.source} has no split {split!r}; there are {there}" + f" ({note})" * bool(note))
    carved = bool(note) and name in ("train", "val")
    of_interest = (None, name, "train") if carved else (None, name)
    problems = [problem.sentence for problem in listing.problems if problem.split in of_interest]
    known = list(class_names) if class_names is not None else _class_names(splits, bad_data)
    labels = {class_name: label for label, class_name in enumerate(known)}
    photos = []
    for entry in splits[name]:
        if entry.class_name in labels:
            photos.append(Photo(entry.path, labels[entry.class_name]))
        else:
            problems.append(_unknown_class(entry, known, given=class_names is not None))
    if class_names is None and name == "train":
        learnt = {entry.class_name for entry in splits["train"]}
        problems += [f"{listing.source}: class {c!r} has no photo in train" for c in known if c not in learnt]
    refuse_problems(problems, bad_data)
    if not photos:
        reason = f"the first problem: {problems[0]}" if problems else "it holds none"
        raise ValueError(f"{listing.source}: no photo is left in {name}; {reason}")
    skipped = [problem.sentence for problem in listing.skipped if problem.split in of_interest]
    return LabelledSplit(
        name=name, class_names=known, photos=photos, skipped=problems + skipped, notes=(note,) if carved else ()
    )


def _class_names(splits: dict[str, list[Entry]], bad_data: BadData) -> list[str]:
    """All classes, sorted; where bad data is skipped, those that train can learn."""
    of = [splits["train"]] if bad_data == "skip" and "train" in splits else splits.values()
    return sorted({entry.class_name for entries in of for entry in entries})


def _unknown_class(entry: Entry, known: Sequence[str], *, given: bool) -> str:
    if not given:
        return f"{entry.path}: its class {entry.class_name!r} has no photo in train"
    hint = did_you_mean(entry.class_name, known, shown=repr)
    return f"{entry.path}: its class {entry.class_name!r} is none of the model's {len(known)}{hint}"
