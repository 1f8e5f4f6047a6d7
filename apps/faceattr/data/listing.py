"""Labelled faces as one table in memory: what every layout is read into, and how several sets become one.

N photos, A attributes. A label is 1 (the face has it), 0 (it has not) or -1 (unknown), int8: 8 MB for CelebA.
"""

import os
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from apps.common.data.problems import Problem

UNKNOWN = -1
_YES, _BLANK, _ZERO, _MINUS, _OTHER = range(5)
_CODES = {"1": _YES, "1.0": _YES, "": _BLANK, "0": _ZERO, "0.0": _ZERO, "-1": _MINUS, "-1.0": _MINUS}


@dataclass(frozen=True, kw_only=True)
class FaceListing:
    """All that one or more sets of labelled faces hold; N entries in each of the lists about photos.

    Attributes:
        sources: the list of labels of each set.
        layout: the kind, in words.
        attributes: A names.
        paths: the photos; all exist, none is twice.
        labels: (N, A) int8 of 1, 0 and -1.
        splits: "train", "val", "test" or None where the set does not say.
        identities: who is on the photo, as text, or None.
        origins: which of `sources` a photo is of.
        problems: what must be mended, a sentence for each row, photo or column.
        notes: what else one should know.
    """

    sources: list[Path]
    layout: str
    attributes: list[str]
    paths: list[Path]
    labels: np.ndarray
    splits: list[str | None]
    identities: list[str | None]
    origins: list[int]
    problems: list[Problem]
    notes: list[str]

    @property
    def name(self) -> str:
        """The sources, for a message."""
        return " + ".join(map(str, self.sources))


@dataclass(kw_only=True)
class RowReader:
    """Collects the rows of one list of labels; faults are collected, not raised.

    Labels are 1 and -1, or 1 and 0, in each column alike; an empty one is unknown.
    """

    source: Path
    layout: str
    attributes: list[str]
    paths: list[Path] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    identities: list[str | None] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _lines: array = field(default_factory=lambda: array("l"))
    _codes: bytearray = field(default_factory=bytearray)
    _wrong: dict[tuple[int, int], str] = field(default_factory=dict)

    def fault(self, line: int, what: str, *, split: str | None = None) -> None:
        """Note that a line cannot be used."""
        self.problems.append(Problem(f"{self.source} line {line}{what}", split))

    def add(self, line: int, path: Path, cells: Sequence[str], *, split: str | None, identity: str | None) -> None:
        """A photo and its A labels as they are written."""
        assert len(cells) == len(self.attributes)
        try:
            codes = bytes(map(_CODES.__getitem__, cells))
        except KeyError:
            codes = bytes(_CODES.get(cell.strip(), _OTHER) for cell in cells)
            self._wrong |= {(len(self.paths), i): cells[i] for i, code in enumerate(codes) if code == _OTHER}
        self._codes += codes
        self._lines.append(line)
        self.paths.append(path)
        self.splits.append(split)
        self.identities.append(identity)

    def finish(self) -> FaceListing:
        """The table of all rows without a fault."""
        codes = np.frombuffer(bytes(self._codes), np.uint8).reshape(len(self.paths), len(self.attributes))
        num_minus = (codes == _MINUS).sum(axis=0)
        minus = (num_minus > 0) & (num_minus >= (codes == _ZERO).sum(axis=0))  # of each column; the rarer is a fault
        wrong = (codes == _OTHER) | np.where(minus, codes == _ZERO, codes == _MINUS)
        columns = self._usable_columns(codes, wrong)
        labels = np.full(codes.shape, UNKNOWN, np.int8)
        labels[codes == _YES] = 1
        labels[(codes == _ZERO) | (codes == _MINUS)] = 0
        for row in np.flatnonzero(wrong[:, columns].any(axis=1)).tolist():
            column = next(i for i in columns if wrong[row, i])
            allowed = "1, -1 or empty" if minus[column] else "1, 0 or empty"
            where = f", column {self.attributes[column]!r}: "
            text = self._wrong.get((row, column), "0" if minus[column] else "-1")
            self.fault(self._lines[row], f"{where}{text!r}, this file has {allowed}", split=self.splits[row])
        labels[wrong] = UNKNOWN
        kept = self._without_repeats(labels, np.flatnonzero(~wrong[:, columns].any(axis=1)).tolist())
        return FaceListing(
            sources=[self.source],
            layout=self.layout,
            attributes=[self.attributes[i] for i in columns],
            paths=[self.paths[i] for i in kept],
            labels=labels[np.ix_(kept, columns)],
            splits=[self.splits[i] for i in kept],
            identities=[self.identities[i] for i in kept],
            origins=[0] * len(kept),
            problems=self.problems,
            notes=self.notes,
        )

    def _usable_columns(self, codes: np.ndarray, wrong: np.ndarray) -> list[int]:
        """Those that hold labels, or nothing; the others, also with other numbers in a tenth of them, are none."""
        numbers = np.zeros(len(self.attributes))
        for (_, i), text in self._wrong.items():
            numbers[i] += re.fullmatch(r"\s*[-+]?[0-9.]+(e[-+]?[0-9]+)?\s*", text.lower()) is not None
        hopeless = wrong.any(axis=0) & ~((codes != _BLANK) & ~wrong).any(axis=0)
        hopeless |= numbers > (codes != _BLANK).sum(axis=0) / 10
        for i in np.flatnonzero(hopeless).tolist():
            row = int(np.flatnonzero(codes[:, i] == _OTHER if numbers[i] else wrong[:, i])[0])
            value = self._wrong.get((row, i), "0")
            what = f"{self.source}: the column {self.attributes[i]!r} is no attribute, it holds {value!r}"
            self.problems.append(Problem(what))
        return np.flatnonzero(~hopeless).tolist()

    def _without_repeats(self, labels: np.ndarray, rows: Sequence[int]) -> list[int]:
        """Of rows that name a photo twice the first, or none if their labels differ."""
        rows_of: dict[Path, list[int]] = {}
        for row in rows:
            rows_of.setdefault(self.paths[row], []).append(row)
        kept = []
        for path, same in rows_of.items():
            differs = (labels[same] != labels[same[0]]).any(axis=0) if len(same) > 1 else np.False_
            if not differs.any():
                kept.append(same[0])
            for row in same[1:]:
                names = [self.attributes[i] for i in np.flatnonzero(labels[row] != labels[same[0]]).tolist()]
                other = f", with another {', another '.join(names[:3])}" if names else ""
                self.fault(self._lines[row], f": {path} is listed twice{other}", split=self.splits[row])
        return sorted(kept)


def word_of(label: int) -> str:
    """A label in words."""
    return {1: "present", 0: "absent"}.get(int(label), "unknown")


def attribute_key(name: str) -> str:
    """What is equal for spellings of one attribute: "Wearing_Hat", "wearing hat", "WearingHat"."""
    return "".join(name.casefold().replace("_", " ").replace("-", " ").split())


def join_listings(listings: Sequence[FaceListing]) -> FaceListing:
    """Several sets as one: all attributes in the order they appear; unknown where a set has no such column.

    A photo that several sets list is one entry with the labels of all; where they contradict each other it is a
    problem. Identities of sets in different folders are different people.
    """
    if len(listings) == 1:
        return listings[0]
    names: dict[str, str] = {}
    notes = [note for listing in listings for note in listing.notes]
    for listing in listings:
        for name in listing.attributes:
            used = names.setdefault(attribute_key(name), name)
            if used != name:
                notes.append(f"{name} of {listing.sources[0]} is {used}")
    order = {key: i for i, key in enumerate(names)}
    num_photos = sum(len(listing.paths) for listing in listings)
    labels = np.full((num_photos, len(names)), UNKNOWN, np.int8)
    prefixes = _prefixes(listings)
    paths: list[Path] = []
    identities: list[str | None] = []
    for listing, prefix in zip(listings, prefixes, strict=True):
        columns = [order[attribute_key(name)] for name in listing.attributes]
        labels[len(paths) : len(paths) + len(listing.paths), columns] = listing.labels
        paths += listing.paths
        identities += [None if identity is None else prefix + identity for identity in listing.identities]
    joined = FaceListing(
        sources=[listing.sources[0] for listing in listings],
        layout="; ".join(dict.fromkeys(listing.layout for listing in listings)),
        attributes=list(names.values()),
        paths=paths,
        labels=labels,
        splits=[split for listing in listings for split in listing.splits],
        identities=identities,
        origins=[i for i, listing in enumerate(listings) for _ in listing.paths],
        problems=[problem for listing in listings for problem in listing.problems],
        notes=notes,
    )
    return _merge_shared(joined)


def _prefixes(listings: Sequence[FaceListing]) -> list[str]:
    """A prefix that separates the people of sets in different folders; empty for one folder."""
    folders = [Path(os.path.abspath(listing.sources[0].parent)) for listing in listings]
    if len(set(folders)) == 1:
        return [""] * len(folders)
    names = [folder.name for folder in set(folders)]
    return [f"{folder.name if names.count(folder.name) == 1 else folder}: " for folder in folders]


def _merge_shared(listing: FaceListing) -> FaceListing:
    """One entry for each photo; entries with two different splits both stay, as a leak to be found."""
    first: dict[str, int] = {}
    dropped: set[int] = set()
    contradicted: set[int] = set()
    for i, path in enumerate(listing.paths):
        match = first.setdefault(os.path.abspath(path), i)
        split = listing.splits[i]
        if match == i or (split and listing.splits[match] and split != listing.splits[match]):
            continue
        mine, other = listing.labels[match], listing.labels[i]
        clash = np.flatnonzero((mine != UNKNOWN) & (other != UNKNOWN) & (mine != other))
        if len(clash):
            where = " and ".join(str(listing.sources[listing.origins[k]]) for k in (match, i))
            words = f"{word_of(mine[clash[0]])} and {word_of(other[clash[0]])}"
            what = f"{path}: {listing.attributes[int(clash[0])]} is {words} in {where}"
            listing.problems.append(Problem(what, split or listing.splits[match]))
            contradicted.add(match)
        np.copyto(mine, other, where=mine == UNKNOWN)
        listing.splits[match] = listing.splits[match] or split
        listing.identities[match] = listing.identities[match] or listing.identities[i]
        dropped.add(i)
    if not dropped:
        return listing
    listing.notes.append(f"{len(dropped):,} photos are in more than one list")
    rows = sorted(set(range(len(listing.paths))) - dropped - contradicted)
    return replace(
        listing,
        paths=[listing.paths[i] for i in rows],
        labels=listing.labels[rows],
        splits=[listing.splits[i] for i in rows],
        identities=[listing.identities[i] for i in rows],
        origins=[listing.origins[i] for i in rows],
    )
