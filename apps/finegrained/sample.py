"""The embedded sample set: moths of twelve species that differ in small marks; drawn on first use, then kept.

    python apps/finegrained/sample.py                                draw it (under a minute), say where it is
    python apps/finegrained/sample.py --contact-sheet moths.png      and show some moths of every species
    python apps/finegrained/sample.py --out moths --num-train 6000   a larger one, in a folder of its own

On disk it is train/<species>/<number>.jpg and val/<species>/<number>.jpg. Every picture is a function of the seed, its
split and its number alone, however many processes draw. This module does without torch, and so do the processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from apps.common.drawing.sample_set import Drawn, Slot, draw_set
from apps.common.pictures import put_label, write_contact_sheet
from apps.finegrained.moths.moth import Marks
from apps.finegrained.moths.scene import draw_scene

SAMPLE_RESOLUTION = 128
"""The side of the network's input, in pixels, that this set is made for."""

NUM_TRAIN, NUM_VAL = 2400, 360

# An invented genus. Each mark splits the species evenly, and no two marks tell a species without the third.
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
    """Draw the sample set of the fine-grained classifier."""

    out: Path | None = None
    """folder to draw into, which must be new or empty; default a folder in the cache"""
    num_train: int = NUM_TRAIN
    """training photos, spread evenly over the species"""
    num_val: int = NUM_VAL
    """validation photos, likewise"""
    seed: int = 0
    """of everything drawn"""
    num_workers: int | None = None
    """processes that draw; default one a core"""
    contact_sheet: Path | None = None
    """also write this image file: the first training photos with their species"""


def make_sample(
    root: Path | None = None,
    *,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    seed: int = 0,
    num_workers: int | None = None,
) -> Path:
    """Draw the set, or find it where it was drawn before, and return its folder.

    Args:
        root: the folder; by default one in the cache that belongs to these numbers and this version of the drawing.
        num_train: photos to train on; number i is of species i modulo 12.
        num_val: photos to measure on, likewise.
        num_workers: processes that draw; by default one for each core.

    Raises:
        ValueError: a number is too small, or `root` holds something else.
    """
    return draw_set(
        root,
        app="finegrained",
        description="Drawn moths of twelve species",
        draw="apps.finegrained.sample:draw_picture",
        counts={"train": num_train, "val": num_val},
        seed=seed,
        code=[Path(__file__), Path(__file__).parent / "moths"],
        num_workers=num_workers,
        least=len(SPECIES),
    )


def draw_picture(slot: Slot) -> Drawn:
    """One photo, in the folder of its species."""
    species = list(SPECIES)[slot.number % len(SPECIES)]
    name = f"{slot.split}/{species}/{slot.number // len(SPECIES) + 1:05d}.jpg"
    return Drawn(name, draw_scene(slot.rng(), SPECIES[species]))


def read_labelled(root: Path, split: str) -> Iterator[np.ndarray]:
    """The photos (H, W, 3) BGR of a split, one of each species in turn, each with its name."""
    numbers = sorted({path.name for path in (root / split).glob("*/*.jpg")})
    for path in (root / split / species / number for number in numbers for species in SPECIES):
        if path.exists():
            picture = np.asarray(cv2.imread(str(path)))
            put_label(picture, path.parent.name, 2, picture.shape[0] - 2)
            yield picture


def main(config: Config) -> None:
    """Draw the set that `config` describes and say where it is."""
    root = make_sample(
        config.out,
        num_train=config.num_train,
        num_val=config.num_val,
        seed=config.seed,
        num_workers=config.num_workers,
    )
    print(root)
    if config.contact_sheet:
        write_contact_sheet(config.contact_sheet, read_labelled(root, "train"), width=6 * 176, num_rows=6)


if __name__ == "__main__":
    from apps.common.cli import run_command  # here: the drawing processes need no flags

    run_command(main, Config)
