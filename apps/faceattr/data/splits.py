"""The split of each face; no person and no photo is in two splits.

A data set's own splits are kept. Others are made from seed and file names, in groups that stay together: all photos of
a person, and near-duplicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.common.data.copies import find_copies, linked
from apps.common.data.groups import find_groups, groups_note, refuse_unused
from apps.common.data.splits import name_hash, take_groups
from apps.common.data.tables import SPLITS, normal_name
from apps.faceattr.choices import TEST_FRACTION, VAL_FRACTION
from apps.faceattr.data.listing import FaceListing


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The split of each of N photos.

    Attributes:
        splits: N names.
        made: the splits that were made here, of some photos at least.
        note: how, or "".
        copies: indices of photos that are the same file, if these were searched.
    """

    splits: list[str]
    made: frozenset[str]
    note: str
    copies: list[list[int]] | None


def assign_splits(
    listing: FaceListing,
    *,
    val_fraction: float = VAL_FRACTION,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    group_by: str | None = None,
) -> Assignment:
    """Give every photo a split.

    A set without splits gives its shares of groups to test and val; one with train but no val gives a share of train
    to val. A group of which one photo has a fixed split follows it.

    Raises:
        ValueError: a fraction is negative, or both leave nothing for train.
    """
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if fraction < 0 or val_fraction + test_fraction >= 1:
            raise ValueError(f"{name} is {fraction}: both must be 0 or more, and their sum below 1")
    given: list[set[str | None]] = [set() for _ in listing.sources]
    for split, origin in zip(listing.splits, listing.origins, strict=True):
        given[origin].add(split)
    shares: list[dict[str, float]] = []
    for there in given:
        wanted = {"test": test_fraction, "val": val_fraction} if None in there else {}
        if "train" in there and not there & {None, "val"}:
            wanted = {"val": val_fraction}
        shares.append({name: fraction for name, fraction in wanted.items() if fraction})
    movable = [
        bool(shares[origin]) and (split is None or (split == "train" and None not in given[origin]))
        for split, origin in zip(listing.splits, listing.origins, strict=True)
    ]
    splits = [split or "train" for split in listing.splits]
    if not any(movable):
        refuse_unused(group_by, splits)
        return Assignment(splits=splits, made=frozenset(), note="", copies=None)
    copies = find_copies(listing.paths)
    root = listing.sources[0].parent
    groups = linked(len(splits), [*people_of(listing).values(), *find_groups(listing.paths, root, group_by)])
    for origin, share in enumerate(shares):
        _fill(listing, splits, movable, groups, origin, share, seed)
    made = [name for name in ("val", "test") if any(name in share for share in shares)]
    fractions = {"val": val_fraction, "test": test_fraction}
    parts = " and ".join(f"{name} {fractions[name]:.0%}" for name in made)
    which = "" if all(shares) else " of the sets that have none"
    together = f"photos of a person, near-duplicates {groups_note(listing.paths, root, group_by)}"
    note = f"{parts}{which} chosen by seed {seed}, {together}"
    return Assignment(splits=splits, made=frozenset((*made, "train")), note=note, copies=copies)


def _fill(
    listing: FaceListing,
    splits: list[str],
    movable: list[bool],
    groups: Sequence[Sequence[int]],
    origin: int,
    shares: dict[str, float],
    seed: int,
) -> None:
    """Move groups that begin in one set to test and val, in the order of their hashes, while they fit."""
    mine: list[tuple[bytes, list[int]]] = []
    for group in groups:
        free = [i for i in group if movable[i]]
        if not free or listing.origins[free[0]] != origin:
            continue
        fixed = [splits[i] for i in group if not movable[i]]
        if fixed:
            for i in free:
                splits[i] = max(fixed, key=rank_of)
        else:
            mine.append((min(_hash_of_name(listing, i, seed) for i in free), free))
    total = sum(len(free) for _, free in mine)
    left = [free for _, free in sorted(mine)[:-1]]  # one group at least is train's
    for name, fraction in shares.items():
        taken, left = take_groups(left, max(1, round(fraction * total)))
        for i in (i for group in taken for i in group):
            splits[i] = name


def people_of(listing: FaceListing) -> dict[str, list[int]]:
    """The photos of each known person."""
    people: dict[str, list[int]] = {}
    for i, identity in enumerate(listing.identities):
        if identity is not None:
            people.setdefault(identity, []).append(i)
    return people


def _hash_of_name(listing: FaceListing, i: int, seed: int) -> bytes:
    """The same in every folder."""
    folder = listing.sources[listing.origins[i]].parent
    path = listing.paths[i]
    name = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return name_hash(seed, normal_name(name.as_posix()))


def rank_of(split: str) -> int:
    """The rank of a split; the highest one keeps a photo that is in two of them: test before val before train."""
    return SPLITS.index(split)


def find_leaks(listing: FaceListing, assignment: Assignment, split: str) -> dict[int, str]:
    """Photos that must leave a split, with the reason: test takes precedence over val, and val over train.

    Returns:
        Position -> a sentence that names the photo of the other split.
    """
    rank = rank_of(split)
    ranks = [rank_of(name) for name in assignment.splits]
    if rank == max(ranks):
        return {}
    copies = assignment.copies
    if copies is None:
        copies = find_copies(listing.paths, sides=[None if r < rank else r > rank for r in ranks])
    leaks: dict[int, str] = {}
    for what, groups in (("the same photo as", copies), ("the same person as", people_of(listing).values())):
        for group in groups:
            above = [i for i in group if ranks[i] > rank]
            for i in group if above else ():
                if ranks[i] == rank:
                    other = max(above, key=lambda k: ranks[k])
                    sentence = f"{listing.paths[i]} ({split}) is {what} {listing.paths[other]}"
                    leaks.setdefault(i, f"{sentence} ({assignment.splits[other]})")
    return leaks
