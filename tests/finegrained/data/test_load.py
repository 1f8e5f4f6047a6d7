"""Reading data as people have it, and every fault named with its file."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.finegrained.data.load import list_data, load_split, load_splits

PICTURE = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def fill(root: Path, files: str | list[str]) -> Path:
    for file in files.split() if isinstance(files, str) else files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PICTURE + os.fsencode(file))  # no two of them are copies
    return root


def numbered(folder: str, number: int) -> list[str]:
    return [f"{folder}/{i:02d}.jpg" for i in range(number)]


def names(split, root: Path) -> list[str]:
    return [f"{photo.path.relative_to(root).as_posix()}={split.class_names[photo.label]}" for photo in split.photos]


@pytest.fixture
def folders(tmp_path) -> Path:
    return fill(tmp_path / "my data", "train/a/1.jpg train/a/2.JPG train/b/3.jpeg valid/a/4.png test/b/5.jpg")


@pytest.fixture
def classes(tmp_path) -> Path:
    return fill(tmp_path / "data", numbered("a", 20) + numbered("b", 5) + numbered("c", 2) + numbered("single", 1))


def test_split_folders(folders):
    fill(folders, "train/a/.DS_Store train/a/Thumbs.db .git/x/y.jpg train/.cache/z.jpg")
    train, val, test = (load_split(folders, split) for split in ("train", "val", "test"))
    assert names(train, folders) == ["train/a/1.jpg=a", "train/a/2.JPG=a", "train/b/3.jpeg=b"]
    assert names(val, folders) == ["valid/a/4.png=a"]
    assert names(test, folders) == ["test/b/5.jpg=b"]
    assert train.class_names == val.class_names == test.class_names == ["a", "b"]
    assert train.counts == [2, 1]
    assert val.counts == [1, 0]
    assert train.describe() == "train: 3 photos of 2 classes, 1 to 2 of each"
    assert val.describe() == "val: 1 photos of 1 of 2 classes, 1 of each; none of b"
    assert load_split(folders, "validation").name == "val"


def test_a_class_in_one_split_alone(folders):
    """The list is the union of all splits; what train lacks cannot be learnt."""
    fill(folders, "valid/c/6.jpg")
    assert load_split(folders, "test").class_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"class 'c' has no photo in train; correct the data, or .* --bad-data skip"):
        load_split(folders, "train")
    assert load_split(folders, "train", bad_data="skip").class_names == ["a", "b"]
    val = load_split(folders, "val", bad_data="skip")
    assert val.class_names == ["a", "b"]
    assert [s for s in val.skipped if "c/6.jpg: its class 'c' has no photo in train" in s]


def test_class_folders_are_split_by_seed_and_names(classes, tmp_path):
    train, val = (load_split(classes, split) for split in ("train", "val"))
    assert val.class_names == train.class_names == ["a", "b", "c", "single"]
    assert val.counts == [4, 1, 1, 0]
    assert train.counts == [16, 4, 1, 1]
    both = Counter(photo.path for photo in train.photos + val.photos)
    assert len(both) == 28
    assert set(both.values()) == {1}
    assert "none of single; val is 20% of each class of train, chosen by seed 0" in val.describe()

    moved = classes.rename(tmp_path / "moved elsewhere")
    assert names(load_split(moved, "val"), moved) == names(val, classes)
    assert names(load_split(moved, "val", seed=1), moved) != names(val, classes)
    assert load_split(moved, "val", val_fraction=0.5).counts == [10, 2, 1, 0]
    with pytest.raises(ValueError, match=r"no split 'test'; there are train, val \(val is 20% of each class"):
        load_split(moved, "test")


def test_other_classes_do_not_change_the_choice(classes):
    before = names(load_split(classes, "val"), classes)
    fill(classes, numbered("0 new", 7))
    assert [name for name in names(load_split(classes, "val"), classes) if not name.startswith("0 new")] == before


def test_without_val_it_is_taken_out_of_train_and_test_stays(tmp_path):
    root = fill(tmp_path, numbered("train/a", 10) + numbered("train/b", 10) + numbered("test/a", 3))
    splits = {split: load_split(root, split) for split in ("train", "val", "test")}
    assert {name: split.counts for name, split in splits.items()} == {"train": [8, 8], "val": [2, 2], "test": [3, 0]}
    assert not {p.path for p in splits["train"].photos} & {p.path for p in splits["val"].photos}
    assert "chosen by seed 0" in splits["train"].describe()
    assert "chosen by seed 0" not in splits["test"].describe()
    assert load_split(root, "train", val_fraction=0).counts == [10, 10]
    with pytest.raises(ValueError, match=r"no split 'val'; there are train, test$"):
        load_split(root, "val", val_fraction=0)
    with pytest.raises(ValueError, match=r"from 0 \(no val\) to below 1, got 1"):
        load_split(root, "val", val_fraction=1)


def test_classes_of_a_model_are_mapped_by_name(folders):
    split = load_split(folders, "train", class_names=["z", "b", "a"])
    assert split.class_names == ["z", "b", "a"]
    assert split.counts == [0, 1, 2]
    with pytest.raises(ValueError, match=r"3\.jpeg: its class 'b' is none of the model's 2; did you mean 'bb'\?"):
        load_split(folders, "train", class_names=["a", "bb"])
    split = load_split(folders, "train", class_names=["a", "bb"], bad_data="skip")
    assert split.counts == [2, 0]
    assert len(split.skipped) == 1
    assert "skipped 1: " in split.describe()


def test_what_is_no_photo_is_passed_over_and_counted(folders):
    fill(folders, "train/a/readme.txt train/b/clip.mp4 valid/a/no_suffix extra/1.jpg photo.jpg")
    split = load_split(folders, "train")
    assert len(split.photos) == 3
    assert "skipped 4: " in split.describe()
    assert any(s.endswith("extra is not a split with class folders") for s in split.skipped)
    assert any(s.endswith("readme.txt is not a photo by its name") for s in split.skipped)
    assert any(s.endswith("photo.jpg is outside of a class folder") for s in split.skipped)


FAULTS = {
    "iPhone's format": ("train/a/x.HEIC", r"x\.HEIC: \.HEIC is not read; convert it to JPEG or PNG"),
    "without a class": ("train/stray.jpg", r"stray\.jpg is outside of a class folder"),
    "too deep": ("train/a/more/x.jpg", r"more is a folder inside a class folder"),
    "empty class": ("train/empty/.keep", r"class folder .*empty holds no photos"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_by_name_and_skipped_with_a_count(folders, fault):
    file, message = FAULTS[fault]
    fill(folders, [file])
    with pytest.raises(
        ValueError, match=message + ".*; correct the data, or skip its problems with --bad-data skip"
    ) as error:
        load_split(folders, "train")
    assert "\n" not in str(error.value)
    split = load_split(folders, "train", bad_data="skip")
    assert split.class_names == ["a", "b"]
    assert len(split.photos) == 3
    assert len(split.skipped) == 1


def test_a_broken_link_is_a_fault(folders):
    (folders / "train/a/link.jpg").symlink_to(folders / "gone.jpg")
    with pytest.raises(ValueError, match=r"link\.jpg does not exist"):
        load_split(folders, "train")


def test_links_in_a_circle_are_no_folders(folders):
    (folders / "self").symlink_to("self")
    assert load_split(folders, "train").photos
    (folders / "train/a/self.jpg").symlink_to("self.jpg")
    with pytest.raises(ValueError, match=r"self\.jpg does not exist"):
        load_split(folders, "train")


def test_several_faults_are_counted_and_other_splits_do_not_matter(folders):
    fill(folders, "train/a/x.heic train/a/y.heic train/b/z.heic")
    with pytest.raises(ValueError, match=r"\(and 2 more such problems\)"):
        load_split(folders, "train")
    assert load_split(folders, "val").skipped == []


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["file label split", "Image_Path Species Subset", "filename CLASS set"])
def test_tables(tmp_path, separator, header):
    fill(tmp_path, ["photos/a 1.jpg", "photos/ü.JPG", "c.png"])
    rows = [
        header.split(),
        ["photos/a 1.jpg", "cat", "train"],
        ["photos\\ü.JPG", "dog", "Train"],
        [],
        ["c.png", "cat", "valid"],
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n" + "\n".join(separator.join(row) for row in rows), encoding="utf-8-sig")
    for data in (table, tmp_path):
        assert names(load_split(data, "train"), tmp_path) == ["photos/a 1.jpg=cat", "photos/ü.JPG=dog"]
        assert names(load_split(data, "val"), tmp_path) == ["c.png=cat"]


def test_a_table_of_fastai_says_which_photos_are_of_val(tmp_path):
    fill(tmp_path, numbered("images", 4))
    rows = [f"images/{i:02d}.jpg,{'ab'[i % 2]},{word}" for i, word in enumerate(("False", "False", "True", "1"))]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["fname,labels,is_valid", *rows]))
    train, val = load_splits(tmp_path, ("train", "val"))
    assert [[photo.path.stem for photo in split.photos] for split in (train, val)] == [["00", "01"], ["02", "03"]]
    table.write_text("\n".join(["fname,labels,is_valid", *rows, "images/00.jpg,a,maybe"]))
    with pytest.raises(ValueError, match=r"line 6: split 'maybe' is unknown; allowed are true, 1, 1\.0, false, 0"):
        load_split(tmp_path, "train")


def test_rows_that_say_no_split_are_told_where_there_is_no_other(tmp_path):
    fill(tmp_path, "0.jpg 1.jpg")
    for header, word in (("split", "trian"), ("is_valid", ""), ("is_valid", "yes")):
        (tmp_path / "t.csv").write_text(f"file,label,{header}\n0.jpg,a,{word}\n1.jpg,b,{word}\n")
        with pytest.raises(
            ValueError, match=rf"t\.csv line 2: split '{word}' is unknown; allowed are t.* \(and 1 more"
        ):
            load_split(tmp_path, "train")


def test_a_photo_of_many_labels_is_one_short_line(tmp_path):
    fill(tmp_path, "0.jpg")
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f"0.jpg,c{i:05d}\n" for i in range(20_000)))
    with pytest.raises(ValueError, match=r"0\.jpg is labelled 'c00000' and 'c00001' and 'c00002' and \.\.\.") as error:
        load_split(tmp_path, "train")
    assert len(str(error.value)) < 500


def test_a_folder_whose_name_is_a_space_has_a_name(tmp_path):
    fill(tmp_path, [*numbered("train/ ", 3), *numbered("train/b", 3), *numbered("val/b", 1), *numbered("val/ ", 1)])
    assert load_split(tmp_path, "train").class_names == [" ", "b"]


def test_a_table_without_splits_is_split_by_seed(tmp_path):
    files = numbered("images/x", 10)
    fill(tmp_path, files)
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f'x/{i:02d}.jpg,"a, b"\n' for i in range(10)))
    train, val = (load_split(tmp_path / "t.csv", split) for split in ("train", "val"))
    assert train.class_names == ["a, b"]
    assert (train.counts, val.counts) == ([8], [2])


ROWS = {
    "missing file": ("gone.jpg,a,train", r"t\.csv line 4: .*gone\.jpg does not exist"),
    "unknown split": ("3.jpg,a,tset", r"line 4: split 'tset' is unknown; allowed are train, val, test"),
    "no label": ("3.jpg,,train", "line 4 has no label"),
    "no file": (",a,train", "line 4 has no file"),
    "short row": ("3.jpg,a", "line 4 has 2 columns, its header 3"),
    "no photo": ("t.csv,a,train", r"line 4: .*t\.csv is not a photo by its name"),
    "twice": ("2.jpg,b,train", r"2\.jpg is listed twice"),
    "two labels": ("1.jpg,b,train", r"1\.jpg is labelled 'a' and 'b'"),
}


@pytest.mark.parametrize("fault", ROWS)
def test_faults_of_a_table(tmp_path, fault):
    row, message = ROWS[fault]
    fill(tmp_path, "0.jpg 1.jpg 2.jpg 3.jpg")
    (tmp_path / "t.csv").write_text(f"file,label,split\n1.jpg,a,train\n2.jpg,b,train\n{row}\n0.jpg,a,train\n")
    with pytest.raises(ValueError, match=message):
        load_split(tmp_path / "t.csv", "train")
    split = load_split(tmp_path / "t.csv", "train", bad_data="skip", val_fraction=0)
    assert len(split.photos) == (2 if fault == "two labels" else 3)
    assert len(split.skipped) == (2 if fault == "two labels" else 1)


def test_one_name_in_both_forms_of_unicode_is_one_class(tmp_path):
    one, other = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    fill(tmp_path, [f"train/{one}/1.jpg", f"val/{other}/2.jpg"])
    assert load_split(tmp_path, "val").class_names == [one]


def test_wrong_places(tmp_path, folders):
    with pytest.raises(ValueError, match=r"no such folder or CSV file; did you mean flowers102\?"):
        load_split("flower102", "train")
    with pytest.raises(ValueError, match=r"did you mean .*my data\?"):
        load_split(str(tmp_path / "mydata"), "train")
    with pytest.raises(ValueError, match="data sets known by name are oxford-iiit-pet, "):
        load_split(str(tmp_path / "qqq"), "train")
    with pytest.raises(ValueError, match="has no split 'tset'; there are train, val, test"):
        load_split(folders, "tset")
    fill(folders, "val/a/7.jpg")
    with pytest.raises(ValueError, match="has both val/ and valid/"):
        load_split(folders, "train")


def test_folders_that_are_no_data_set(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no folder in it; wanted are train/CLASS/photo\.jpg"):
        load_split(tmp_path / "empty", "train")
    flat = fill(tmp_path / "flat", "train/1.jpg test/2.jpg")
    with pytest.raises(ValueError, match="only test, train without folders in it; wanted are"):
        load_split(flat, "train")
    outer = fill(tmp_path / "outer", "inner/train/a/1.jpg")
    with pytest.raises(ValueError, match=r"no photo in its 1 folders \(inner\); did you mean --data .*inner\?"):
        load_split(outer, "train")
    for content, message in (
        (b"x.jpg,cat\n", "its first line must name the columns file and label .*it is 'x.jpg,cat'"),
        (b"", "its first line must name"),
        (PICTURE, "is not a CSV file in UTF-8"),
        (b'file,label\n"x.jpg,a\n', "is not a CSV file"),
        (b"file,label\n", "has no split 'train'; there are none"),
    ):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_split(tmp_path / "t.csv", "train")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("file,label\n")
    with pytest.raises(ValueError, match=r"several CSV files of labels: one\.csv, t\.csv, two\.csv"):
        load_split(tmp_path, "train")


def test_real_photos_read_without_a_problem(shared):
    root = shared / "data/finegrained/grocery81"
    for split, photos, classes in (("train", 2640, 81), ("val", 296, 60), ("test", 700, 81)):
        data = load_split(str(root), split)
        assert len(data.photos) == photos
        assert len(data.class_names) == 81
        assert sum(count > 0 for count in data.counts) == classes
        assert data.skipped == []
    assert list_data(str(root)).layout == "split/class/image"


def test_odd_folders_are_told_in_one_right_line(tmp_path, monkeypatch):
    """One photo a class; a folder with the name of a known data set; folders in class folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("one/a/1.jpg", "one/b/1.jpg", "food101/a/1.jpg", "two/cat/tabby/1.jpg", "two/dog/husky/1.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    with pytest.raises(ValueError, match=r"no split 'val'; there are train \(no class has a second photo that val"):
        load_splits("one", ["train", "val"])
    with pytest.raises(ValueError, match=r"known by name, and a folder here: \./food101 is the folder"):
        load_splits("food101", ["train"])
    assert len(load_splits("./food101", ["train"])[0].photos) == 1
    Path("two/x.csv").mkdir()
    Path("kaggle").mkdir()
    Path("kaggle/labels.csv").write_text("id,breed\n1,pug\n")
    with pytest.raises(ValueError, match=r"the columns file and label; labels\.csv has the columns 'id, breed'"):
        load_splits("kaggle", ["train"])
    with pytest.raises(ValueError, match=r"two: the photos are in folders within the class folders, such as cat/tabby"):
        load_splits("two", ["train"])
