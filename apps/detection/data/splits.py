"""Taking val out of train where the data has no val: a function of the seed and the file names alone.

Copies of a photo stay together, so that none is learnt and measured.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from apps.common.data.copies import find_copies
from apps.common.data.tables import normal_name
from apps.detection.data.listing import Part, id_in


def carve_val(part: Part, fraction: float, seed: int) -> list[Part]:
    """Divide a part into train and val, or leave it as train if the fraction is 0 or there is one photo.

    Raises:
        ValueError: `fraction` is not from 0 to below 1.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be from 0 (no val) to below 1, got {fraction}")
    names = [str(image.get("file_name")) if isinstance(image, dict) else "" for image in part.images]
    chosen = choose_val(names, find_copies([part.folder / name for name in names]), fraction, seed)
    if not chosen:
        return [replace(part, split="train")]
    note = f"val is {fraction:.0%} of train, chosen by seed {seed}, copies together"
    images: dict[str, list[Any]] = {"train": [], "val": []}
    for i, image in enumerate(part.images):
        images["val" if i in chosen else "train"].append(image)
    in_val = {id_in(image, "id") for image in images["val"]} - {None}
    annotations: dict[str, list[Any]] = {"train": [], "val": []}
    for annotation in part.annotations:
        annotations["val" if id_in(annotation, "image_id") in in_val else "train"].append(annotation)
    return [
        replace(
            part,
            split=name,
            images=images[name],
            annotations=annotations[name],
            problems=part.problems if name == "train" else [],
            notes=[*part.notes, note] if name == "train" else [note],
        )
        for name in ("train", "val")
    ]


def choose_val(names: Sequence[str], copies: Sequence[Sequence[int]], fraction: float, seed: int) -> set[int]:
    """Positions of the names with the lowest hashes, as many as the fraction says; a group of copies goes as one.

    At least one name of two is taken, and one left.
    """
    group_of = {i: list(group) for group in copies for i in group}
    groups = {min(group): group for group in (group_of.get(i, [i]) for i in range(len(names)))}
    ranked = sorted((min(_hash(seed, names[i]) for i in group), group) for group in groups.values())
    wanted = max(1, round(fraction * len(names))) if fraction else 0
    chosen: set[int] = set()
    for _, group in ranked[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen |= set(group)
    if wanted and not chosen and len(ranked) > 1:  # all groups but the last are too large: the smallest
        smallest = min(map(itemgetter(1), ranked[:-1]), key=len)
        chosen = set(smallest)
    return chosen


def _hash(seed: int, name: str) -> bytes:
    key = f"{seed}/{normal_name(Path(name).as_posix())}".encode(errors="surrogateescape")
    return hashlib.blake2b(key, digest_size=8).digest()
