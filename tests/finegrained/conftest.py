"""A tiny data set of photos by class."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def tiny_photos(tmp_path: Path) -> Path:
    """The photos of `draw_photos`, in a folder with a space."""
    return draw_photos(tmp_path / "tiny photos")


def draw_photos(root: Path) -> Path:
    """Three classes of 96x80 pixels, told by colour; 6 train and 2 val photos of each."""
    colours = {"blue tit": (230, 60, 20), "great tit": (20, 200, 230), "robin": (30, 40, 220)}  # BGR
    for split, number in (("train", 6), ("val", 2)):
        rng = np.random.default_rng(number)
        for name, colour in colours.items():
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                image = rng.integers(90, 160, (80, 96, 3), dtype=np.uint8)
                y, x = rng.integers(5, 25, 2)
                image[y : y + 45, x : x + 60] = colour
                cv2.imwrite(str(root / split / name / f"{i:03d}.png"), image)
    return root
