"""Write annotated photos without errors, duplicate photos and duplicate objects."""

import json
import math
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from apps.detection.data.checks import check_part
from apps.detection.data.coco_files import CLEAN
from apps.detection.data.findings import Photo, agree, object_keys, rank_of, size_matches
from apps.detection.data.listing import Part
from backbone.files import written_whole


def write_clean(
    data: Path,
    parts: Sequence[Part],
    class_names: Sequence[str],
    photos: Sequence[Photo],
    copies: Sequence[Sequence[Photo]],
    spoilt: Container[Path],
) -> Path:
    """Write NAME-clean.json beside the data, in COCO's form with the split of each image, and return a summary.

    Photos that cannot be read or have another size than annotated are left out, duplicates (the one in an evaluation
    split is kept; none if their objects differ), and photos without a usable object (`spoilt` are those with
    problems). Boxes are clipped to the image.

    Raises:
        ValueError: nothing is left to write.
    """
    path = data.parent / f"{data.stem if data.is_file() else data.name}{CLEAN}.json"
    images, annotations = clean_entries(path.parent, parts, class_names, dropped_photos(photos, copies), spoilt)
    if not images:
        raise ValueError(f"{data}: no photo is left to write to {path.name}")
    categories = [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)]
    lost = [(one["id"], key) for one in annotations for key, value in one.items() if not _is_json(value)]
    annotations = [{key: value for key, value in one.items() if _is_json(value)} for one in annotations]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    if lost:
        annotation_id, name = lost[0]
        print(
            f"left out {len(lost):,} entries with a number that is not finite, such as {name!r} of annotation "
            f"{annotation_id}"
        )
    given = sum(len(part.images) for part in parts), sum(len(part.annotations) for part in parts)
    print(
        f"{path} has {len(images):,} of {given[0]:,} photos and {len(annotations):,} of {given[1]:,} objects; "
        "no photo was changed"
    )
    return path


def dropped_photos(photos: Sequence[Photo], copies: Sequence[Sequence[Photo]]) -> set[tuple[str, Path]]:
    """Split and file of photos that cannot be read, have another size than annotated, or are duplicates to drop."""
    dropped = {(p.split, p.record.path) for p in photos if p.facts.problem is not None or not size_matches(p)}
    for group in copies:
        best = max(group, key=lambda photo: rank_of(photo.split))
        same = agree(group)
        dropped |= {(photo.split, photo.record.path) for photo in group if not same or photo is not best}
    return dropped


def clean_entries(
    folder: Path,
    parts: Sequence[Part],
    class_names: Sequence[str],
    dropped: Container[tuple[str, Path]],
    spoilt: Container[Path],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and annotations of the remaining photos, numbered from 1; file names are relative to `folder`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for part in parts:
        one = check_part(part, class_names, clip=True)
        labels = {category_id: label for label, category_id in enumerate(one.category_ids, start=1)}
        of_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in one.images}
        for annotation in one.annotations:
            of_image[annotation["image_id"]].append(annotation)
        for image, record in zip(one.images, one.records, strict=True):
            lost_all = not of_image[image["id"]] and record.path in spoilt
            if lost_all or (str(part.split), record.path) in dropped:
                continue
            file_name = Path(os.path.relpath(record.path, folder)).as_posix()
            sides = {"width": record.width, "height": record.height}
            images.append({"id": len(images) + 1, "file_name": file_name, **sides, "split": part.split})
            keys: set[tuple[int, ...]] = set()
            for annotation, key in zip(of_image[image["id"]], object_keys(record), strict=True):
                if key not in keys:
                    keys.add(key)
                    numbers = {"id": len(annotations) + 1, "image_id": len(images)}
                    label = labels[annotation["category_id"]]
                    annotations.append({**annotation, **numbers, "category_id": label})
    return images, annotations


def _is_json(value: Any) -> bool:
    """Whether a value can be written: JSON has no NaN and no infinity, which Python reads."""
    if isinstance(value, dict | list):
        return all(map(_is_json, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
