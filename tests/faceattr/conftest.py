"""A tiny set of labelled faces."""

from pathlib import Path

import cv2
import numpy as np
import pytest

LABELS = ("Smiling", "Eyeglasses")


@pytest.fixture
def tiny_faces(tmp_path: Path) -> Path:
    """16 train, 6 val and 6 test pictures of 48 pixels, two people on each pair; some labels are empty."""
    return draw_faces(tmp_path / "tiny faces")


def draw_faces(root: Path) -> Path:
    """A face is a blot, a smile a white bar below, glasses are a black bar above."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    rows = ["file,Smiling,Eyeglasses,split,identity"]
    for split, number in (("train", 16), ("val", 6), ("test", 6)):
        for i in range(number):
            smiles, glasses = i % 2, i // 2 % 2
            image = rng.integers(90, 140, (48, 48, 3), dtype=np.uint8)
            image[8:40, 10:38] = (120, 150, 200)
            if smiles:
                image[30:36, 14:34] = 255
            if glasses:
                image[14:20, 12:36] = 0
            name = f"{split}{i:02d}.png"
            cv2.imwrite(str(root / "images" / name), image)
            cells = ["1" if has else "-1" for has in (smiles, glasses)]
            if split == "train" and i % 5 == 0:
                cells[i % 2] = ""
            rows.append(f"{name},{cells[0]},{cells[1]},{split},{split}-{i // 2}")
    (root / "attributes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root
