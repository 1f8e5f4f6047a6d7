"""The drawn sample set: the same for everybody, complete, and true to its boxes."""

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from apps.common.cli import parse
from apps.common.drawing.sample_set import PROJECT
from apps.detection import sample
from apps.detection.data.load import load_split
from apps.detection.reef.animals import ANIMALS
from apps.detection.reef.scene import MIN_VISIBLE, Scene, draw_scene

NUM_TRAIN, NUM_VAL = 56, 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "reef"
    return sample.make_sample(folder, num_train=NUM_TRAIN, num_val=NUM_VAL, num_workers=1)


def coco_of(root: Path, split: str) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(root / "annotations" / f"instances_{split}.json")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_scene_is_a_function_of_its_seed() -> None:
    one, two, other = (draw_scene(np.random.default_rng((seed, 0, 5)), "crab") for seed in (1, 1, 2))
    assert np.array_equal(one[0], two[0])
    assert [animal.box_xywh for animal in one[1]] == [animal.box_xywh for animal in two[1]]
    assert one[0].shape != other[0].shape or not np.array_equal(one[0], other[0])


def test_processes_draw_the_same_files_as_one(tmp_path: Path) -> None:
    numbers = {"num_train": 5, "num_val": 2}
    alone = sample.make_sample(tmp_path / "alone", **numbers, num_workers=1)
    shared = sample.make_sample(tmp_path / "shared", **numbers, num_workers=2)
    assert len(contents(alone)) == 5 + 2 + 3
    assert contents(alone) == contents(shared)
    other = sample.make_sample(tmp_path / "other", **numbers, seed=1, num_workers=1)
    assert contents(alone).keys() == contents(other).keys()
    assert not set(contents(alone).values()) & set(contents(other).values())


def test_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    first = sample.make_sample(num_train=2, num_val=1)
    assert capsys.readouterr().out == f"drawing the sample set (2 + 1 pictures) into {first}\n"
    assert sample.make_sample(num_train=2, num_val=1) == first
    assert capsys.readouterr().out == ""
    assert first.parent == tmp_path and first.name.startswith("detection-sample-v1-")


def test_boxes_hold_what_is_to_be_seen_and_nothing_else() -> None:
    num = 0
    for index in range(40):
        picture, found = draw_scene(np.random.default_rng((7, index)), list(ANIMALS)[index % len(ANIMALS)])
        height, width = picture.shape[:2]
        for animal in found:
            x, y, w, h = animal.box_xywh
            assert 0 <= x < x + w <= width and 0 <= y < y + h <= height
            inside = animal.visible[y : y + h, x : x + w]
            assert np.count_nonzero(inside) == np.count_nonzero(animal.visible) >= MIN_VISIBLE * animal.full_area
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            num += 1
        for one, two in itertools.combinations(found, 2):
            assert not (one.visible & two.visible).any(), "two animals claim one pixel"
    assert num > 40


def test_an_animal_lies_where_its_box_says() -> None:
    """Pixels change where its box is, and nowhere else."""
    scene = Scene(np.random.default_rng(3))
    while scene.site.view != "open":  # no ground, so no shadow
        scene = Scene(np.random.default_rng(scene.rng.integers(1 << 30)))
    before = scene.image.copy()
    scene.add_animal("turtle", 80, ((250, 0, 0), (0, 250, 0), (0, 0, 250)))
    (turtle,) = scene.found
    changed = np.abs(scene.image - before).max(0) > 4
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    x, y, w, h = turtle.box_xywh
    assert abs(columns[0] - x) <= 1 and abs(columns[-1] + 1 - x - w) <= 1
    assert abs(rows[0] - y) <= 1 and abs(rows[-1] + 1 - y - h) <= 1


@pytest.mark.parametrize(("split", "num_images"), [("train", NUM_TRAIN), ("val", NUM_VAL)])
def test_coco_files(root: Path, split: str, num_images: int) -> None:
    coco = coco_of(root, split)
    assert len(coco.imgs) == num_images
    assert coco.dataset["info"]["seed"] == 0 and coco.dataset["info"]["description"]
    assert [category["id"] for category in coco.dataset["categories"]] == [1, 2, 3, 5, 7, 8]
    for name, category_id in sample.CATEGORY_IDS.items():
        assert coco.getCatIds(catNms=[name]) == [category_id]
        assert coco.getAnnIds(catIds=[category_id]), f"no {name} in {split}"
    for image in coco.imgs.values():
        height, width = np.asarray(cv2.imread(str(root / split / image["file_name"]))).shape[:2]
        assert (image["width"], image["height"]) == (width, height)
    for annotation in coco.anns.values():
        x, y, w, h = annotation["bbox"]
        image = coco.imgs[annotation["image_id"]]
        assert x >= 0 and y >= 0 and x + w <= image["width"] and y + h <= image["height"]
        assert 0 < annotation["area"] <= w * h and annotation["iscrowd"] == 0


def test_the_splits_share_no_id_and_no_picture(root: Path) -> None:
    train, val = coco_of(root, "train"), coco_of(root, "val")
    assert not set(train.imgs) & set(val.imgs)
    assert not set(train.anns) & set(val.anns)
    pictures = [path.read_bytes() for split in ("train", "val") for path in (root / split).iterdir()]
    assert len(set(pictures)) == NUM_TRAIN + NUM_VAL


def test_variety(root: Path) -> None:
    coco = coco_of(root, "train")
    boxes_of = {image_id: coco.imgToAnns[image_id] for image_id in coco.imgs}
    counts = Counter(len(boxes) for boxes in boxes_of.values())
    assert counts[0] >= 1, "no picture without animals"
    assert max(counts) >= 3 and counts[1] >= 3
    assert len({(image["width"], image["height"]) for image in coco.imgs.values()}) >= 4
    sizes = [
        max(annotation["bbox"][2:]) / min(coco.imgs[image_id]["width"], coco.imgs[image_id]["height"])
        for image_id, boxes in boxes_of.items()
        for annotation in boxes
    ]
    assert 0.55 < np.median(sizes) < 0.85 and min(sizes) < 0.25 and max(sizes) > 0.95
    assert np.mean(np.array(sizes) < 0.14) < 0.2


def test_the_detector_reads_it(root: Path) -> None:
    split = load_split(root, "val")
    assert tuple(split.class_names) == tuple(ANIMALS)
    assert len(split.records) == NUM_VAL


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="exists and is not this sample set: give a folder that is new or empty"):
        sample.make_sample(tmp_path, num_train=1, num_val=1)
    assert (tmp_path / "mine.txt").exists()
    with pytest.raises(ValueError, match="num_val is 0, it must be 1 or more"):
        sample.make_sample(tmp_path / "new", num_train=1, num_val=0)
    with pytest.raises(ValueError, match="num_workers is 0, it must be 1 or more"):
        sample.make_sample(tmp_path / "new", num_train=1, num_val=1, num_workers=0)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "reef", tmp_path / "sheet.png"
    flags = ["--num-train", "3", "--num-val", "1", "--contact-sheet", str(sheet), "--out", str(out)]
    sample.main(parse(sample.Config, flags))
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape[1] == 1600
    annotations = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert len(annotations["images"]) == 3


def test_drawing_needs_no_torch() -> None:
    code = "import sys; import apps.detection.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, cwd=PROJECT).returncode == 0
