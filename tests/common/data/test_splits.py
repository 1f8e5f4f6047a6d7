"""Val out of train: a function of seed and names, in the share that is asked for, copies together in every app."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.data.splits import choose_val
from apps.detection.data.load import load_split as load_annotated
from apps.detection.data.load import load_splits as load_splits_annotated
from apps.faceattr.data.load import load_split as load_faces
from apps.finegrained.data.load import load_split as load_labelled
from apps.finegrained.data.load import load_splits as load_splits_labelled
from tests.conftest import draw_tiny_coco
from tests.finegrained.conftest import draw_photos

NAMES = [f"photo {i}.jpg" for i in range(100)]


def chosen(names, seed=0, fraction=0.2, copies=()):
    return {names[i] for i in choose_val(names, copies, fraction, seed)}


def test_the_choice_is_one_of_seed_and_names():
    some = chosen(NAMES)
    assert len(some) == 20
    assert chosen(NAMES[::-1]) == some
    assert chosen(NAMES, seed=1) != some
    assert chosen(NAMES, fraction=0.3) > some
    fewer = [name for name in NAMES if name not in NAMES[:5]]
    assert len(chosen(fewer) & some) >= len(some) - 6  # others stay where they were


@pytest.mark.parametrize(
    ("number", "fraction", "expected"), [(1, 0.2, 0), (2, 0.01, 1), (2, 0.99, 1), (10, 0, 0), (7, 0.5, 4)]
)
def test_small_numbers_leave_something_on_both_sides(number, fraction, expected):
    assert len(chosen(NAMES[:number], fraction=fraction)) == expected


def test_copies_go_together():
    pairs = [[i, i + 50] for i in range(50)]
    for seed in range(5):
        picked = choose_val(NAMES, pairs, 0.2, seed)
        assert len(picked) == 20
        assert all((i in picked) == (i + 50 in picked) for i in range(50))


@pytest.mark.parametrize("seed", range(20))
def test_a_large_group_of_copies_stays_in_train(seed):
    """As long as there is anything else to measure on: val is no larger than it need be."""
    assert choose_val(NAMES[:4], [[0, 1, 2]], 0.25, seed) == {3}
    assert choose_val(NAMES[:10], [list(range(1, 10))], 0.2, seed) == {0}
    assert choose_val(NAMES[:5], [[0, 1], [2, 3, 4]], 0.2, seed) == {0, 1}  # all are too large: the smallest
    assert choose_val(NAMES[:2], [[0, 1]], 0.2, seed) == set()  # nothing would be left


def pairs(folder: Path) -> list[Path]:
    """50 pictures, and a copy of each under a name that says nothing."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(50):
        cv2.imwrite(str(folder / f"{i:02d}.png"), rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        shutil.copy(folder / f"{i:02d}.png", folder / f"z{i * 37 % 50:02d}.png")
    return sorted(folder.iterdir())


def annotated(root: Path, split: str) -> list[Path]:
    photos = pairs(root / "images")
    images = [{"id": i, "file_name": path.name, "width": 8, "height": 8} for i, path in enumerate(photos)]
    objects = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [1, 1, 4, 4]} for i in range(len(photos))]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    (root / "instances.json").write_text(json.dumps(content))
    return [record.path for record in load_annotated(root, split).records]


def labelled(root: Path, split: str) -> list[Path]:
    pairs(root / "a")
    (root / "b").mkdir()
    shutil.copy(root / "a/00.png", root / "b/of another class.png")
    for i in range(4):
        (root / f"b/{i}.png").write_bytes(bytes([i + 1]))
    return [photo.path for photo in load_labelled(root, split).photos]


def of_faces(root: Path, split: str) -> list[Path]:
    rows = "".join(f"{path.name},{i % 2}\n" for i, path in enumerate(pairs(root / "images")))
    (root / "attributes.csv").write_text(f"file,Smiling\n{rows}")
    return load_faces([root], split, test_fraction=0).paths


@pytest.mark.parametrize("load", [annotated, labelled, of_faces])
def test_no_picture_is_learnt_and_measured_in_any_app(tmp_path, load):
    train, val = ({path.read_bytes() for path in load(tmp_path / split, split)} for split in ("train", "val"))
    assert len(train) >= 40
    assert len(val) >= 5
    assert not train & val


@pytest.mark.parametrize("app", ["detection", "finegrained"])
def test_photos_of_train_in_a_val_of_its_own_are_told(tmp_path, app):
    draw, load, photos = {
        "detection": (draw_tiny_coco, load_splits_annotated, ("train/001.png", "val/001.png", "val/002.png")),
        "finegrained": (
            draw_photos,
            load_splits_labelled,
            ("train/robin/000.png", "val/robin/000.png", "val/robin/001.png"),
        ),
    }[app]
    root = draw(tmp_path / "data")
    _, val = load(root, ("train", "val"))
    assert "in train, too" not in val.describe()
    for other in photos[1:]:
        shutil.copy(root / photos[0], root / other)
    train, val = load(root, ("train", "val"))
    assert "; 2 of them are in train, too: its figures flatter" in val.describe()
    assert "in train, too" not in train.describe()
