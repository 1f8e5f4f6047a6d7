"""The embedded sample set: portraits of invented people, with twelve of CelebA's attributes; drawn once, then cached.

    python apps/faceattr/sample.py                                  draw it (under a minute), print its folder
    python apps/faceattr/sample.py --contact-sheet faces.png        and save some of its pictures with their attributes
    python apps/faceattr/sample.py --out faces --num-train 5000     a larger set, in its own folder

    ROOT/images/000001.jpg ...      pictures of the splits train, val and test
    ROOT/attributes.csv             file, an attribute a column (1, -1, empty where unknown), split, identity
    ROOT/unlabelled/000001.jpg ...  more of the same, without labels

A person has `PICTURES_PER_PERSON` pictures with the same face and the same colour and cut of hair; no person is in two
splits. Every picture is a function of the seed, its split and its number alone. Neither this module nor the drawing
processes import torch.
"""

import csv
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apps.common.drawing.sample_set import USUAL, DrawingFlags, Drawn, SampleSet, Slot
from apps.common.pictures import INK, PAPER, put_text
from apps.faceattr.portraits.canvas import Chance
from apps.faceattr.portraits.scene import draw_portrait

SAMPLE_RESOLUTION = 96
"""The side of the network's input, in pixels, that this set is made for."""

HAIR_SHARES = {"black": 0.28, "blond": 0.22, "brown": 0.28, "gray": 0.22}
"""The share of people with hair of this colour."""
HAIR_NAMES = {"Black_Hair": "black", "Blond_Hair": "blond", "Gray_Hair": "gray"}
SHARES = {
    "Bangs": 0.45,
    "Eyeglasses": 0.4,
    "Goatee": 0.3,
    "Mouth_Slightly_Open": 0.45,
    "Mustache": 0.3,
    "Smiling": 0.5,
    "Wearing_Earrings": 0.45,
    "Wearing_Hat": 0.3,
    "Wearing_Necktie": 0.4,
}
"""The share of pictures with each attribute that varies between a person's pictures; all are independent."""
ATTRIBUTES = tuple(sorted((*HAIR_NAMES, *SHARES)))
"""CelebA's names, in the order of the columns."""

NUM_TRAIN, NUM_VAL, NUM_TEST, NUM_UNLABELLED = 1600, 300, 300, 1600
PICTURES_PER_PERSON = 4
UNKNOWN_SHARE = 0.15
"""of the labels are missing at random; those that a picture cannot show are missing, too"""
UNLABELLED = "unlabelled"
LABELS = "attributes.csv"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draw the sample set of the face attributes.

    example: python apps/faceattr/sample.py --contact-sheet sheet.png
    """

    num_train: int = NUM_TRAIN
    """training images"""
    num_val: int = NUM_VAL
    """validation images"""
    num_test: int = NUM_TEST
    """test images"""
    num_unlabelled: int = NUM_UNLABELLED
    """images without labels"""
    drawing: DrawingFlags = USUAL


def draw_picture(slot: Slot) -> Drawn:
    """Draw one picture; its record holds split, file, person and the known labels, or is None without labels."""
    who = slot.number // PICTURES_PER_PERSON
    person, shot = (Chance(slot.seed, slot.split_index, level, n) for level, n in ((0, who), (1, slot.number)))
    hair_colour, wears = choose_attributes(person, shot)
    picture, hidden = draw_portrait(person, shot, hair_colour=hair_colour, wears=wears)
    if slot.split == UNLABELLED:
        return Drawn(f"{UNLABELLED}/{slot.number + 1:06d}.jpg", picture)
    facts = wears | {name: hair_colour == colour for name, colour in HAIR_NAMES.items()}
    unknown = shot.of("unknown").random(len(ATTRIBUTES)) < UNKNOWN_SHARE
    left_out = hidden.union(name for name, lost in zip(ATTRIBUTES, unknown, strict=True) if lost)
    labels = {name: 1 if facts[name] else -1 for name in ATTRIBUTES if name not in left_out}
    name = f"{slot.id:06d}.jpg"
    return Drawn(f"images/{name}", picture, {"file": name, "split": slot.split, "person": who, "labels": labels})


def choose_attributes(person: Chance, shot: Chance) -> tuple[str, dict[str, bool]]:
    """The colour of a person's hair, and the other attributes of the person in this picture."""
    hair_colour = person.of("hair colour").choice(list(HAIR_SHARES), p=list(HAIR_SHARES.values()))
    rng = shot.of("attributes")
    return str(hair_colour), {name: bool(rng.random() < share) for name, share in SHARES.items()}


def write_labels(folder: Path, records: list[Any], info: dict[str, Any]) -> None:
    """Write attributes.csv; people are numbered through all splits."""
    identities: dict[tuple[str, int], int] = {}
    with open(folder / LABELS, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", *ATTRIBUTES, "split", "identity"])
        for record in filter(None, records):
            identity = identities.setdefault((record["split"], record["person"]), len(identities) + 1)
            values = [record["labels"].get(name, "") for name in ATTRIBUTES]
            rows.writerow([record["file"], *values, record["split"], identity])


def read_captioned(root: Path, split: str = "train", *, side: int = 224) -> Iterator[np.ndarray]:
    """The pictures (H, side, 3) RGB of a split, with their known attributes below."""
    with open(root / LABELS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    for row in rows:
        picture = np.asarray(cv2.imread(str(root / "images" / row["file"]), cv2.IMREAD_COLOR_RGB))
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
        picture = cv2.copyMakeBorder(picture, 4, 58, 4, 4, cv2.BORDER_CONSTANT, value=PAPER)
        words = ", ".join(name for name in ATTRIBUTES if row[name] == "1")
        for number, line in enumerate(textwrap.wrap(words, side // 5)):
            put_text(picture, line, 6, side + 8 + 15 * number, 11, INK)
        yield picture


SAMPLE = SampleSet(
    app="faceattr",
    description="Drawn portraits with twelve attributes",
    draw="apps.faceattr.sample:draw_picture",
    counts={"train": NUM_TRAIN, "val": NUM_VAL, "test": NUM_TEST, UNLABELLED: NUM_UNLABELLED},
    code=[Path(__file__), Path(__file__).parent / "portraits"],
    write_index=write_labels,
    show=read_captioned,
    sheet={"width": 1624},
)
make_sample, main = SAMPLE.make, SAMPLE.run

if __name__ == "__main__":
    from apps.common.cli import run_command  # here: the drawing processes need no flags

    run_command(main, Config)
