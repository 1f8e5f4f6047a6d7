"""Splitting val off train: a function of the seed and the file names alone, with near-duplicates on one side.

A photo that is both in train and in val makes the metrics too optimistic, and so does a near-duplicate. Groups of
photos are therefore moved together, in the order of the hashes of their names; each app defines its groups
(near-duplicates, photos of a person).
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from apps.common.data.copies import find_copies

T = TypeVar("T")


def name_hash(seed: int, name: str) -> bytes:
    """A rank for a file by its name: independent of the folder, and a different order for each seed."""
    key = f"{seed}/{unicodedata.normalize('NFC', name)}".encode(errors="surrogateescape")
    return hashlib.blake2b(key, digest_size=8).digest()


def take_groups(ranked: Sequence[list[int]], wanted: int) -> tuple[list[list[int]], list[list[int]]]:
    """Groups that are taken and groups that are left: taken in order while they fit into `wanted` photos.

    If all groups are too large, the smallest is taken.
    """
    taken: list[list[int]] = []
    left: list[list[int]] = []
    for group in ranked:
        fits = len(group) <= wanted
        wanted -= len(group) * fits
        (taken if fits else left).append(group)
    if left and not taken:
        taken = [min(left, key=len)]
        left.remove(taken[0])
    return taken, left


def choose_val(names: Sequence[str], copies: Sequence[Sequence[int]], fraction: float, seed: int) -> set[int]:
    """Indices of the names with the lowest hashes, a fraction of all; a group of duplicates stays together.

    At least one of two or more groups is taken, and one is left; if every group is too large, the smallest is taken.

    Raises:
        ValueError: `fraction` is not from 0 to below 1.
    """
    check_val_fraction(fraction)
    if not fraction:
        return set()
    group_of = {i: list(group) for group in copies for i in group}
    groups = {min(group): group for group in (group_of.get(i, [i]) for i in range(len(names)))}
    ranked = sorted((min(name_hash(seed, names[i]) for i in group), group) for group in groups.values())
    taken, left = take_groups([group for _, group in ranked], max(1, round(fraction * len(names))))
    if not left:
        taken = taken[:-1]
    return {i for group in taken for i in group}


def check_val_fraction(fraction: float) -> None:
    """Raise ValueError for a val fraction that leaves nothing for train."""
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be from 0 (no val) to below 1, got {fraction}")


def say_shared(splits: list[T]) -> list[T]:
    """The splits of an app; val notes how many of its photos are byte-identical to photos in train.

    Only the data's own splits can be so: where val is split off train, duplicates stay together.
    """
    given: list[Any] = splits  # each has a name, its content, and notes
    found = {split.name: split for split in given}
    if not {"train", "val"} <= found.keys():
        return splits
    learnt, val = found["train"].content.paths, found["val"]
    paths = [*learnt, *val.content.paths]
    groups = find_copies(paths, sides=[i < len(learnt) for i in range(len(paths))])
    if shared := sum(i >= len(learnt) for group in groups for i in group):
        found["val"] = replace(val, notes=(*val.notes, f"{shared:,} of them are in train, too: its figures flatter"))
    return [found[split.name] for split in given]
