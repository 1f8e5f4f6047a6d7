"""The data doctor on a data set with one of every fault, what its clean file leaves, and clean and real data."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.common.cli import run_command
from apps.detection.check import Config, check, main
from apps.detection.data.load import load_splits
from tests.conftest import write_coco

SCRIPT = Path(__file__).resolve().parents[2] / "apps/detection/check.py"
BOX = {"bbox": [10, 10, 40, 40], "iscrowd": 0}


class Maker:
    """Writes photos of 100x80 pixels and collects the content of COCO's file."""

    def __init__(self, root: Path, split: str) -> None:
        self.root, self.split = root, split
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        (root / split).mkdir(parents=True)

    def photo(self, name: str, *boxes, mode: str = "RGB", size=(100, 80), seed: int | None = None, **options) -> Path:
        seed = len(self.images) + (1000 if self.split == "val" else 0) if seed is None else seed
        noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(noise).convert(mode).save(self.root / self.split / name, **options)
        return self.entry(name, *boxes)

    def entry(self, name: str, *boxes) -> Path:
        """Boxes: (category id, [x, y, w, h])."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "width": 100, "height": 80})
        for category_id, box in boxes:
            what = {"id": len(self.annotations) + 1, "image_id": number, "category_id": category_id}
            self.annotations.append({**what, "bbox": box, "area": math.prod(box[2:]) or 1, "iscrowd": 0})
        return self.root / self.split / name

    def save(self) -> None:
        write_coco(self.root, self.split, self.images, self.annotations)


GOOD = (3, [10, 10, 40, 40])
BLUE = (7, [20, 30, 20, 10])


@pytest.fixture
def makers(tmp_path) -> tuple[Maker, Maker]:
    train, val = (Maker(tmp_path / "my photos", split) for split in ("train", "val"))
    for i in range(6):
        train.photo(f"{i}.jpg", GOOD, BLUE)
    for i in range(3):
        val.photo(f"{i}.jpg", GOOD, BLUE)
    for maker in (train, val):
        maker.save()
    return train, val


@pytest.fixture
def messy(makers) -> Path:
    """The good data and one case of every finding."""
    train, val = makers
    exif = Image.Exif()
    exif[0x0112] = 6
    train.entry("text.jpg", GOOD).write_text("hello")
    whole = (train.root / "train/0.jpg").read_bytes()
    train.entry("cut Ü.jpg", GOOD).write_bytes(whole[: len(whole) // 2])
    train.entry("gone.jpg", GOOD)
    Image.new("RGB", (100, 80)).save(train.root / "train/gone.png")
    train.photo("no area.jpg", GOOD, (3, [5, 5, 0, 9]))
    train.photo("over the edge.jpg", (3, [70, 10, 40, 40]))
    train.photo("far out.jpg", (3, [300, 10, 40, 40]))
    train.photo("undeclared.jpg", GOOD, (99, [1, 1, 20, 20]))
    train.photo("broken.jpg", GOOD, (3, [1, 1, 20]))
    train.photo("twice.jpg", GOOD, GOOD, BLUE)
    train.photo("both.jpg", GOOD, (7, GOOD[1]))
    train.photo("other size.jpg", GOOD, size=(200, 160))
    train.photo("turned.jpg", GOOD, exif=exif)  # 80x100 as seen, annotated as 100x80
    train.photo("png.jpg", GOOD, format="PNG")
    train.photo("gray.jpg", GOOD, mode="L")
    train.photo("clear.png", GOOD, mode="RGBA")
    train.photo("negative.jpg")
    shutil.copy(train.root / "train/1.jpg", val.entry("leaked.jpg", GOOD, BLUE))
    shutil.copy(train.root / "train/2.jpg", train.entry("other boxes.jpg", GOOD))
    shutil.copy(train.root / "train/3.jpg", train.entry("same again.jpg", GOOD, BLUE))
    for maker in makers:
        maker.save()
    path = train.root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content["categories"] += [{"id": 8, "name": "only val"}, {"id": 9, "name": "nowhere"}]
    content["annotations"].append({"id": 50, "image_id": 1, "category_id": 8, "bbox": [1, 1, 9, 9], "area": 81})
    content["annotations"].append({"id": 51, "image_id": 77, "category_id": 8, "bbox": [1, 1, 9, 9], "area": 81})
    path.write_text(json.dumps(content))
    return train.root


EXPECTED = {
    ("error", "photos that cannot be read"): ["text.jpg is not an image", "cut Ü.jpg is truncated"],
    ("error", "photos that are missing"): ["'gone.jpg' (id 9) is not in"],
    ("error", "boxes without area"): ["(image 'no area.jpg'): bbox [5, 5, 0, 9] has no area"],
    ("error", "boxes outside the image"): ["(image 'over the edge.jpg')", "(image 'far out.jpg')"],
    ("error", "objects of an undeclared class"): ["(image 'undeclared.jpg'): category id 99"],
    ("error", "objects whose box or class cannot be read"): ["(image 'broken.jpg'): bbox must be four numbers"],
    ("error", "objects of no image"): ["annotation 51: there is no image with id 77"],
    ("error", "photos of another size than their annotation says"): ["other size.jpg (train): 200x160 pixels"],
    ("error", "pictures in more than one split"): ["1.jpg (train) = "],
    ("error", "copies of a picture with other objects"): ["2.jpg (train) = "],
    ("error", "classes without an object in train"): ["only val: 1 in other splits"],
    ("warning", "pictures twice in one split"): ["3.jpg (train) = "],
    ("warning", "photos with an object that is there twice"): ["twice.jpg (train): 1, as [10, 10, 50, 50] (xyxy)"],
    ("warning", "photos with a box of two classes"): ["both.jpg (train): [10, 10, 50, 50] (xyxy)"],
    ("warning", "classes with fewer than 10 objects in train"): ["blue: 9"],
    ("note", "classes without an object"): ["nowhere"],
    ("note", "files named as another format"): ["png.jpg is PNG"],
    ("note", "photos turned by EXIF"): ["turned.jpg: orientation 6"],
    ("note", "photos annotated as they are stored, not as EXIF turns them"): ["turned.jpg (train)"],
    ("note", "gray photos"): ["gray.jpg"],
    ("note", "photos with transparency, which is put on white"): ["clear.png"],
    ("note", "photos without objects"): ["negative.jpg (train)"],
}


def test_every_fault_is_found_once_and_nothing_else(messy, tmp_path, capsys):
    findings = check(Config(data=str(messy), out=tmp_path / "out"))
    found = {(finding.level, finding.what): finding.cases for finding in findings}
    assert set(found) == set(EXPECTED)
    for key, wanted in EXPECTED.items():
        assert len(found[key]) == len(wanted), (key, found[key])
        assert all(any(part in case for case in found[key]) for part in wanted), found[key]
    assert "there is gone.png" in found["error", "photos that are missing"][0]
    report = json.loads((tmp_path / "out/check.json").read_text())
    assert [(f["level"], f["what"], f["cases"], f["count"]) for f in report["findings"]] == [
        (f.level, f.what, f.cases, len(f.cases)) for f in findings
    ]
    assert report["num_photos"] == {"train": 23, "val": 4}
    text = capsys.readouterr().out
    assert text.index("ERRORS") < text.index("WARNINGS") < text.index("NOTES")
    for name in ("boxes.jpg", "problems.jpg"):
        assert Image.open(tmp_path / "out" / name).size[0] == 1600
    red = np.asarray(Image.open(tmp_path / "out/problems.jpg")).astype(int)
    assert ((red[..., 0] > 200) & (red[..., 1:].max(axis=2) < 110)).sum() > 100


def test_good_data_has_no_finding_and_is_counted_as_coco_does(makers, tmp_path, capsys):
    """Areas 200, 1600 (medium, of COCO's evaluation: 32 x 32 to 96 x 96), 1023 and 9217; a crowd is none of them."""
    train, _ = makers
    train.photo("large.jpg", (3, [0, 0, 100, 97]), size=(100, 97))
    train.images[-1]["height"] = 97
    train.annotations[0]["area"], train.annotations[-1]["area"], train.annotations[4]["iscrowd"] = 1023, 9217, 1
    train.save()
    assert check(Config(data=str(train.root), out=tmp_path / "out", min_objects=5)) == []
    assert not (tmp_path / "out/problems.jpg").exists()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in ("train val small medium large crowds", "photos 7 3", "red 6 3 1 7 1 1", "blue 6 3 9 0 0 0"):
        assert row.split() in lines
    red = json.loads((tmp_path / "out/check.json").read_text())["classes"]["red"]
    assert red["train"] == {"objects": 6, "small": 1, "medium": 4, "large": 1, "crowds": 1}


def test_what_may_be_meant_is_noted(makers, tmp_path, capsys):
    """Classes that differ in case alone, photos of another folder, and more objects than COCO's metrics count."""
    train, val = makers
    train.photo("../../outside.jpg", GOOD)
    train.photo("full.jpg", *[(7, [x, y, 8, 8]) for x in range(0, 90, 9) for y in range(0, 72, 6)][:101])
    for maker in (train, val):
        maker.save()
        path = maker.root / f"annotations/instances_{maker.split}.json"
        path.write_text(path.read_text().replace('"blue"', '"Red"'))
    found = {f.what: f.cases for f in check(Config(data=str(train.root), out=tmp_path / "out", min_objects=1))}
    assert found["classes with nearly equal names"] == ["'red' = 'Red'"]
    assert [Path(case).name for case in found["photos outside the folder of the data"]] == ["outside.jpg"]
    assert "1 photos of train have more than 100 objects, up to 101" in capsys.readouterr().out


def test_the_clean_file_is_read_and_has_no_errors_left(messy, tmp_path):
    before = {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()}
    check(Config(data=str(messy), out=tmp_path / "out", fix=True))
    assert {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()} == before
    clean = tmp_path / "my photos-clean.json"
    train, val = load_splits(clean, ("train", "val"))
    assert train.skipped == val.skipped == []
    boxes = {record.path.name: record.boxes_xyxy_px.tolist() for record in train.records}
    assert {record.path.name for record in val.records} == {"0.jpg", "1.jpg", "2.jpg", "leaked.jpg"}
    gone = ["text.jpg", "cut Ü.jpg", "gone.jpg", "far out.jpg", "other size.jpg", "1.jpg", "2.jpg", "other boxes.jpg"]
    assert not set(boxes) & {*gone, "same again.jpg"}
    assert len(boxes) == 6 + 19 - 1 - len(gone) - 1
    assert boxes["over the edge.jpg"] == [[70, 10, 100, 50]]
    assert boxes["no area.jpg"] == boxes["undeclared.jpg"] == [[10, 10, 50, 50]]
    assert len(boxes["twice.jpg"]) == len(boxes["both.jpg"]) == 2
    assert boxes["negative.jpg"] == []
    assert "only val" in train.class_names
    again = check(Config(data=str(clean), out=tmp_path / "again"))
    assert [f.what for f in again if f.level == "error"] == ["classes without an object in train"]


def test_the_clean_file_keeps_splits_of_other_names(makers, tmp_path):
    root = makers[0].root
    minival = Maker(root, "minival")
    for i in range(2):
        minival.photo(f"m{i}.jpg", GOOD, seed=500 + i)
    minival.save()
    check(Config(data=str(root), out=tmp_path / "out", fix=True))
    splits = load_splits(tmp_path / "my photos-clean.json", ("train", "val", "minival"))
    assert [len(split.records) for split in splits] == [6, 3, 2]


def test_a_number_that_json_lacks_is_left_out_of_the_clean_file(makers, tmp_path, capsys):
    makers[0].annotations[0] |= {"score": float("nan"), "attributes": {"sure": [float("inf")]}}
    makers[0].save()
    check(Config(data=str(makers[0].root), out=tmp_path / "out", fix=True))
    assert (
        "left out 2 entries with a number that is not finite, such as 'score' of annotation 1"
        in capsys.readouterr().out
    )
    assert len(load_splits(tmp_path / "my photos-clean.json", ("train",))[0].records) == 6


def test_data_without_an_object_is_an_error(tmp_path):
    maker = Maker(tmp_path / "empty", "train")
    for i in range(3):
        maker.photo(f"{i}.jpg")
    maker.save()
    errors = [f.what for f in check(Config(data=str(maker.root), out=tmp_path / "out")) if f.level == "error"]
    assert errors == ["data without an object to learn"]


def test_photos_of_yolo_that_cannot_be_read_are_named_as_such(tmp_path):
    root = tmp_path / "set"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for i in range(5):
        noise = np.random.default_rng(i).integers(0, 255, (80, 80, 3), np.uint8)
        Image.fromarray(noise).save(root / f"images/{i}.jpg")
        (root / f"labels/{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "images/4.jpg").write_text("hello")
    (root / "labels/3.txt").write_text("1 0.5 0.5 0.2 0.2\n")  # its only object: not to be taken for empty
    (root / "labels/2.txt").write_text("")
    (root / "data.yaml").write_text("train: images\nnames: [fish]\n")
    found = {f.what: f.cases for f in check(Config(data=str(root), out=tmp_path / "out", fix=True, min_objects=0))}
    (unreadable,) = found.pop("photos that cannot be read")
    assert unreadable.startswith(f"image {root}/images/4.jpg is not an image: read are JPEG, PNG, WEBP")
    assert "labels/3.txt line 1: class 1 is none of the 1" in found.pop("objects of an undeclared class")[0]
    assert [case[-14:] for case in found.pop("photos without objects")] in (["/2.jpg (train)"], ["s/2.jpg (val)"])
    assert list(found) == ["about the data"]
    train, val = load_splits(tmp_path / "set-clean.json", ("train", "val"))
    assert {r.path.name for r in (*train.records, *val.records)} == {"0.jpg", "1.jpg", "2.jpg"}
    assert train.class_names == ["fish"]


def test_exit_codes_of_the_command(messy, tmp_path, capsys):
    command = [sys.executable, str(SCRIPT), "--data", str(messy), "--examples", "1"]
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 1, bad.stderr
    assert "photos that cannot be read: 2" in bad.stdout
    assert "... and 1 more" in bad.stdout
    assert (tmp_path / "runs/detection/check-my photos/check.json").exists()
    with pytest.raises(SystemExit) as stop:
        run_command(main, Config, ["--data", str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "there is no such folder or file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="examples must be 0 or more, got -1"):
        check(Config(data=str(messy), examples=-1))


def test_real_photos(shared, tmp_path, capsys):
    run_command(main, Config, ["--data", str(shared / "data/detection/raccoon_voc"), "--out", str(tmp_path)])
    report = json.loads((tmp_path / "check.json").read_text())
    assert report["layout"] == "Pascal VOC XML"
    assert sum(report["num_photos"].values()) == 60
    assert {finding["level"] for finding in report["findings"]} == {"note"}
    assert "ERRORS (training or its figures would be wrong): none" in capsys.readouterr().out
