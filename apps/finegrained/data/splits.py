"""Which photos of a class are val where the data has no val split."""

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from apps.finegrained.data.layouts import SPLITS
from apps.finegrained.data.listing import Entry, Listing


def split_entries(listing: Listing, *, val_fraction: float, seed: int) -> tuple[dict[str, list[Entry]], str]:
    """The photos of each split that there is, and a note if val was taken out of train.

    A class of two or more photos keeps one in train and gives one to val. Where the data has a val split of its own,
    or no train, nothing is moved.

    Raises:
        ValueError: `val_fraction` is not from 0 to below 1.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction must be from 0 (no val) to below 1, got {val_fraction}")
    splits: dict[str, list[Entry]] = {}
    for entry in listing.entries:
        splits.setdefault(entry.split or "train", []).append(entry)
    if "train" in splits and "val" not in splits and val_fraction > 0:
        chosen = _chosen_for_val(splits["train"], listing.folder, val_fraction, seed)
        splits["val"] = [entry for i, entry in enumerate(splits["train"]) if i in chosen]
        splits["train"] = [entry for i, entry in enumerate(splits["train"]) if i not in chosen]
        note = f"val is {val_fraction:.0%} of each class of train, chosen by seed {seed}"
    else:
        note = ""
    return {name: splits[name] for name in SPLITS if splits.get(name)}, note


def _chosen_for_val(entries: Sequence[Entry], folder: Path, fraction: float, seed: int) -> set[int]:
    """Positions of the entries with the lowest hashes of their class: those of other files do not matter."""
    of_class: dict[str, list[tuple[bytes, int]]] = {}
    for i, entry in enumerate(entries):
        path = entry.path.relative_to(folder) if entry.path.is_relative_to(folder) else entry.path
        key = f"{seed}/{unicodedata.normalize('NFC', path.as_posix())}".encode(errors="surrogateescape")
        of_class.setdefault(entry.class_name, []).append((hashlib.blake2b(key, digest_size=8).digest(), i))
    chosen: set[int] = set()
    for keys in of_class.values():
        number = min(max(1, round(fraction * len(keys))), len(keys) - 1)
        chosen |= {i for _, i in sorted(keys)[:number]}
    return chosen
