"""Taking val out of train where the data has no val: see `apps.common.data.splits`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.common.data.near import find_look_alikes
from apps.common.data.splits import choose_val
from apps.common.data.tables import normal_name
from apps.detection.data.listing import Part, id_in


def carve_val(part: Part, fraction: float, seed: int) -> list[Part]:
    """Divide a part into train and val, or leave it as train if the fraction is 0 or there is one photo.

    Raises:
        ValueError: `fraction` is not from 0 to below 1.
    """
    names = [str(image.get("file_name")) if isinstance(image, dict) else "" for image in part.images]
    together = find_look_alikes([part.folder / name for name in names])
    chosen = choose_val([normal_name(Path(name).as_posix()) for name in names], together, fraction, seed)
    if not chosen:
        return [replace(part, split="train")]
    note = f"val is {fraction:.0%} of train, chosen by seed {seed}, look-alikes together"
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
