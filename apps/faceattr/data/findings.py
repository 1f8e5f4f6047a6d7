"""check.py's findings about labelled faces: duplicates, people, counts and contradictions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from apps.common.data.findings import Finding, Level
from apps.common.data.photos import PhotoFacts
from apps.common.data.tables import SPLITS
from apps.faceattr.data.listing import UNKNOWN, FaceListing, attribute_key
from apps.faceattr.data.splits import people_of

HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
CONTRADICTIONS = (
    *((one, two) for i, one in enumerate(HAIR) for two in HAIR[i + 1 :]),
    ("Bald", "Bangs"),
    ("Bald", "Wavy_Hair"),
    ("No_Beard", "Goatee"),
    ("Straight_Hair", "Wavy_Hair"),
    ("Child", "Senior"),
    ("Senior", "Young"),
)
"""Pairs of attributes, by CelebA's names and the usual ones of age, that no face has together."""
MOSTLY_GRAY = 0.9
"""Share of gray photos from which an attribute is learnt on gray alone."""


class Counts(NamedTuple):
    """Photos of an attribute in a split."""

    known: int
    positive: int

    @property
    def rarer(self) -> int:
        """Photos with the less common answer."""
        return min(self.positive, self.known - self.positive)


CountTable = dict[str, dict[str, Counts]]


def contradicted(listing: FaceListing, group: Sequence[int]) -> list[str]:
    """Attributes that some photos of a group have and others have not."""
    labels = listing.labels[list(group)]
    both = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return [listing.attributes[i] for i in np.flatnonzero(both).tolist()]


def copy_findings(listing: FaceListing, splits: Sequence[str], copies: Sequence[Sequence[int]]) -> list[Finding]:
    """Duplicates and people by the harm they do; a group may be in the first two findings."""
    labels, across, twice, people = [], [], [], []
    for group in copies:
        text = " = ".join(f"{listing.paths[i]} ({splits[i]})" for i in group)
        names = contradicted(listing, group)
        apart = len({splits[i] for i in group}) > 1
        if names:
            labels.append(f"{text}: {', '.join(names)}")
        if apart:
            across.append(text)
        if not names and not apart:
            twice.append(text)
    for identity, group in people_of(listing).items():
        where = [splits[i] for i in group]
        if len(set(where)) > 1:
            numbers = ", ".join(f"{where.count(name):,} in {name}" for name in SPLITS if name in where)
            people.append(f"{identity}: {numbers}, as {listing.paths[group[0]]}")
    return [
        Finding("error", "pictures with contradicting labels", labels),
        Finding("error", "pictures in more than one split", across),
        Finding("error", "people in more than one split", people),
        Finding("warning", "pictures twice in one split", twice),
    ]


def count_labels(listing: FaceListing, splits: Sequence[str]) -> CountTable:
    """{attribute: {split: counts}} of the splits that there are."""
    table: CountTable = {name: {} for name in listing.attributes}
    for split in (name for name in SPLITS if name in splits):
        labels = listing.labels[np.array([name == split for name in splits])]
        known, positive = (labels != UNKNOWN).sum(axis=0).tolist(), (labels == 1).sum(axis=0).tolist()
        for i, name in enumerate(listing.attributes):
            table[name][split] = Counts(known[i], positive[i])
    return table


def count_findings(counts: CountTable, *, min_known: int, min_rarer: int) -> list[Finding]:
    """Attributes with no or too few labels in a split; each is in the first finding that fits."""
    findings = []
    for split in SPLITS:
        here = {name: of_split[split] for name, of_split in counts.items() if split in of_split}
        nothing = [name for name, count in here.items() if not count.known]
        constant = {name: count for name, count in here.items() if count.known and not count.rarer}
        known = {n: c.known for n, c in here.items() if c.rarer and c.known < min_known}
        rare = {n: c for n, c in here.items() if c.rarer and n not in known and c.rarer < min_rarer}
        level: Level = "error" if split == "train" else "warning"
        findings += [
            Finding(level, f"attributes without a label in {split}", nothing),
            Finding(
                "warning",
                f"attributes that are the same on all photos of {split}",
                [f"{n}: {'present' if c.positive else 'absent'} on all {c.known:,}" for n, c in constant.items()],
            ),
            Finding(
                "warning",
                f"attributes known on fewer than {min_known} photos of {split}",
                [f"{name}: {count:,}" for name, count in known.items()],
            ),
            Finding(
                "warning",
                f"attributes that fewer than {min_rarer} photos of {split} have or lack",
                [f"{n}: {c.rarer:,} {'have' if c.rarer == c.positive else 'lack'} it" for n, c in rare.items()],
            ),
        ]
    return findings


def label_findings(listing: FaceListing, facts: Sequence[PhotoFacts], *, min_rarer: int) -> list[Finding]:
    """Findings about the labels themselves."""
    labels, names = listing.labels, listing.attributes
    index_of = {attribute_key(name): i for i, name in enumerate(names)}
    together = []
    for one, two in CONTRADICTIONS:
        i, k = index_of.get(attribute_key(one)), index_of.get(attribute_key(two))
        if i is not None and k is not None:
            both = np.flatnonzero((labels[:, i] == 1) & (labels[:, k] == 1))
            if len(both):
                together.append(f"{names[i]} and {names[k]}: {len(both):,}, as {listing.paths[both[0]]}")
    yes, no = (labels == 1).astype(np.float32), (labels == 0).astype(np.float32)
    agree, differ = yes.T @ yes + no.T @ no, yes.T @ no + no.T @ yes
    common = np.minimum(yes.sum(axis=0), no.sum(axis=0)) >= max(min_rarer, 1)
    pairs = [(i, k) for i in range(len(names)) for k in range(i) if common[i] and common[k]]
    alike = [
        f"{names[k]} and {names[i]} {'always agree' if agree[i, k] else 'are always opposite'}"
        for i, k in pairs
        if (agree[i, k] > 0) != (differ[i, k] > 0) and agree[i, k] + differ[i, k] >= 2 * min_rarer
    ]
    gray = np.array([fact.channels.startswith("gray") for fact in facts], bool)
    known = labels != UNKNOWN
    shares = known[gray].sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    in_colour = 2 * gray.sum() <= gray.size
    mostly_gray = [f"{name}: {share:.0%}" for name, share in zip(names, shares, strict=True) if share >= MOSTLY_GRAY]
    bare = [str(listing.paths[i]) for i in np.flatnonzero(~known.any(axis=1)).tolist()]
    return [
        Finding("warning", "attributes together that contradict each other", together),
        Finding("warning", "attributes that say the same", alike),
        Finding(
            "warning",
            "attributes known mostly on gray photos, among photos in colour",
            mostly_gray if in_colour else [],
        ),
        Finding("warning", "photos without any label", bare),
    ]
