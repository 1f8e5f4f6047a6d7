"""Which photos of a class are val where the data has no val split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apps.common.data.groups import choose_stratified, find_groups, groups_note, missing_in_val, refuse_unused
from apps.common.data.splits import check_val_fraction, choose_val
from apps.finegrained.data.layouts import SPLITS
from apps.finegrained.data.listing import Entry, Listing


def split_entries(
    listing: Listing, *, val_fraction: float, seed: int, group_by: str | None = None
) -> tuple[dict[str, list[Entry]], str]:
    """The photos of each split that there is, and a note if val was taken out of train.

    A class of two or more different photos keeps one in train and gives one to val. Near-duplicates stay on one side;
    if they have several classes, in train, since it is unknown which label is right. If the data has its own val split,
    or no train, nothing is moved.

    Raises:
        ValueError: `val_fraction` is not from 0 to below 1, or see `find_groups`.
    """
    check_val_fraction(val_fraction)
    splits: dict[str, list[Entry]] = {}
    for entry in listing.entries:
        splits.setdefault(entry.split or "train", []).append(entry)
    refuse_unused(group_by, splits)
    note = ""
    if "train" in splits and "val" not in splits and val_fraction > 0:
        chosen, missing = _chosen_for_val(splits["train"], listing.folder, val_fraction, seed, group_by)
        splits["val"] = [entry for i, entry in enumerate(splits["train"]) if i in chosen]
        splits["train"] = [entry for i, entry in enumerate(splits["train"]) if i not in chosen]
        if chosen:
            paths = [entry.path for name in ("train", "val") for entry in splits[name]]
            together = f"near-duplicates {groups_note(paths, listing.folder, group_by)}{missing}"
            note = f"val is {val_fraction:.0%} of each class of train, chosen by seed {seed}, {together}"
        else:
            note = "no class has a second photo that val could take"
    return {name: splits[name] for name in SPLITS if splits.get(name)}, note


def _chosen_for_val(
    entries: Sequence[Entry], folder: Path, fraction: float, seed: int, group_by: str | None
) -> tuple[set[int], str]:
    """Positions of the entries with the lowest hashes of their class, other files do not matter; or whole groups.

    Also what the note must say of classes that no group could be taken of.
    """
    paths = [entry.path for entry in entries]
    alike = find_groups(paths, folder, group_by)
    names = [(path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix() for path in paths]
    if group_by not in (None, "none"):
        class_names = sorted({entry.class_name for entry in entries})
        labels = np.array([[entry.class_name == name for name in class_names] for entry in entries])
        chosen = choose_stratified(names, labels, alike, fraction, seed)
        return chosen, missing_in_val(class_names, labels, chosen)
    group_of = {i: group for group in alike for i in group}
    of_class: dict[str, list[int]] = {}
    for i, entry in enumerate(entries):
        if len({entries[k].class_name for k in group_of.get(i, ())}) <= 1:
            of_class.setdefault(entry.class_name, []).append(i)
    chosen = set()
    for members in of_class.values():
        at = {i: k for k, i in enumerate(members)}
        groups = [[at[i] for i in group] for group in alike if group[0] in at]
        chosen |= {members[k] for k in choose_val([names[i] for i in members], groups, fraction, seed)}
    return chosen, ""
