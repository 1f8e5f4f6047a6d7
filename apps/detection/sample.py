"""The embedded sample set: a reef with six kinds of animals, in COCO layout; drawn on first use, then cached.

    python apps/detection/sample.py                                  draw it (under a minute), print its folder
    python apps/detection/sample.py --contact-sheet reef.png         and save some of its pictures with their boxes
    python apps/detection/sample.py --out reef --num-train 5000      a larger set, in its own folder

Every picture is a function of the seed, its split and its number alone, however many processes draw. Neither this
module nor the processes import torch.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apps.common.drawing.sample_set import USUAL, DrawingFlags, Drawn, SampleSet, Slot
from apps.common.pictures import put_label
from apps.detection.reef.animals import ANIMALS
from apps.detection.reef.scene import draw_scene

SAMPLE_RESOLUTION = 160
"""The side of the network's input, in pixels, that this set is made for."""

NUM_TRAIN, NUM_VAL = 2000, 240
SPLITS = ("train", "val")
# With gaps, as in COCO: category ids are names, not indices.
CATEGORY_IDS = dict(zip(ANIMALS, (1, 2, 3, 5, 7, 8), strict=True))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draw the sample set of the detector.

    example: python apps/detection/sample.py --contact-sheet sheet.png
    """

    num_train: int = NUM_TRAIN
    """training images"""
    num_val: int = NUM_VAL
    """validation images"""
    drawing: DrawingFlags = USUAL


def draw_picture(slot: Slot) -> Drawn:
    """Draw one picture; its record for COCO's files holds the image and its objects."""
    picture, found = draw_scene(slot.rng(), list(ANIMALS)[slot.number % len(ANIMALS)])
    name = f"{slot.id:06d}.jpg"
    image = {"id": slot.id, "file_name": name, "width": picture.shape[1], "height": picture.shape[0]}
    animals = [(CATEGORY_IDS[one.name], one.box_xywh, int(np.count_nonzero(one.visible))) for one in found]
    return Drawn(f"{slot.split}/{name}", picture, {"split": slot.split, "image": image, "animals": animals})


def write_annotations(folder: Path, records: list[dict[str, Any]], info: dict[str, Any]) -> None:
    """Write COCO's files from the records of the pictures."""
    categories = [{"id": class_id, "name": name, "supercategory": "animal"} for name, class_id in CATEGORY_IDS.items()]
    annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    next_id = 1
    for record in records:
        for category_id, box_xywh, area in record["animals"]:
            what = {"id": next_id, "image_id": record["image"]["id"], "category_id": category_id}
            annotations[record["split"]].append({**what, "bbox": box_xywh, "area": area, "iscrowd": 0})
            next_id += 1
    (folder / "annotations").mkdir()
    for split in SPLITS:
        images = [record["image"] for record in records if record["split"] == split]
        content = {"info": info, "images": images, "annotations": annotations[split], "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def read_boxed(root: Path, split: str = "train", *, height: int = 256) -> Iterator[np.ndarray]:
    """The pictures (height, W, 3) RGB of a split, with their boxes and classes drawn into them."""
    content = json.loads((root / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"]:
        scale = height / image["height"]
        picture = np.asarray(cv2.imread(str(root / split / image["file_name"]), cv2.IMREAD_COLOR_RGB))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, w, h = (round(scale * value) for value in annotation["bbox"])
                cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), (255, 255, 80), 1)
                put_label(picture, names[annotation["category_id"]], x, y)
        yield picture


SAMPLE = SampleSet(
    app="detection",
    description="A drawn reef with six kinds of animals",
    draw="apps.detection.sample:draw_picture",
    counts=dict(zip(SPLITS, (NUM_TRAIN, NUM_VAL), strict=True)),
    code=[Path(__file__), Path(__file__).parent / "reef"],
    write_index=write_annotations,
    show=read_boxed,
)
make_sample, main = SAMPLE.make, SAMPLE.run

if __name__ == "__main__":
    from apps.common.cli import run_command  # here: the drawing processes need no flags

    run_command(main, Config)
