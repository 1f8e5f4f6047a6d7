"""Reading YOLO folders: data.yaml's forms, the mirror of images and labels, and every fault by file and line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.detection.data.load import find_data, load_split, load_splits, read_parts

LINES = {
    "train/a": "0 0.5 0.5 1 1\n1 0.25 0.5 0.1 0.2\n\n",
    "train/b c": "1 0.1 0.2 0.5 0.2 0.5 0.6 0.3 0.8\n",
    "train/empty": "",
    "val/d": "0.0 0.5 0.5 0.5 0.25",
}


@pytest.fixture
def yolo(tmp_path) -> Path:
    """Photos of 80x40 pixels, one without a text file."""
    root = tmp_path / "my images" / "set"
    for i, name in enumerate((*LINES, "train/missing")):
        photo = root / "images" / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 80, 3), np.uint8)).save(photo)
        if name in LINES:
            (root / f"labels/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
            (root / f"labels/{name}.txt").write_text(LINES[name])
    declare(root, "train: images/train\nval: images/val\nnames: [bird, fish]\n")
    return root


def declare(root: Path, text: str) -> None:
    (root / "data.yaml").write_text(text)


def boxes(split) -> dict[str, list[list[float]]]:
    return {r.path.stem: [[round(v, 3) for v in box] for box in r.boxes_xyxy_px.tolist()] for r in split.records}


def test_what_is_read(yolo):
    train, val = load_splits(yolo, ("train", "val"))
    assert train.class_names == val.class_names == ["bird", "fish"]
    assert boxes(train) == {
        "a": [[0, 0, 80, 40], [16, 16, 24, 24]],
        "b c": [[8, 8, 40, 32]],
        "empty": [],
        "missing": [],
    }
    assert [record.labels.tolist() for record in train.records] == [[1, 2], [2], [], []]
    assert boxes(val) == {"d": [[20, 15, 60, 25]]}
    assert "1 photos of train have no text file and so no objects" in train.describe()
    assert "4 images (2 without objects), 3 objects of 2 classes" in train.describe()


FORMS = {
    "numbers with names": "train: images/train\nval: images/val\nnames:\n  1: fish\n  0: bird\n",
    "path": "path: ../set\ntrain: images/train\nval: images/val\nnames: [bird, fish]",
    "path of another machine": "path: /nowhere/set\ntrain: images/train\nval: images/val\nnames: [bird, fish]",
    "one level off": "train: ../images/train\nval: ../images/val\nnames: [bird, fish]\nnc: 2\n",
    "lists": "train: train list.txt\nval: [val.txt]\nnames: [bird, fish]",
    "valid": "train: [images/train]\nvalid: images/val/\nnames: [bird, fish]",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_yaml(yolo, form):
    expected = [boxes(split) for split in load_splits(yolo, ("train", "val"))]
    declare(yolo, FORMS[form])
    (yolo / "train list.txt").write_text("".join(f"./images/train/{n}.jpg\n" for n in ("a", "b c", "empty", "missing")))
    (yolo / "val.txt").write_text(str(yolo / "images/val/d.jpg"))
    for data in (yolo, yolo / "data.yaml"):
        splits = load_splits(data, ("train", "val"))
        assert [boxes(split) for split in splits] == expected
        assert splits[0].class_names == ["bird", "fish"]


def test_exif_turns_the_photo_before_its_boxes_are_read(yolo):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.open(yolo / "images/val/d.jpg").save(yolo / "images/val/d.jpg", exif=exif)
    val = load_split(yolo, "val")
    assert (val.records[0].width, val.records[0].height) == (40, 80)
    assert boxes(val) == {"d": [[10, 30, 30, 50]]}


def test_labels_beside_the_photos_and_keypoints(yolo):
    declare(yolo, "val: images/val\nnames: [bird, fish]\nkpt_shape: [2, 3]\n")
    (yolo / "labels/val/d.txt").rename(yolo / "images/val/d.txt")
    (yolo / "images/val/d.txt").write_text("1 0.5 0.5 0.5 0.25 0.4 0.4 2 0.6 0.6 1")
    assert boxes(load_split(yolo, "val")) == {"d": [[20, 15, 60, 25]]}


FAULTS = {
    "class too high": ("2 0.5 0.5 0.2 0.2", "class 2 is none of the 2 of data.yaml"),
    "class below 0": ("-1 0.5 0.5 0.2 0.2", "class -1 is none of"),
    "half a class": ("0.5 0.5 0.5 0.2 0.2", "class 0.5 is none of"),
    "pixels": ("1 40 20 10 10", "40 is not from 0 to 1"),
    "below 0": ("1 -0.1 0.5 0.2 0.2", "-0.1 is not from 0 to 1"),
    "polygon outside": ("1 0.1 0.1 0.5 0.1 0.5 1.5", "1.5 is not from 0 to 1"),
    "box outside": ("1 0.95 0.5 0.5 0.2", r"lies outside the image \(80x40 pixels\)"),
    "no width": ("1 0.5 0.5 0 0.2", "width and height must be above 0"),
    "negative": ("1 0.5 0.5 -0.2 0.2", "width and height must be above 0"),
    "flat polygon": ("1 0.1 0.1 0.5 0.1 0.7 0.1", "width and height must be above 0"),
    "four numbers": ("1 0.5 0.5 0.2", "has 4 numbers, wanted are class cx cy w h"),
    "six numbers": ("1 0.5 0.5 0.2 0.2 0.9", "has 6 numbers"),
    "words": ("fish 0.5 0.5 0.2 0.2", "is not of numbers: 'fish 0.5"),
    "nan": ("1 nan 0.5 0.2 0.2", "is not of numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_by_file_and_line_and_skipped_with_a_count(yolo, fault):
    line, message = FAULTS[fault]
    (yolo / "labels/train/a.txt").write_text(f"0 0.5 0.5 1 1\n{line}\n")
    with pytest.raises(ValueError, match=rf"labels/train/a\.txt line 2.*{message}"):
        load_split(yolo, "train")
    split = load_split(yolo, "train", bad_data="skip")
    assert len(split.skipped) == 1
    assert boxes(split)["a"] == [[0, 0, 80, 40]]


YAML_FAULTS = {
    "names: [a": "data.yaml is not valid YAML",
    "names: [a, a]\ntrain: images/train": "the class 'a' is there twice",
    "names: 5\ntrain: images/train": "names must be a list",
    "names: {0: a, null: b}\ntrain: images/train": "names must be a list, or numbers with names",
    "names: [{0: a}, {1: b}]\ntrain: images/train": "names must be a list, or numbers with names",
    "names: {a: b}\ntrain: images/train": "names must be a list, or numbers with names",
    "names: [a]": "names no photos",
    "names: [a]\ntrain: images/gone": "train is 'images/gone', but there is no",
    "names: [a]\ntrain: data.yaml": "neither a folder nor a .txt list",
    "names: [a]\ntrain: labels/train": "no photos in it",
}


def test_a_path_that_no_system_has_is_that_of_another_machine(yolo):
    before = load_split(yolo, "train").records
    declare(yolo, f"path: {'a' * 5000}\n{(yolo / 'data.yaml').read_text()}")
    assert [record.path for record in load_split(yolo, "train").records] == [record.path for record in before]


@pytest.mark.parametrize("text", YAML_FAULTS)
def test_a_wrong_yaml_is_named(yolo, text):
    declare(yolo, text)
    with pytest.raises(ValueError, match=YAML_FAULTS[text]):
        load_split(yolo, "train")


def test_a_file_that_is_no_data_set(yolo):
    (yolo / "data.yaml").rename(yolo / "other.yml")
    assert len(load_split(yolo, "train").records) == 4
    (yolo / "docker.yaml").write_text("services: {}")
    assert len(load_split(yolo, "train").records) == 4
    (yolo / "damaged.yml").write_text("a: [")
    assert len(load_split(yolo, "train").records) == 4
    with pytest.raises(ValueError, match=r"docker\.yaml has no 'names'"):
        load_split(yolo / "docker.yaml", "train")
    (yolo / "second.yaml").write_text((yolo / "other.yml").read_text())
    with pytest.raises(ValueError, match=r"several YAML files of data sets: other\.yml, second\.yaml; give one"):
        load_split(yolo, "train")


def test_no_text_file_at_all_is_a_mistake_and_no_empty_set(yolo):
    (yolo / "labels").rename(yolo / "Labels of mine")
    with pytest.raises(ValueError, match=r"none of the 4 photos of train has a text file; .*labels/train/a\.txt"):
        load_split(yolo, "train")


def test_text_files_without_a_photo_are_told(yolo):
    for name, text in (("orphan.txt", "1 0.5 0.5 0.2 0.2"), ("classes.txt", "bird\nfish"), ("nothing.txt", "")):
        (yolo / "labels/train" / name).write_text(text)
    (yolo / "labels/train/a.txt").rename(yolo / "labels/train/a.TXT")
    train = load_split(yolo, "train")
    assert train.notes == (
        "1 photos of train have no text file and so no objects",
        f"1 text files of train have no photo, as {yolo}/labels/train/orphan.txt",
    )
    assert len(boxes(train)["a"]) == 2
    (yolo / "list.txt").write_text("images/train/b c.jpg\n")  # "a" has a photo, though it is in no list
    declare(yolo, "train: list.txt\nval: [images/val, images/val]\nnames: [bird, fish]")
    train, val = load_splits(yolo, ("train", "val"))
    assert train.notes == (f"1 text files of train have no photo, as {yolo}/labels/train/orphan.txt",)
    assert val.notes == ()


def test_photos_behind_a_link_have_their_objects(yolo, tmp_path):
    (yolo / "images").rename(tmp_path / "elsewhere")
    (yolo / "labels").rename(tmp_path / "labels of it")
    (tmp_path / "elsewhere").rename(tmp_path / "images")
    (tmp_path / "labels of it").rename(tmp_path / "labels")
    (yolo / "photos").symlink_to(tmp_path / "images", target_is_directory=True)
    declare(yolo, "train: photos/train\nval: photos/val\nnames: [bird, fish]")
    assert len(boxes(load_split(yolo, "train"))["a"]) == 2
    (tmp_path / "images/latest").symlink_to("train", target_is_directory=True)
    declare(yolo, "train: photos\nnames: [bird, fish]")
    assert len(load_split(yolo, "train", val_fraction=0).records) == 5


def test_odd_text_files_do_no_harm(yolo):
    (yolo / "labels/train/broken.txt").symlink_to("nowhere.txt")
    (yolo / "labels/train/folder.txt").mkdir()
    assert len(load_split(yolo, "train").records) == 4


def test_a_missing_train_is_told_where_there_is_no_val(yolo):
    declare(yolo, "train: images/trian\nnames: [bird, fish]")
    with pytest.raises(ValueError, match="train is 'images/trian', but there is no"):
        load_splits(yolo, ("train", "val"))


def test_a_split_that_is_not_there_does_not_hide_the_others(yolo):
    declare(yolo, "train: images/train\nval: images/val\ntest: images/test\nnames: [bird, fish]")
    parts = read_parts(find_data(yolo))
    assert [len(part.images) for part in parts] == [4, 1, 0]
    assert "test is 'images/test', but there is no" in parts[2].problems[0].sentence
    (yolo / "images/test").mkdir()
    assert "test is 'images/test', but " in read_parts(find_data(yolo))[2].problems[0].sentence
    (yolo / "images/test").rmdir()
    with pytest.raises(ValueError, match="test is 'images/test', but there is no"):
        load_split(yolo, "test")


def test_a_listed_photo_that_is_not_there(yolo):
    declare(yolo, "train: list.txt\nval: images/val\nnames: [bird, fish]")
    (yolo / "list.txt").write_text("images/train/a.jpg\n\nimages/train/gone.jpg\n")
    with pytest.raises(ValueError, match=r"list\.txt line 3: there is no .*gone\.jpg"):
        load_split(yolo, "train")
    (yolo / "images/train/phone.HEIC").write_text("")
    declare(yolo, "train: images/train\nval: images/val\nnames: [bird, fish]")
    with pytest.raises(ValueError, match=r"phone\.HEIC: this format is not read; convert it"):
        load_split(yolo, "train")
