"""The embedded sample set: moths of twelve species that differ in small marks; drawn on first use, then cached.

    python apps/finegrained/sample.py                                draw it (under a minute), print its folder
    python apps/finegrained/sample.py --contact-sheet moths.png      and save some moths of every species
    python apps/finegrained/sample.py --out moths --num-train 6000   a larger set, in its own folder

On disk it is train/<species>/<number>.jpg and val/<species>/<number>.jpg. Every picture is a function of the seed, its
split and its number alone, however many processes draw. Neither this module nor the processes import torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from apps.common.drawing.sample_set import USUAL, DrawingFlags, Drawn, SampleSet, Slot
from apps.common.pictures import put_label
from apps.finegrained.moths.moth import Marks
from apps.finegrained.moths.scene import draw_scene

SAMPLE_RESOLUTION = 128
"""The side of the network's input, in pixels, that this set is made for."""

NUM_TRAIN, NUM_VAL = 2400, 360

# An invented genus. Each mark splits the species evenly, and all three are needed to identify a species.
SPECIES = {
    "Almoner": Marks(band="whole", eyespots=1, tail=False),
    "Beadle": Marks(band="whole", eyespots=1, tail=True),
    "Chandler": Marks(band="whole", eyespots=2, tail=False),
    "Drover": Marks(band="whole", eyespots=2, tail=True),
    "Fletcher": Marks(band="whole", eyespots=3, tail=False),
    "Lorimer": Marks(band="whole", eyespots=3, tail=True),
    "Ostler": Marks(band="broken", eyespots=1, tail=False),
    "Pedlar": Marks(band="broken", eyespots=1, tail=True),
    "Sexton": Marks(band="broken", eyespots=2, tail=False),
    "Thatcher": Marks(band="broken", eyespots=2, tail=True),
    "Verger": Marks(band="broken", eyespots=3, tail=False),
    "Warrener": Marks(band="broken", eyespots=3, tail=True),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draw the sample set of the fine-grained classifier.

    example: python apps/finegrained/sample.py --contact-sheet sheet.png
    """

    num_train: int = NUM_TRAIN
    """training photos, evenly distributed over the species: photo i is of species i modulo 12"""
    num_val: int = NUM_VAL
    """validation photos, likewise"""
    drawing: DrawingFlags = USUAL


def draw_picture(slot: Slot) -> Drawn:
    """One photo, in the folder of its species."""
    species = list(SPECIES)[slot.number % len(SPECIES)]
    name = f"{slot.split}/{species}/{slot.number // len(SPECIES) + 1:05d}.jpg"
    return Drawn(name, draw_scene(slot.rng(), SPECIES[species]))


def read_labelled(root: Path, split: str = "train") -> Iterator[np.ndarray]:
    """The photos (H, W, 3) RGB of a split, one of each species in turn, each with its name."""
    names = sorted({path.name for path in (root / split).glob("*/*.jpg")})
    for path in (root / split / species / name for name in names for species in SPECIES):
        if path.exists():
            picture = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
            put_label(picture, path.parent.name, 2, picture.shape[0] - 2)
            yield picture


SAMPLE = SampleSet(
    app="finegrained",
    description="Drawn moths of twelve species",
    draw="apps.finegrained.sample:draw_picture",
    counts={"train": NUM_TRAIN, "val": NUM_VAL},
    code=[Path(__file__), Path(__file__).parent / "moths"],
    least=len(SPECIES),
    show=read_labelled,
    sheet={"width": 6 * 176, "num_rows": 6},
)
make_sample, main = SAMPLE.make, SAMPLE.run

if __name__ == "__main__":
    from apps.common.cli import run_command  # here: the drawing processes need no flags

    run_command(main, Config)
