"""Split val off train if the data has none: see `apps.common.data.splits`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.data.groups import choose_stratified, find_groups, groups_note, missing_in_val
from apps.common.data.splits import choose_val
from apps.common.data.tables import normal_name
from apps.detection.data.listing import Part, id_in


def carve_val(part: Part, fraction: float, seed: int, *, group_by: str | None = None) -> list[Part]:
    """Divide a part into train and val, or leave it as train if the fraction is 0 or there is one photo.

    Raises:
        ValueError: `fraction` is not from 0 to below 1, or see `find_groups`.
    """
    names = [str(image.get("file_name")) if isinstance(image, dict) else "" for image in part.images]
    about = [part.folder / name for name in names], part.folder, group_by
    together = find_groups(*about)
    names = [normal_name(Path(name).as_posix()) for name in names]
    missing = ""
    if group_by in (None, "none") or len(names) < 2:
        chosen = choose_val(names, together, fraction, seed)
    else:
        class_names, labels = _count_objects(part)
        chosen = choose_stratified(names, labels, together, fraction, seed)
        missing = missing_in_val(class_names, labels, chosen)
    if not chosen:
        return [replace(part, split="train")]
    note = f"val is {fraction:.0%} of train, chosen by seed {seed}, near-duplicates {groups_note(*about)}{missing}"
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


def _count_objects(part: Part) -> tuple[list[str], np.ndarray]:
    """Names of the classes, and the numbers of objects (N, K) of each image."""
    column = {category.get("id"): k for k, category in enumerate(part.categories)}
    row = {id_in(image, "id"): i for i, image in enumerate(part.images)}
    counts = np.zeros((len(part.images), max(1, len(column))), dtype=np.int64)
    for annotation in part.annotations:
        i, k = row.get(id_in(annotation, "image_id")), column.get(id_in(annotation, "category_id"))
        if i is not None and k is not None:
            counts[i, k] += 1
    return [str(category.get("name")) for category in part.categories], counts
